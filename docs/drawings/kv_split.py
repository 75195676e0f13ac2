"""Decoding: the keys of one key head are split over blocks, and a second kernel merges what each kept."""
import numpy as np

from drawings import Canvas
from drawings.online_softmax import SCORES, VALUES
from tinyscout.reference import softmax

SPLITS, COLUMN, LEFT, WIDTH = 3, 134, 74, 112       # pixels of a block's column, the first one, and its boxes
SCORE, VALUE, STATE = 2, 3, 1                       # tints


def partial(scores, values):
    """(m, l, O) of some keys alone, equation (online-softmax)."""
    m = scores.max()
    weights = np.exp(scores - m)
    return m, weights.sum(), weights @ values


def write_labels(canvas):
    for y, text in ((18, "block"), (58, "scores"), (84, "values"), (148, "m"), (178, "l"), (208, "O"), (256, "factor"),
                    (317, "merged")):
        canvas.text(2, y, text, "note")


def draw_block(canvas, x, number, state, m):
    """The keys of one split, its state, and the factor of its l and O in the merge."""
    keys = slice(*(np.array([number, number + 1]) * len(SCORES) // SPLITS))
    cell = WIDTH / (keys.stop - keys.start)
    canvas.text(x + WIDTH / 2, 18, f"{number}: keys {keys.start}, {keys.stop - 1}", "note", "middle")
    canvas.cells(x, 40, [[(f"{a:g}", tint) for a in row[keys]] for row, tint in ((SCORES, SCORE), (VALUES, VALUE))],
                 cell, 26)
    canvas.arrow((x + WIDTH / 2, 92), (x + WIDTH / 2, 128))
    for n, text in enumerate((f"{state[0]:g}", f"{state[1]:.3f}", f"{state[2]:.2f}")):
        canvas.rect(x, 130 + 30 * n, WIDTH, 28, text, STATE)
    canvas.text(x + WIDTH / 2, 256, f"exp({state[0]:g} \u2212 {m:g}) = {np.exp(state[0] - m):.3f}", "small", "middle")
    return canvas.line((x + WIDTH / 2, 220), (x + WIDTH / 2, 240)).line((x + WIDTH / 2, 264), (x + WIDTH / 2, 276))


def draw():
    states = np.array([partial(*part) for part in zip(np.split(SCORES, SPLITS), np.split(VALUES, SPLITS), strict=True)])
    m = states[:, 0].max()
    l, O = np.exp(states[:, 0] - m) @ states[:, 1:]
    assert np.isclose(O / l, softmax(SCORES) @ VALUES)
    canvas = Canvas(LEFT + SPLITS * COLUMN - 12, 374, "Six keys in three splits; each block has its maximum, sum and "
                    "weighted sum, and the merge scales them to the largest maximum and adds them up")
    write_labels(canvas)
    for number, state in enumerate(states):
        draw_block(canvas, LEFT + number * COLUMN, number, state, m)
    first, last = LEFT + WIDTH / 2, LEFT + (SPLITS - 1) * COLUMN + WIDTH / 2
    canvas.line((first, 276), (last, 276)).arrow(((first + last) / 2, 276), ((first + last) / 2, 294))
    for n, text in enumerate((f"m = {m:g}", f"l = {l:.3f}", f"O = {O:.2f}")):
        canvas.rect(LEFT + n * COLUMN, 296, WIDTH, 30, text, STATE)
    return canvas.rect(LEFT, 336, SPLITS * COLUMN - 22, 32, f"O / l = {O / l:.3f}", kind="strong")
