"""Which keys each query sees: the masks of Scout's two kinds of layer, and a sliding window for comparison."""
import numpy as np

from drawings import Canvas
from tinyscout.reference import causal_mask, chunked_mask

TOKENS, CHUNK, CELL = 12, 4, 13     # the drawing's, not Scout's; pixels
LEFT, TOP, GAP = 26, 62, 26


def make_masks():
    """[(title, second line, mask (T, T), tint)]"""
    n = np.arange(TOKENS)
    causal = causal_mask(n, n)
    return [("global layer", "the whole past", causal, 2),
            ("local layer", f"chunks of {CHUNK}", chunked_mask(n, n, CHUNK), 3),
            ("not in Scout:", f"sliding window of {CHUNK}", causal & (n[:, None] - n < CHUNK), 0)]


def draw_mask(canvas, left, mask, tint, chunk):
    """A cell per pair, filled if the query sees the key, and a frame for each chunk."""
    size = TOKENS * CELL
    for t, s in np.ndindex(mask.shape):
        if mask[t, s]:
            canvas.rect(left + s * CELL, TOP + t * CELL, CELL, CELL, tint=tint, kind="box", radius=0)
    canvas.rect(left, TOP, size, size, kind="frame", radius=0)
    for n in range(0, TOKENS, chunk):
        canvas.text(left + (n + 0.5) * CELL, TOP - 5, n, "small", "middle")
    if tint == 3:
        for n in range(0, TOKENS, chunk):
            canvas.rect(left + n * CELL, TOP + n * CELL, chunk * CELL, chunk * CELL, kind="ghost", radius=0)
    return canvas.text(left, TOP + size + 18, f"{mask.sum()} of {mask.size} pairs", "note")


def draw():
    size = TOKENS * CELL
    canvas = Canvas(LEFT + 3 * size + 2 * GAP + 2, TOP + size + 44, f"Three masks of {TOKENS} tokens: a full lower "
                    f"triangle, {TOKENS // CHUNK} small triangles on the diagonal, and a diagonal band")
    for n, (title, second, mask, tint) in enumerate(make_masks()):
        left = LEFT + n * (size + GAP)
        canvas.text(left, 14, title, "title").text(left, 32, second, "note")
        draw_mask(canvas, left, mask, tint, CHUNK)
    for n in range(0, TOKENS, CHUNK):
        canvas.text(LEFT - 5, TOP + (n + 0.5) * CELL + 4, n, "small", "end")
    return canvas.text(LEFT, TOP + size + 38, "A row is a query and a column is a key, numbered by position.", "note")
