"""A panel of a small matrix in memory, before and after packing."""
from drawings import Canvas

I, O, NR, PANEL = 4, 8, 2, 1        # the drawing's: inputs, outputs, columns of a panel, and the panel that is packed
CELL, SMALL, TINT = 32, 17, 1       # pixels, and the tint of the panel


def tint(o):
    return TINT if o // NR == PANEL else 0


def draw():
    width, right = I * O * SMALL + 4, 2 + O * CELL
    canvas = Canvas(width, 360, f"A panel of {NR} columns is {I} pieces of a matrix, and one run after packing")
    canvas.text(2, 16, f"w ({I} inputs, {O} outputs)", "note")
    canvas.cells(2, 26, [[(f"{i},{o}", tint(o)) for o in range(O)] for i in range(I)], CELL)
    for n, line in enumerate(("a panel:", f"{NR} columns,", "all inputs")):
        canvas.text(right + 18, 70 + 18 * n, line, "note")
    memory, packed = 200, 310
    canvas.text(2, memory - 10, f"in memory, row by row: pieces of {NR}, {O} apart", "note")
    canvas.cells(2, memory, [[("", tint(o)) for _ in range(I) for o in range(O)]], SMALL, 26)
    left = (width - I * NR * CELL) / 2
    for i in range(I):
        x = 2 + (i * O + (PANEL + 0.5) * NR) * SMALL
        canvas.arrow((x, memory + 28), (left + (i + 0.5) * NR * CELL, packed - 4), tint=TINT)
    canvas.cells(left, packed, [[(f"{i},{o}", TINT) for i in range(I) for o in range(PANEL * NR, PANEL * NR + NR)]],
                 CELL)
    return canvas.text(left - 8, packed + 20, "packed", "note", "end")
