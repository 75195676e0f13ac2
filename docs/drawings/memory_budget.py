"""The bytes of Scout on the scale of one 80 GB card: weights, and the cache of its longest context."""
from drawings import Canvas
from tinyscout.bench.budget import kv_bytes, weight_bytes
from tinyscout.config import SCOUT

LEFT, WIDTH, CARD = 2, 440, 80
EXPERTS, REST, CACHE = 5, 3, 2      # tints
BAR = 26                            # pixels


def bars():
    """[(what is stored, [(GB, tint)])]"""
    rows = []
    for dtype, name in ("bfloat16", "bfloat16"), ("int4-meta", "4 bits"):
        parts = weight_bytes(SCOUT, dtype)
        experts = sum(size for part, size in parts.items() if "experts" in part) / 1e9
        rest = sum(parts.values()) / 1e9 - experts
        rows.append((f"weights in {name}: {experts:.1f} GB experts + {rest:.1f} GB others",
                     [(experts, EXPERTS), (rest, REST)]))
    tokens = SCOUT.text.max_positions
    for dtype in "bfloat16", "int8":
        size = kv_bytes(SCOUT, tokens, dtype).total / 1e9
        rows.append((f"KV cache of {tokens:,} tokens in {dtype}: {size:.1f} GB", [(size, CACHE)]))
    return rows


def draw():
    rows = bars()
    scale = (WIDTH - 2 * LEFT) / max(sum(size for size, _ in parts) for _, parts in rows)
    canvas = Canvas(WIDTH, 64 * len(rows) + 30, f"Scout's weights in 4 bits fit a card of {CARD} GB; its weights in "
                    "bfloat16 and the cache of its longest context do not")
    for n, (name, parts) in enumerate(rows):
        y, x = 30 + 64 * n, LEFT
        canvas.text(LEFT, y + 14, name, "note")
        for size, tint in parts:
            canvas.rect(x, y + 22, size * scale, BAR, tint=tint, radius=0)
            x += size * scale
        card = LEFT + CARD * scale
        canvas.line((card, y + 19), (card, y + 25 + BAR), kind="dashed")
    return canvas.text(LEFT, 14, f"dashed lines: {CARD} GB, the memory of one H100", "note")
