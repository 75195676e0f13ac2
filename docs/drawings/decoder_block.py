"""One decoder layer with the shape at every arrow: attention of the two kinds, then router and experts."""
from drawings import Canvas
from tinyscout.config import SCOUT

LOCAL, GLOBAL, EXPERTS, STREAM = 3, 2, 5, 1     # tints
TIMES = " \u00d7 "
LEFT, RIGHT, LINE = 100, 580, 40                # pixels: edges of the boxes, the residual stream
WIDTH = RIGHT - LEFT


def draw_half(canvas, top, bottom):
    """The norm that reads the stream at `top`, and the sum at `bottom`."""
    D = SCOUT.text.dim
    canvas.arrow((LINE, top + 14), (LEFT - 2, top + 14)).rect(LEFT, top, WIDTH, 28, "RMS norm")
    canvas.arrow((LEFT, bottom), (LINE + 14, bottom)).rect(LINE - 12, bottom - 12, 24, 24, "+", radius=12)
    return canvas.text(LINE + 8, bottom - 18, f"(T, {D:,})", "small")


def draw_projections(canvas, y):
    t = SCOUT.text
    for n, (name, heads) in enumerate((("q", t.n_heads), ("k", t.n_kv_heads), ("v", t.n_kv_heads))):
        x = LEFT + 165 * n
        canvas.arrow((x + 75, y), (x + 75, y + 24))
        canvas.rect(x, y + 26, 150, 46, f"w_{name}\n({t.dim:,}, {heads * t.head_dim:,})")
        canvas.arrow((x + 75, y + 72), (x + 75, y + 98))
        canvas.text(x + 82, y + 88, f"{name} (T, {heads}, {t.head_dim})", "small")
    canvas.text(LEFT + 82, y + 17, f"(T, {t.dim:,})", "small")
    return canvas.rect(LEFT, y + 100, WIDTH, 26, "a layer is of one of two kinds:")


def draw_kinds(canvas, y):
    t = SCOUT.text
    n_local = sum(layer.chunked for layer in t.layers)
    assert all(layer.chunked == layer.rope for layer in t.layers)
    for x, kind, count, tint, steps in (
            (LEFT, "local", n_local, LOCAL,
             ("RoPE: q and k", "QK norm: each head", f"inside a chunk\nof {t.chunk_size:,} tokens")),
            (LEFT + 248, "global", len(t.layers) - n_local, GLOBAL,
             ("no positions", f"q{TIMES}temperature", "to all tokens\nup to this one"))):
        canvas.arrow((x + 116, y), (x + 116, y + 18)).rect(x, y + 20, 232, 186, kind="frame", tint=tint, radius=8)
        canvas.text(x + 116, y + 40, f"{kind}: {count} of {len(t.layers)} layers", "title", "middle")
        canvas.rect(x + 12, y + 52, 208, 28, steps[0], tint, "ghost" if kind == "global" else "box")
        canvas.arrow((x + 116, y + 80), (x + 116, y + 94)).rect(x + 12, y + 96, 208, 28, steps[1], tint)
        canvas.arrow((x + 116, y + 124), (x + 116, y + 142)).rect(x + 12, y + 144, 208, 50, "", tint)
        for n, line in enumerate(("attention " + steps[2]).split("\n")):
            canvas.text(x + 116, y + 165 + 18 * n, line, anchor="middle")
        canvas.arrow((x + 116, y + 206), (x + 116, y + 232))
    canvas.text((LEFT + RIGHT) / 2, y + 222, f"(T, {t.n_heads}, {t.head_dim}), as (T, {t.dim:,})", "small", "middle")
    return canvas.rect(LEFT, y + 234, WIDTH, 28, f"w_o ({t.n_heads * t.head_dim:,}, {t.dim:,})")


def draw_experts(canvas, y):
    t = SCOUT.text
    canvas.arrow((160, y), (160, y + 24)).text(167, y + 17, f"(T, {t.dim:,})", "small")
    canvas.rect(LEFT, y + 26, 120, 46, f"router\n({t.dim:,}, {t.n_experts})", EXPERTS)
    canvas.arrow((324, y), (324, y + 32)).rect(244, y + 34, 160, 30, f"{TIMES[1:]}gate", EXPERTS)
    canvas.arrow((220, y + 49), (242, y + 49), tint=EXPERTS)
    canvas.text(246, y + 27, "gate (T, 1)", "small")
    canvas.arrow((160, y + 72), (160, y + 123), (242, y + 123), tint=EXPERTS)
    canvas.text(154, y + 142, "expert (T, 1)", "small")
    canvas.arrow((324, y + 64), (324, y + 96)).text(331, y + 84, f"(T, {t.dim:,})", "small")
    canvas.arrow((500, y), (500, y + 96)).text(507, y + 17, f"(T, {t.dim:,})", "small")
    for x, name, tint in ((244, f"1 of {t.n_experts} experts", EXPERTS), (420, "shared expert", 0)):
        canvas.rect(x, y + 98, 160, 50, tint=tint).text(x + 80, y + 118, name, anchor="middle")
        canvas.text(x + 80, y + 137, f"{t.dim:,} → {t.hidden_dim:,} → {t.dim:,}", "small", "middle")
        canvas.arrow((x + 80, y + 148), (x + 80, y + 172)).text(x + 87, y + 164, f"(T, {t.dim:,})", "small")
    canvas.rect(244, y + 174, 336, 28, "sum")
    return canvas.line((244, y + 188), (LEFT, y + 188))


def draw():
    t = SCOUT.text
    canvas = Canvas(RIGHT + 22, 766, "A decoder layer: RMS norm, queries, keys and values, attention of one of two "
                    "kinds, added to the residual stream; RMS norm, router, chosen and shared expert, added to it")
    canvas.text(4, 16, f"x (T, {t.dim:,})").line((LINE, 26), (LINE, 732), tint=STREAM)
    draw_half(canvas, 36, 438)
    draw_projections(canvas, 64)
    draw_kinds(canvas, 190)
    canvas.text(LINE + 8, 474, f"h (T, {t.dim:,})")
    draw_half(canvas, 486, 702)
    draw_experts(canvas, 514)
    canvas.arrow((LINE, 714), (LINE, 740), tint=STREAM)
    return canvas.text(4, 758, f"y (T, {t.dim:,}), the x of the next layer")
