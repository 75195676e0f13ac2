"""SiLU and GELU with ReLU for comparison, and below them their slopes, from the reference and its backward pass."""
import numpy as np

from drawings import Canvas
from drawings.graph import Graph, legend
from tinyscout.reference import gelu, gelu_backward, swiglu, swiglu_backward

X = np.linspace(-5, 5, 401)
ONES = np.ones_like(X)
SILU, GELU, RELU = 2, 1, 0      # tints


def compute_curves():
    """{name: (tint, values, slopes)}"""
    return {"SiLU": (SILU, swiglu(X, ONES), swiglu_backward(ONES, X, ONES)[0]),
            "GELU": (GELU, gelu(X), gelu_backward(ONES, X)),
            "ReLU, for comparison": (RELU, np.maximum(X, 0), np.where(X < 0, 0.0, 1.0))}


def draw():
    curves = compute_curves()
    canvas = Canvas(480, 516, "SiLU and GELU dip a little below zero left of zero, and approach x on the right; "
                    "their slopes go from 0 to a little above 1 and back to 1")
    for top, height, part, name, (low, high), ticks in (
            (30, 230, 0, "value", (-0.5, 4), (0, 1, 2, 3, 4)), (320, 150, 1, "slope", (-0.2, 1.2), (0, 0.5, 1))):
        canvas.text(14, top - 12, name, "note")
        graph = Graph(canvas, 46, top, 424, height, (-4, 4), (low, high))
        graph.y_ticks({tick: f"{tick:g}" for tick in ticks})
        graph.x_ticks({x: f"{x}".replace("-", "\u2212") for x in range(-4, 5)})
        canvas.line(graph.place(-4, 0), graph.place(4, 0), kind="dashed")
        for tint, *both in reversed(curves.values()):
            inside = (np.abs(X) <= 4) & (both[part] <= high)
            graph.curve(list(zip(X[inside], both[part][inside], strict=True)), tint, "curve" if tint else "dashed")
    canvas.text(258, 509, "x", "note", "middle")
    kinds = {"ReLU, for comparison": "dashed"}
    return legend(canvas, 70, 48, {name: tint for name, (tint, *_) in curves.items()}, kinds)
