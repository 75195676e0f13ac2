"""Grouped-query attention: which key head each query head reads, and what other groupings would keep per token."""
from drawings import Canvas
from tinyscout.config import SCOUT

HEAD, GAP, LEFT = 11, 11, 2         # pixels: a query head, the space between groups
TINTS = (1, 2, 3, 4, 5, 6, 1, 2)    # of the groups


def place_group(group):
    return LEFT + group * (SCOUT.text.n_heads // SCOUT.text.n_kv_heads * HEAD + GAP)


def draw_token(canvas, right):
    t = SCOUT.text
    canvas.rect(LEFT, 2, right - LEFT, 28, f"a token of the normalised stream: {t.dim:,} channels")
    return canvas.arrow((right / 2, 30), (right / 2, 54)).text(right / 2 + 10, 47, "three matrices", "note")


def draw_groups(canvas, right):
    """Query heads above, key and value heads below, and a line for each pair that meets."""
    t = SCOUT.text
    G = t.n_heads // t.n_kv_heads
    canvas.text(LEFT, 74, f"{t.n_heads} query heads of {t.head_dim} channels", "title")
    canvas.text(right, 74, f"q (T, {t.n_heads}, {t.head_dim})", anchor="end")
    for group, tint in zip(range(t.n_kv_heads), TINTS, strict=True):
        x, width = place_group(group), G * HEAD
        for n in range(G):
            canvas.rect(x + n * HEAD, 98, HEAD, 22, tint=tint, radius=0)
            canvas.line((x + (n + 0.5) * HEAD, 120), (x + width / 2, 154), tint=tint)
        canvas.text(x, 93, group * G, "small").text(x + width, 93, group * G + G - 1, "small", "end")
        canvas.rect(x + width / 2 - 21, 154, 20, 24, "k", tint, radius=2)
        canvas.rect(x + width / 2 + 1, 154, 20, 24, "v", tint, radius=2)
        canvas.text(x + width / 2, 193, group, "small", "middle")
    canvas.text(LEFT, 214, f"{t.n_kv_heads} key heads and {t.n_kv_heads} value heads", "title")
    return canvas.text(right, 214, f"k, v (T, {t.n_kv_heads}, {t.head_dim})", anchor="end")


def draw_choices(canvas, right):
    """A bar per grouping, as long as what it keeps."""
    t = SCOUT.text
    canvas.text(LEFT, 258, "numbers that a token leaves in the KV cache of one layer", "title")
    for n, (name, K) in enumerate((("multi-head", t.n_heads), ("grouped-query", t.n_kv_heads), ("multi-query", 1))):
        y, kept = 270 + 28 * n, 2 * K * t.head_dim
        canvas.text(LEFT, y + 15, name, "note")
        canvas.rect(110, y, 230 * K / t.n_heads, 20, tint=3 if t.n_kv_heads == K else 0, radius=0)
        canvas.text(118 + 230 * K / t.n_heads, y + 15, f"{kept:,}: {K} key {'heads' if K > 1 else 'head'}", "note")
    return canvas


def draw():
    t = SCOUT.text
    right = place_group(t.n_kv_heads) - GAP
    canvas = Canvas(right + 2, 350, f"{t.n_heads} query heads in {t.n_kv_heads} groups; the heads of a group share one "
                    "key head and one value head")
    return draw_choices(draw_groups(draw_token(canvas, right), right), right)
