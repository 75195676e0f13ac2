"""The plan of all layers of Scout and Maverick: a cell for each layer, coloured by its attention and its network."""
from drawings import Canvas
from tinyscout.config import MAVERICK, SCOUT

CELL, LEFT = 11, 2          # pixels
LOCAL, GLOBAL, EXPERTS, DENSE = 3, 2, 5, 0      # tints


def draw_strip(canvas, y, title, tints):
    canvas.text(LEFT, y + 14, title, "note")
    for n, tint in enumerate(tints):
        canvas.rect(LEFT + n * CELL, y + 22, CELL, 24, tint=tint, radius=0)
    return canvas


def draw():
    scout, maverick = SCOUT.text, MAVERICK.text
    n = len(scout.layers)
    assert [layer.chunked for layer in scout.layers] == [layer.chunked for layer in maverick.layers]
    local = sum(layer.chunked for layer in scout.layers)
    dense = sum(not layer.moe for layer in maverick.layers)
    assert all(layer.moe for layer in scout.layers)
    canvas = Canvas(2 * LEFT + n * CELL, 184, f"Of {n} layers every fourth is global; all layers of Scout have "
                    "experts, and every second one of Maverick")
    draw_strip(canvas, 0, f"attention of both: {local} local layers (green), {n - local} global (blue)",
               [LOCAL if layer.chunked else GLOBAL for layer in scout.layers])
    draw_strip(canvas, 50, f"Scout: {n} layers with {scout.n_experts} experts (purple)",
               [EXPERTS for _ in scout.layers])
    draw_strip(canvas, 100, f"Maverick: {n - dense} layers with {maverick.n_experts} experts (purple), {dense} dense",
               [EXPERTS if layer.moe else DENSE for layer in maverick.layers])
    for number in range(4, n + 1, 4):
        canvas.text(LEFT + (number - 0.5) * CELL, 160, number, "small", "middle")
    return canvas.text(LEFT, 178, "layer, counted from 1; the first layers are on the left", "note")
