"""The fragments of mma m16n8k16: which lane holds which elements of a, b and d."""
from drawings import Canvas

ROWS, COLUMNS, DEPTH = 16, 8, 16        # of d, and the depth of the product
LANE, TINTS = 5, (1, 2, 3, 4)           # the lane that is followed, and a colour for each of its registers
A_BOX, B_CELL, ROW, TOP, LEFT = 25, 20, 20, 40, 34     # pixels: two elements of a, one column of b, a row


def lane_of_a(row, pair):
    """The lane and the register of columns 2 pair and 2 pair + 1 of a row of a, as csrc/cuda/ptx.cuh has it."""
    return row % 8 * 4 + pair % 4, row // 8 + 2 * (pair // 4)


def lane_of_b(pair, column):
    """The lane and the register of rows 2 pair and 2 pair + 1 of a column of b."""
    return column * 4 + pair % 4, pair // 4


def lane_of_d(row, pair):
    """The lane of columns 2 pair and 2 pair + 1 of a row of d, and which half of its four registers has them."""
    return row % 8 * 4 + pair, row // 8


def cell(lane, register):
    """A box with its lane, in colour if it is the lane that is followed."""
    return str(lane), TINTS[register] if lane == LANE else 0


def draw():
    d_left, d_top = LEFT + DEPTH // 2 * A_BOX + 22, TOP + DEPTH // 2 * ROW + 54
    canvas = Canvas(d_left + COLUMNS * B_CELL + 4, d_top + ROWS * ROW + 4,
                    f"The lanes that hold the elements of a, b and d in one mma, with those of lane {LANE} in colour")
    canvas.text(d_left, TOP - 22, f"b ({DEPTH}, {COLUMNS})", "title")
    canvas.text(d_left, TOP - 6, "a box: two rows", "note")
    canvas.cells(d_left, TOP, [[cell(*lane_of_b(pair, column)) for column in range(COLUMNS)]
                               for pair in range(DEPTH // 2)], B_CELL, ROW)
    canvas.text(LEFT, d_top - 24, f"a ({ROWS}, {DEPTH})", "title").text(LEFT, d_top - 8, "a box: two columns", "note")
    canvas.cells(LEFT, d_top, [[cell(*lane_of_a(row, pair)) for pair in range(DEPTH // 2)] for row in range(ROWS)],
                 A_BOX, ROW)
    canvas.text(d_left, d_top - 24, f"d ({ROWS}, {COLUMNS}) += a b", "title")
    canvas.text(d_left, d_top - 8, "a box: two columns", "note")
    canvas.cells(d_left, d_top, [[cell(*lane_of_d(row, pair)) for pair in range(COLUMNS // 2)] for row in range(ROWS)],
                 2 * B_CELL, ROW)
    for row in (0, 8):
        canvas.text(LEFT - 6, d_top + row * ROW + 14, row, "small", "end")
    canvas.text(2, TOP - 22, f"the registers of lane {LANE}", "title")
    names = (("a[0]  b0  d[0] d[1]", 1), ("a[1]  b1  d[2] d[3]", 2), ("a[2]", 3), ("a[3]", 4))
    for n, (name, tint) in enumerate(names):
        canvas.rect(2, TOP - 6 + 26 * n, 18, 18, tint=tint, radius=2).text(28, TOP + 8 + 26 * n, name, "small")
    notes = "the number in a box is", "the lane that holds it;", "a register of a or b", "holds two bfloat16"
    for n, text in enumerate(notes):
        canvas.text(2, TOP + 112 + 17 * n, text, "note")
    return canvas
