"""Top-p on the page's five tokens: each bar begins where the one before it ends, and p cuts by where a bar begins."""
import numpy as np

from drawings import Canvas
from tinyscout import reference

LOGITS, NAMES, P = np.array([2.0, 1.0, 0.5, 0.0, -1.0]), "abcde", 0.8
BAR, STEP, LEFT, TOP, SIZE = 60, 78, 60, 16, 230     # pixels
KEPT, LIMIT = 2, 1                                  # tints


def draw():
    q = reference.softmax(LOGITS)
    kept = reference.top_p(q, P)
    before = np.concatenate([[0], np.cumsum(q)])
    bottom, right = TOP + SIZE, LEFT + len(q) * STEP

    def place(level):
        return bottom - level * SIZE

    canvas = Canvas(right + 12, bottom + 76, f"The probabilities of five tokens, sorted and stacked; the three that "
                    f"begin at or below {P} are kept")
    for level in (0, 0.2, 0.4, 0.6, 0.8, 1):
        canvas.text(LEFT - 14, place(level) + 4, f"{level:g}", "small", "end")
    canvas.line((LEFT - 8, bottom), (right, bottom))
    canvas.line((LEFT - 8, place(P)), (right, place(P)), kind="dashed", tint=LIMIT)
    canvas.text(right, place(P) - 6, f"p = {P}", "note", "end")
    for n, name in enumerate(NAMES):
        x = LEFT + 8 + n * STEP
        canvas.rect(x, place(before[n + 1]), BAR, q[n] * SIZE, tint=KEPT if kept[n] else 0,
                    kind="box" if kept[n] else "ghost", radius=0)
        if n + 1 < len(q):
            canvas.line((x + BAR, place(before[n + 1])), (x + STEP, place(before[n + 1])))
        canvas.text(x + BAR / 2, bottom + 20, name, anchor="middle")
        canvas.text(x + BAR / 2, bottom + 42, f"{q[n]:.3f}", "small", "middle")
        canvas.text(x + BAR / 2, bottom + 64, f"{kept[n]:.3f}", "small", "middle")
    return canvas.text(0, bottom + 42, "before", "note").text(0, bottom + 64, "after", "note")
