"""The model of one matrix of backward.md: values forward, gradients backward, both from the reference."""
import numpy as np

from drawings import Canvas
from tinyscout import reference

X, TARGET = np.array([[1.0, 2.0]]), np.array([1])
W = np.array([[0.5, -1.0, 0.0], [1.0, 0.25, 0.0]])
NUDGED = (1, 0)                             # the weight that the page nudges
FORWARD, BACKWARD, MARKED = 2, 4, 1         # tints
COLUMNS = ((2, 96), (204, 158), (456, 66))  # left edge and width of x, z and L
CELL = 44


def number(value):
    return f"{value:.2f}".replace("-", "\u2212")


def draw_row(canvas, y, names, values, tint):
    """Boxes for x, z and L, or for their gradients."""
    for (left, width), name, row in zip(COLUMNS, names, values, strict=True):
        canvas.text(left + width / 2, y - 8, name, "note", "middle")
        canvas.rect(left, y, width, 30, "  ".join(map(number, row)), tint)
    return canvas


def draw_matrix(canvas, y, name, matrix, tint):
    left = (COLUMNS[0][0] + COLUMNS[0][1] + COLUMNS[1][0] - 3 * CELL) / 2
    canvas.text(left - 8, y + 28, name, "note", "end")
    return canvas.cells(left, y, [[(number(value), MARKED if (i, o) == NUDGED else tint) for o, value in enumerate(row)]
                                  for i, row in enumerate(matrix)], CELL, 24)


def draw():
    z = reference.linear(X, W)
    dz = reference.cross_entropy_backward(1.0, z, TARGET)
    dx, dw, _ = reference.linear_backward(dz, X, W)
    canvas = Canvas(524, 334, "Forward, x and w give z, and z gives the loss L. Backward, the gradient of L gives that "
                    "of z, and this those of w and x")
    middle = (COLUMNS[0][0] + COLUMNS[0][1] + COLUMNS[1][0]) / 2
    loss_at = (sum(COLUMNS[1]) + COLUMNS[2][0]) / 2
    draw_row(canvas, 26, ("input x (1, 2)", "logits z (1, 3)", "loss L"),
             (X[0], z[0], [reference.cross_entropy(z, TARGET)]), FORWARD)
    canvas.arrow((sum(COLUMNS[0]), 41), (COLUMNS[1][0] - 2, 41)).arrow((sum(COLUMNS[1]), 41), (COLUMNS[2][0] - 2, 41))
    canvas.text(middle, 33, "linear", "note", "middle").text(loss_at, 33, "cross_entropy", "note", "middle")
    draw_matrix(canvas, 82, "w (2, 3)", W, FORWARD).arrow((middle, 82), (middle, 43))
    canvas.text(loss_at, 60, f"target: token {TARGET[0]}", "note", "middle")
    canvas.line((2, 152), (522, 152), kind="dashed")
    draw_row(canvas, 190, ("dx", "dz", "dL"), (dx[0], dz[0], [1.0]), BACKWARD)
    canvas.arrow((COLUMNS[2][0], 205), (sum(COLUMNS[1]) + 2, 205))
    canvas.arrow((COLUMNS[1][0], 205), (sum(COLUMNS[0]) + 2, 205))
    canvas.text(middle, 197, "linear_backward", "note", "middle")
    canvas.text(loss_at, 197, "backward", "note", "middle")
    draw_matrix(canvas, 262, "dw (2, 3)", dw, BACKWARD).arrow((middle, 205), (middle, 260))
    return canvas.text(2, 328, "Forward: from left to right. Backward: from right to left.", "note")
