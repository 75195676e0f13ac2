"""A small matrix in both memory orders, and which elements one output of the product reads."""
from drawings import Canvas

I, O, COLUMN = 3, 4, 1          # inputs, outputs and the output that is followed: the drawing's, not Scout's
CELL, TINT = 34, 1              # pixels; of what output COLUMN reads
LAYOUTS = (("(in, out), in order of rows", True), ("(out, in), as in a file", False))


def name(i, o):
    return f"{i},{o}"


def draw_product(canvas):
    """x w = y, with the column of w that makes one number of y."""
    canvas.cells(2, 74, [[(f"x{i}", 0) for i in range(I)]], CELL).text(2, 66, "x (I,)")
    canvas.text(118, 96, "@")
    canvas.cells(142, 40, [[(name(i, o), TINT * (o == COLUMN)) for o in range(O)] for i in range(I)], CELL)
    canvas.text(142, 32, "w (I, O)").text(292, 96, "=")
    return canvas.cells(316, 74, [[(f"y{o}", TINT * (o == COLUMN)) for o in range(O)]], CELL).text(316, 66, "y (O,)")


def draw_memory(canvas, y, title, by_rows):
    """The same numbers one after the other, and how far apart the reads of one output are."""
    order = [(i, o) for i in range(I) for o in range(O)] if by_rows else [(i, o) for o in range(O) for i in range(I)]
    to_input, to_output = (O, 1) if by_rows else (1, I)
    canvas.text(2, y, title, "title")
    canvas.text(2, y + 19, f"to the next input: {to_input}    to the next output: {to_output}", "note")
    canvas.cells(2, y + 30, [[(name(i, o), TINT * (o == COLUMN)) for i, o in order]], CELL)
    reads = [2 + (order.index((i, COLUMN)) + 0.5) * CELL for i in range(I)]
    for n, x in enumerate(reads):
        canvas.arrow((x, y + 84), (x, y + 66), tint=TINT).text(x, y + 97, f"x{n}", "small", "middle")
    return canvas


def draw():
    canvas = Canvas(316 + O * CELL + 2, 408, f"A matrix of {I} inputs and {O} outputs; stored by rows, the numbers of "
                    f"one output are {O} apart, and stored by columns they are neighbours")
    draw_product(canvas)
    for n, (title, by_rows) in enumerate(LAYOUTS):
        draw_memory(canvas, 178 + 130 * n, title, by_rows)
    return canvas
