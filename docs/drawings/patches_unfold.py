"""A tile of three channels, four pixels on a side, and the rows that patchify makes of it."""
import numpy as np

from drawings import Canvas
from tinyscout import reference
from tinyscout.config import SCOUT

SIDE, PATCH, CELL, GAP = 4, 2, 30, 22       # pixels of the tile, of a patch; pixels of the drawing
TINTS = (1, 2, 3, 4)
CHANNELS = ("red", "green", "blue")


def draw():
    v = SCOUT.vision
    C = v.channels
    tile = np.arange(C * SIDE * SIDE).reshape(1, C, SIDE, SIDE)
    rows = reference.patchify(tile, PATCH)[0]
    owner = {number: n for n, row in enumerate(rows) for number in row}
    plane = SIDE * CELL
    width = C * plane + (C - 1) * GAP
    canvas = Canvas(width + 4, 414, f"{C} channels of {SIDE} by {SIDE} numbers, cut into squares of {PATCH} by "
                    f"{PATCH}; each square of all channels becomes one of {len(rows)} rows of {rows.shape[1]} numbers")
    canvas.text(2, 16, f"tile (1, {C}, {SIDE}, {SIDE})").text(
        width, 16, f"Scout: (B, {C}, {v.tile_size}, {v.tile_size})", "note", "end")
    for c, name in enumerate(CHANNELS):
        left = 2 + c * (plane + GAP)
        canvas.text(left, 40, f"channel {c}, {name}", "note")
        canvas.cells(left, 48, [[(number, TINTS[owner[number]]) for number in line] for line in tile[0, c]], CELL)
        for n in range(0, SIDE, PATCH):
            for m in range(0, SIDE, PATCH):
                canvas.rect(left + m * CELL, 48 + n * CELL, PATCH * CELL, PATCH * CELL, kind="frame", radius=0)
    step = width / rows.shape[1]
    canvas.arrow((width / 2, 174), (width / 2, 200)).text(width / 2 + 10, 192, "patchify", "")
    canvas.text(2, 222, f"patches (1, {len(rows)}, {rows.shape[1]})").text(
        width, 222, f"Scout: (B, {v.grid ** 2}, {C * v.patch_size ** 2})", "note", "end")
    for n, row in enumerate(rows):
        canvas.cells(2, 236 + 34 * n, [[(number, TINTS[n]) for number in row]], step, 26)
    for c in range(C):
        left = 2 + c * width / C
        canvas.line((left + 3, 374), (left + 3, 380), (left + width / C - 3, 380), (left + width / C - 3, 374))
        canvas.text(left + width / C / 2, 396, CHANNELS[c], "note", "middle")
    return canvas
