"""Ten tokens with two images: the vectors of the images replace the placeholders, in order."""
import numpy as np

from drawings import Canvas
from tinyscout import reference

CELL, LEFT = 50, 62         # pixels
TOKENS = ("See", "start", "patch", "patch", "end", "and", "start", "patch", "patch", "end")
PER_IMAGE = 2               # vectors; 144 for each tile of Scout
IMAGES = (6, 2)             # tints


def draw():
    T = len(TOKENS)
    mask = np.array([token == "patch" for token in TOKENS])
    number = np.cumsum(mask) - mask
    names = np.array([f"x{t}" for t in range(T)], object)
    features = np.array([f"F{n}" for n in range(mask.sum())], object)
    fused = reference.fuse(names, mask, features)
    tints = [IMAGES[number[t] // PER_IMAGE] if mask[t] else 0 for t in range(T)]
    canvas = Canvas(LEFT + T * CELL + 4, 290, f"{T} tokens, {mask.sum()} of them placeholders; placeholder n is "
                    "replaced by vector n, and the other tokens keep their embeddings")

    def middle(t):
        return LEFT + (t + 0.5) * CELL

    slots = np.flatnonzero(mask)
    for n, (feature, tint) in enumerate(zip(features, np.repeat(IMAGES, PER_IMAGE), strict=True)):
        x = LEFT + (2.5 + n + n // PER_IMAGE * 0.5) * CELL
        canvas.cells(x, 24, [[(feature, tint)]], CELL, 28)
        canvas.line((x + CELL / 2, 52), (middle(slots[n]), 96), tint=tint, kind="arrow")
    canvas.text(LEFT + 2.5 * CELL, 16, "image 1", "note").text(LEFT + 5 * CELL, 16, "image 2", "note")
    canvas.text(4, 43, "vectors of the tower", "note")
    for y, label, values in ((98, "token", TOKENS), (138, "mask", [int(m) for m in mask]),
                             (166, "n(t)", [int(n) if m else "" for n, m in zip(number, mask, strict=True)]),
                             (206, "x", names), (258, "fused", fused)):
        canvas.text(LEFT - 8, y + 18, label, "note", "end")
        canvas.cells(LEFT, y, [[*zip(values, tints if label != "x" else [0] * T, strict=True)]], CELL, 28)
    for t in range(T):
        if not mask[t]:
            canvas.arrow((middle(t), 234), (middle(t), 256))
        else:
            canvas.line((middle(t) - 8, 212), (middle(t) + 8, 228)).line((middle(t) + 8, 212), (middle(t) - 8, 228))
    return canvas
