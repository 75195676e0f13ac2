"""Rounding to the sixteen levels of four bits, and what a group of its own changes for small weights."""
import numpy as np

from drawings import Canvas
from tinyscout.reference.quantize import round_to_groups

WEIGHTS = np.array([0.9, -2.0, 0.31, 1.7], np.float32)          # the first group of quantization.md
SMALL = np.array([0.06, -0.11, 0.2, -0.05], np.float32)
WEIGHT, INTEGER, VALUE, POOR = 1, 2, 3, 4                       # tints
LEFT, UNIT, CELL, NAMES = 262, 114, 51, 112                     # pixels: place of 0, length of 1, a cell, row names


def round_groups(weights, group):
    """(integers, values) of weights in groups of that length, with 4 bits."""
    integers, scales = round_to_groups(weights.reshape(-1, group), 4, np.float32)
    return integers.ravel(), (integers * scales).ravel()


def plain(value):
    return f"{value:g}".replace("-", "\u2212")


def draw_line(canvas, y):
    """A number line with the sixteen levels, and an arrow from each weight to its level."""
    step = np.abs(WEIGHTS).max() / 8
    canvas.line((LEFT - 2.1 * UNIT, y), (LEFT + 2.1 * UNIT, y))
    for level in range(-8, 8):
        x = LEFT + level * step * UNIT
        canvas.line((x, y - 6), (x, y + 6), tint=INTEGER)
        canvas.text(x, y + 21, plain(level), "small", "middle")
    for tick in (-2, -1, 0, 1, 2):
        canvas.text(LEFT + tick * UNIT, y + 40, plain(tick), "note", "middle")
    for weight, value in zip(WEIGHTS, round_groups(WEIGHTS, 4)[1], strict=True):
        x = LEFT + float(weight) * UNIT
        canvas.rect(x - 24, y - 62, 48, 24, plain(round(float(weight), 3)), WEIGHT)
        canvas.arrow((x, y - 38), (LEFT + float(value) * UNIT, y - 8))
    canvas.text(LEFT + 2 * UNIT, y + 21, "no 8", "small", "middle")
    return canvas.line((LEFT + 2 * UNIT, y - 5), (LEFT + 2 * UNIT, y + 5), kind="dashed")


def draw_groups(canvas, y):
    weights = np.concatenate([WEIGHTS, SMALL])
    shared, own = round_groups(weights, 8), round_groups(weights, 4)
    rows = (("weights", [(plain(round(float(w), 3)), WEIGHT) for w in weights]),
            ("one group of 8", [(plain(q), INTEGER) for q in shared[0]]),
            ("stand for", [(plain(round(float(v), 3)), VALUE if n < 4 else POOR) for n, v in enumerate(shared[1])]),
            ("two groups of 4", [(plain(q), INTEGER) for q in own[0]]),
            ("stand for", [(plain(round(float(v), 3)), VALUE) for v in own[1]]))
    for n, (name, cells) in enumerate(rows):
        at = y + 26 * n + 10 * ((n + 1) // 2)
        canvas.text(2, at + 17, name, "note").cells(NAMES, at, [cells], CELL, 24)
    return canvas


def draw():
    canvas = Canvas(524, 356, "Above, four weights are rounded to the sixteen levels from -8 to 7 times a step. Below, "
                    "small weights that share a step with large ones become 0 or 1; in a group of their own they keep "
                    "their values")
    canvas.text(2, 16, f"one group: the largest is 2, the step {plain(2 / 8)}", "title")
    canvas.text(2, 184, "four more weights, all small", "title")
    return draw_groups(draw_line(canvas, 102), 196)
