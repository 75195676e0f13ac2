"""One step of the micro-kernel: a column of x and a row of the panel update all sums, which are registers."""
from drawings import Canvas

ROWS, VECTORS, LANES = 8, 2, 16     # MR, NR / LANES and LANES of csrc/c/gemm_tile.h with AVX-512
DEPTH, STEP = 6, 2                  # inputs that are drawn, and the one that is worked on
CELL, VECTOR = 26, 132              # pixels: an element of x, and the width of a vector register
X, WEIGHT, SUM = 2, 3, 1            # tints
LEFT, TOP = 40, 206


def draw_panel(canvas):
    left = LEFT + DEPTH * CELL + 44
    canvas.text(left, 20, f"panel: {VECTORS} vectors of {LANES} weights for each input", "note")
    for k in range(DEPTH):
        for c in range(VECTORS):
            canvas.rect(left + c * VECTOR, 30 + k * CELL, VECTOR, CELL, f"w[{k}][{c}]" if k == STEP else "",
                        WEIGHT if k == STEP else 0, radius=0)
    return left


def draw():
    width = LEFT + DEPTH * CELL + 44 + VECTORS * VECTOR + 4
    canvas = Canvas(width, TOP + ROWS * CELL + 60, f"One input of {ROWS} rows of x times {VECTORS} vectors of weights "
                    f"updates {ROWS * VECTORS} sums")
    left = draw_panel(canvas)
    canvas.text(LEFT, TOP - 10, f"x: {ROWS} rows", "note")
    column = [[("", X if k == STEP else 0) for k in range(DEPTH)] for _ in range(ROWS)]
    canvas.cells(LEFT, TOP, column, CELL)
    for r in range(ROWS):
        canvas.text(LEFT - 8, TOP + r * CELL + 18, r, "small", "end")
        for c in range(VECTORS):
            canvas.rect(left + c * VECTOR, TOP + r * CELL, VECTOR, CELL, f"sum[{r}][{c}]", SUM, radius=0)
    middle = TOP + ROWS * CELL / 2
    canvas.arrow((LEFT + DEPTH * CELL + 4, middle), (left - 4, middle))
    canvas.arrow((left + VECTOR, 30 + DEPTH * CELL + 2), (left + VECTOR, TOP - 4))
    loads = ROWS + VECTORS
    bottom = TOP + ROWS * CELL + 24
    canvas.text(LEFT, bottom, f"one step: {loads} loads, {ROWS} times {VECTORS} = {ROWS * VECTORS} "
                "multiplications of vectors", "note")
    return canvas.text(LEFT, bottom + 20, f"registers: {ROWS * VECTORS} of 32 hold sums", "note")
