"""The gated feed-forward network of an expert, with its shapes; the sides of the matrices are drawn to scale."""
from drawings import Canvas
from tinyscout.config import SCOUT

SCALE, ROW = 60, 20             # channels in a pixel; pixels
GATE, UP, DOWN = 2, 3, 1        # tints


def draw():
    D, F = SCOUT.text.dim, SCOUT.text.hidden_dim
    d, f = D / SCALE, F / SCALE
    canvas = Canvas(480, 388 + f, f"x is multiplied by W_gate and W_up, {D} to {F} channels; silu of the first times "
                    f"the second, then W_down back to {D}")
    left, right = 120, 360
    canvas.rect(240 - d / 2, 2, d, ROW).text(240 + d / 2 + 8, 17, f"x (T, {D})")
    for x, name, tint in ((left, "W_gate", GATE), (right, "W_up", UP)):
        canvas.arrow((240, 2 + ROW), (x, 62))
        canvas.rect(x - f / 2, 64, f, d, f"{name}\n({D}, {F})", tint)
        canvas.arrow((x, 64 + d), (x, 170)).rect(x - f / 2, 172, f, ROW, tint=tint)
        canvas.text(x, 187, f"{name[2:]} (T, {F})", "small", "middle")
    canvas.arrow((left, 192), (left, 212)).rect(left - 34, 214, 68, 26, "silu", GATE)
    canvas.line((left, 240), (left, 264), (222, 264), kind="arrow")
    canvas.line((right, 192), (right, 264), (258, 264), kind="arrow")
    canvas.rect(226, 250, 28, 28, "\u00d7", radius=14)
    canvas.text(112, 283, "a gate for every channel", "note", "middle")
    canvas.arrow((240, 278), (240, 298)).rect(240 - f / 2, 300, f, ROW)
    canvas.text(240, 315, f"hidden (T, {F})", "small", "middle")
    canvas.arrow((240, 320), (240, 340)).rect(240 - d / 2, 342, d, f, tint=DOWN)
    canvas.text(240, 347 + f / 2, "W_down", anchor="middle").text(240 + d / 2 + 8, 347 + f / 2, f"({F}, {D})")
    canvas.arrow((240, 342 + f), (240, 362 + f)).rect(240 - d / 2, 364 + f, d, ROW)
    return canvas.text(240 + d / 2 + 8, 379 + f, f"(T, {D})")
