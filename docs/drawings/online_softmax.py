"""Online softmax, worked out: one query walks over tiles of two keys, with its running numbers m, l and O."""
import numpy as np

from drawings import Canvas
from tinyscout.reference import softmax

SCORES = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 0.0])       # of one query; the first four are those of roofline.md
VALUES = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
TILE, STEP, TOP = 2, 92, 46                             # keys; pixels
SCORE, VALUE, STATE = 2, 3, 1                           # tints
COLUMNS = {"m": 280, "l": 354, "O": 428}
WIDTH = 62


def walk(scores, values):
    """Yield (m, l, O, factor on the old l and O) after each tile, equation (online-softmax)."""
    m, l, O = -np.inf, 0.0, 0.0
    for s in range(0, len(scores), TILE):
        x, v = scores[s:s + TILE], values[s:s + TILE]
        new_m = max(m, x.max())
        factor, weights = np.exp(m - new_m), np.exp(x - new_m)
        m, l, O = new_m, factor * l + weights.sum(), factor * O + weights @ v
        yield m, l, O, factor


def draw_tile(canvas, y, number):
    keys = slice(number * TILE, number * TILE + TILE)
    canvas.text(2, y + 20, f"tile {number}", "title")
    canvas.text(2, y + 37, f"keys {keys.start}, {keys.stop - 1}", "note")
    canvas.cells(92, y, [[(f"{x:g}", SCORE) for x in SCORES[keys]], [(f"{v:g}", VALUE) for v in VALUES[keys]]], 34, 24)
    canvas.text(168, y + 17, "scores", "note").text(168, y + 41, "values", "note")
    return canvas.arrow((220, y + 24), (272, y + 24))


def draw():
    states = list(walk(SCORES, VALUES))
    last = TOP + len(states) * STEP
    canvas = Canvas(524, last + 28, "Three tiles of two keys; after each one the running maximum m, the running sum l "
                    "and the running output O of a query")
    for (name, x), note in zip(COLUMNS.items(), ("maximum", "sum", "output"), strict=True):
        canvas.text(x + WIDTH / 2, 18, name, anchor="middle").text(x + WIDTH / 2, 35, note, "note", "middle")
    for number, (m, l, O, factor) in enumerate(states):
        y = TOP + number * STEP
        draw_tile(canvas, y, number)
        for text, x in zip((f"{m:g}", f"{l:.3f}", f"{O:.2f}"), COLUMNS.values(), strict=True):
            canvas.rect(x, y + 8, WIDTH, 30, text, STATE)
            if number:
                canvas.arrow((x + WIDTH / 2, y - STEP + 38), (x + WIDTH / 2, y + 6))
        if number:
            was = states[number - 1][0]
            canvas.text(268, y - 18, f"exp({was:g} \u2212 {m:g}) = {factor:.3f}", "note", "end")
            for name in ("l", "O"):
                canvas.text(COLUMNS[name] + WIDTH / 2 + 6, y - 19, f"\u00d7{factor:.3f}", "small")
    assert np.isclose(O / l, softmax(SCORES) @ VALUES)
    for name in ("l", "O"):
        canvas.arrow((COLUMNS[name] + WIDTH / 2, last - STEP + 38), (COLUMNS[name] + WIDTH / 2, last - 8))
    canvas.rect(COLUMNS["l"], last - 6, COLUMNS["O"] + WIDTH - COLUMNS["l"], 30, f"O / l = {O / l:.3f}", kind="strong")
    return canvas.text(2, last + 14, f"softmax of all {len(SCORES)} scores: {softmax(SCORES) @ VALUES:.3f}", "note")
