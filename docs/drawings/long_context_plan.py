"""How logits_at streams a long text through the laboratory's model: what is kept, and what is dropped."""
from pathlib import Path

from drawings import Canvas
from tinyscout.inference.long_context import TOKENS_AT_ONCE
from tinyscout.train import PRESETS

DEPENDS_ON = [Path(__file__).parents[2] / "tinyscout" / "inference" / "long_context.py"]
READ, MIDDLE, LATER, LAST = (14, 104), (126, 180), (314, 68), (390, 120)     # left edge and width of the four parts
BOTTOM = 332


def draw():
    c = PRESETS["laboratory"][0]().text
    n, K, H, d = TOKENS_AT_ONCE // c.chunk_size, c.n_kv_heads, c.n_heads, c.head_dim
    canvas = Canvas(520, BOTTOM + 68,
                    "Chunks of the text pass through the local layers in groups; their keys and values update the "
                    "running softmax of the queried tokens in the global layer and are dropped")
    for (left, width), text, tint, kind in [
            (READ, "read", 0, "ghost"), (MIDDLE, f"{n} chunks of {c.chunk_size}", 2, "box"),
            (LATER, "to come", 0, "ghost"), (LAST, "questions", 1, "box")]:
        canvas.rect(left, BOTTOM, width, 32, text, tint, kind)
    canvas.text(14, BOTTOM + 54, "the text, chunk after chunk", "note")
    local = [layer for layer in c.layers if layer.chunked]
    for number in range(1, len(local) + 1):
        y = BOTTOM - 46 * number
        for left, width in (MIDDLE, LAST):
            canvas.arrow((left + width / 2, y + 46), (left + width / 2, y + 32))
            canvas.rect(left, y, width, 30, f"local layer {number}" if left == MIDDLE[0] else f"local {number}")
    top = BOTTOM - 46 * len(local)
    heads = [(MIDDLE, f"k, v ({n * c.chunk_size}, {K}, {d})", 2), (LAST, f"q (R, {H}, {d})", 1)]
    for (left, width), text, tint in heads:
        canvas.arrow((left + width / 2, top), (left + width / 2, top - 22))
        canvas.rect(left, top - 54, width, 30, text, tint)
        canvas.arrow((left + width / 2, top - 54), (left + width / 2, top - 76))
    canvas.rect(MIDDLE[0], top - 132, LAST[0] + LAST[1] - MIDDLE[0], 54,
                f"global layer: running softmax\nm, l ({K}, {H // K}, R)   O ({K}, {H // K}, R, {d})", 3)
    canvas.text(14, top - 112, "kept for the", "note").text(14, top - 95, "R queried tokens", "note")
    canvas.text(14, top - 44, "dropped after", "note").text(14, top - 27, "each group", "note")
    canvas.text(14, top + 50, "no arrow from", "note").text(14, top + 67, "chunk to chunk", "note")
    middle = (MIDDLE[0] + LAST[0] + LAST[1]) / 2
    canvas.arrow((middle, top - 132), (middle, top - 154))
    canvas.rect(MIDDLE[0], top - 186, LAST[0] + LAST[1] - MIDDLE[0], 30,
                f"feed-forward, norm, logits (R, {c.vocab_size})")
    canvas.text(14, top - 175, "once, after the", "note")
    return canvas.text(14, top - 158, "last group", "note")
