"""Sixteen patches on a grid, and the four tokens that pixel_shuffle makes of them."""
import numpy as np

from drawings import Canvas
from tinyscout import reference
from tinyscout.config import SCOUT

GRID, CELL = 4, 44      # patches on a side; pixels
TINTS = (1, 2, 3, 4)


def draw():
    v = SCOUT.vision
    s, D = v.pixel_shuffle_factor, v.dim
    tokens = reference.pixel_shuffle(np.arange(GRID * GRID).reshape(1, -1, 1), s)[0]
    owner = {number: n for n, row in enumerate(tokens) for number in row}
    width, side = 430, GRID * CELL
    canvas = Canvas(width, 446, f"A grid of {GRID} by {GRID} patches; each square of {s} by {s} becomes one token "
                    f"whose channels are those of its {s * s} patches, one after the other")
    canvas.text(2, 16, f"one vector for each patch: {GRID * GRID} of {D:,} channels")
    grid = np.arange(GRID * GRID).reshape(GRID, GRID)
    canvas.cells(2, 28, [[(f"patch {number}", TINTS[owner[number]]) for number in line] for line in grid],
                 CELL + 12, CELL)
    for i, j in np.ndindex(GRID // s, GRID // s):
        canvas.rect(2 + j * s * (CELL + 12), 28 + i * s * CELL, s * (CELL + 12), s * CELL, kind="frame", radius=0)
    for n, line in enumerate(("the square", f"of {s} \u00d7 {s}", "of one token", "has one colour")):
        canvas.text(2 + GRID * (CELL + 12) + 16, 60 + 18 * n, line, "note")
    y = 28 + side
    canvas.arrow((114, y + 6), (114, y + 32)).text(124, y + 24, "pixel_shuffle")
    canvas.text(2, y + 54, f"{len(tokens)} tokens of {s * s} · {D:,} = {s * s * D:,} channels")
    step = (width - 74) / s ** 2
    for n, row in enumerate(tokens):
        top = y + 66 + 36 * n
        canvas.text(2, top + 18, f"token {n}", "note")
        canvas.cells(70, top, [[(f"patch {number}", TINTS[n]) for number in row]], step, 28)
    canvas.line((72, y + 216), (72, y + 222), (68 + step, y + 222), (68 + step, y + 216))
    return canvas.text(70, y + 240, f"channels 0 to {D - 1:,}", "note")
