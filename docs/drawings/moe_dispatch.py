"""Eight tokens and four experts: the choices of the router, the order of a counting sort, and the way back."""
from itertools import pairwise

import numpy as np

from drawings import Canvas
from tinyscout import reference

TOKENS, EXPERTS, CELL, LEFT = 8, 4, 60, 70      # pixels from here on
SEED = 11               # of the scores; with it one expert gets no token
TINTS = (1, 2, 3, 5)


def route():
    """expert (N,), gate (N,), the token at each sorted position (N,), and where each expert's tokens begin (E + 1,)"""
    scores = np.random.default_rng(SEED).normal(size=(TOKENS, EXPERTS))
    expert, gate = reference.router(scores, np.eye(EXPERTS))
    expert, gate = expert[:, 0], gate[:, 0]
    order = np.argsort(expert, kind="stable")
    first = np.searchsorted(expert[order], np.arange(EXPERTS + 1))
    return expert, gate, order, first


def middle(position):
    return LEFT + (position + 0.5) * CELL


def draw_row(canvas, y, label, values, tints):
    canvas.text(LEFT - 8, y + 18, label, "note", "end")
    return canvas.cells(LEFT, y, [list(zip(values, tints, strict=True))], CELL, 28)


def draw():
    expert, gate, order, first = route()
    tints = [TINTS[e] for e in expert]
    sorted_tints = [TINTS[e] for e in expert[order]]
    canvas = Canvas(LEFT + TOKENS * CELL + 4, 476, f"{TOKENS} tokens are sorted by the expert that the router chose, "
                    "each expert multiplies its tokens together, and the results return to their tokens")
    draw_row(canvas, 2, "token", [f"x{n}" for n in range(TOKENS)], tints)
    draw_row(canvas, 30, "expert", expert, tints)
    draw_row(canvas, 58, "gate", [f"{g:.2f}" for g in gate], tints)
    for position, (token, tint) in enumerate(zip(order, sorted_tints, strict=True)):
        canvas.arrow((middle(token), 86), (middle(position), 140), tint=tint)
        canvas.arrow((middle(position), 292), (middle(token), 346), tint=tint)
    draw_row(canvas, 142, "sorted", [f"x{n}" for n in order], sorted_tints)
    canvas.text(LEFT - 8, 190, "position", "note", "end")
    for position in range(TOKENS):
        canvas.text(middle(position), 186, position, "small", "middle")
    for e, (begin, end) in enumerate(pairwise(first)):
        if end > begin:
            canvas.arrow((LEFT + (begin + end) / 2 * CELL, 192), (LEFT + (begin + end) / 2 * CELL, 210), tint=TINTS[e])
            canvas.rect(LEFT + begin * CELL + 3, 212, (end - begin) * CELL - 6, 50, tint=TINTS[e])
            x = LEFT + (begin + end) / 2 * CELL
            canvas.text(x, 233, f"expert {e}", "" if end > begin + 1 else "small", "middle")
            canvas.text(x, 252, f"{end - begin} rows" if end > begin + 1 else "1 row", "note", "middle")
    canvas.text(LEFT - 8, 240, "products", "note", "end")
    draw_row(canvas, 264, "results", [f"f(s·x{n})" for n in order], sorted_tints)
    draw_row(canvas, 348, "back", [f"f(s·x{n})" for n in range(TOKENS)], tints)
    draw_row(canvas, 392, "shared", [f"g(x{n})" for n in range(TOKENS)], [0] * TOKENS)
    canvas.text(LEFT - 8, 440, "sum", "note", "end")
    for n in range(TOKENS):
        canvas.text(middle(n), 388, "+", "small", "middle").text(middle(n), 440, f"y{n}", "", "middle")
    idle = ", ".join(str(e) for e in range(EXPERTS) if first[e] == first[e + 1])
    return canvas.text(LEFT, 466, f"first = {', '.join(map(str, first))}.  Expert {idle} has no token and is not read.",
                       "note")
