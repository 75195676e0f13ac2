"""One block of the text model forward and backward, and the gradients of its weights."""
from drawings import Canvas
from tinyscout.config import SCOUT

FORWARD, BACKWARD, KEPT, WEIGHT = 2, 4, 3, 1        # tints
TOP, STEP, HALF = 36, 58, 15                        # pixels; half the height of a box
ROWS = ("x", "norm 1", "attention", "h", "norm 2", "moe", "y")
STREAM_WIDTH = 50
FORWARD_X, FORWARD_BOX = 2, (72, 96)                # left edge of the stream; left edge and width of a branch
BACKWARD_X, BACKWARD_BOX = 200, (266, 166)
WEIGHTS_X = 450


def place(row):
    """y of the middle of a row."""
    return TOP + HALF + ROWS.index(row) * STEP


def describe_weights():
    """{row: (names of its weights, their number in Scout)}"""
    t = SCOUT.text
    network = 3 * t.dim * t.hidden_dim
    return {"norm 1": ("norm", t.dim), "norm 2": ("norm", t.dim),
            "attention": ("w_q w_k w_v w_o", 2 * t.dim * t.head_dim * (t.n_heads + t.n_kv_heads)),
            "moe": ("router, experts", (1 + t.n_experts) * network + t.dim * t.n_experts)}


def draw_box(canvas, row, text, left, width, tint):
    return canvas.rect(left, place(row) - HALF, width, 2 * HALF, text, tint)


def draw_forward(canvas):
    middle, edge = FORWARD_BOX[0] + FORWARD_BOX[1] / 2, FORWARD_X + STREAM_WIDTH
    for given, norm, branch, result in (ROWS[:4], ROWS[3:]):
        canvas.arrow((FORWARD_X + 25, place(given) + HALF), (FORWARD_X + 25, place(result) - HALF - 1))
        canvas.arrow((edge, place(given) + 7), (middle, place(given) + 7), (middle, place(norm) - HALF - 1))
        canvas.arrow((middle, place(norm) + HALF), (middle, place(branch) - HALF - 1))
        canvas.arrow((middle, place(branch) + HALF), (middle, place(result) - 7), (edge + 1, place(result) - 7))
        canvas.text(FORWARD_X + 34, place(result) - HALF - 8, "+")
        draw_box(canvas, norm, "rms_norm", *FORWARD_BOX, FORWARD)
        draw_box(canvas, branch, branch, *FORWARD_BOX, FORWARD)
    for name, tint in (("x", KEPT), ("h", KEPT), ("y", 0)):
        draw_box(canvas, name, name, FORWARD_X, STREAM_WIDTH, tint)
    return canvas


def draw_backward(canvas):
    middle, edge = BACKWARD_BOX[0] + BACKWARD_BOX[1] / 2, BACKWARD_X + STREAM_WIDTH
    weights = describe_weights()
    for given, norm, branch, result in (ROWS[:4], ROWS[3:]):
        canvas.arrow((BACKWARD_X + 25, place(result) - HALF), (BACKWARD_X + 25, place(given) + HALF + 1))
        canvas.arrow((edge, place(result) - 7), (middle, place(result) - 7), (middle, place(branch) + HALF + 1))
        canvas.arrow((middle, place(branch) - HALF), (middle, place(norm) + HALF + 1))
        canvas.arrow((middle, place(norm) - HALF), (middle, place(given) + 7), (edge + 1, place(given) + 7))
        canvas.text(BACKWARD_X + 34, place(given) + HALF + 18, "+")
        for row, name in ((norm, "rms_norm"), (branch, branch)):
            draw_box(canvas, row, f"{name}_backward", *BACKWARD_BOX, BACKWARD)
            canvas.arrow((sum(BACKWARD_BOX), place(row)), (WEIGHTS_X - 4, place(row)), tint=WEIGHT)
            canvas.text(WEIGHTS_X, place(row) - 2, weights[row][0], "small")
            canvas.text(WEIGHTS_X, place(row) + 14, f"{weights[row][1]:,}", "note")
    for name in ("x", "h", "y"):
        draw_box(canvas, name, f"d{name}", BACKWARD_X, STREAM_WIDTH, BACKWARD)
    return canvas


def draw():
    canvas = Canvas(552, place("y") + HALF + 4, "A block forward, downwards on the left, and backward, upwards on the "
                    "right: each branch has its gradient, and the residual stream passes the gradient on unchanged")
    canvas.text(FORWARD_X, 16, "forward", "title").text(BACKWARD_X, 16, "backward", "title")
    canvas.text(WEIGHTS_X, 16, "gradients of", "title")
    return draw_backward(draw_forward(canvas))
