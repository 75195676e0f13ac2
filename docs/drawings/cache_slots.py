"""Which positions a local and a global layer hold as a text grows, asked of the cache itself."""
import numpy as np

from drawings import Canvas
from tinyscout.nn.cache import LayerCache

TOKENS, CHUNK, CELL = 9, 4, 22      # the drawing's, not Scout's; pixels
LEFT, TOP, GAP = 84, 66, 34
KINDS = {"local layer": (CHUNK, f"its chunk of {CHUNK}", 3), "global layer": (None, "everything", 2)}


def grow(chunk_size):
    """Yield the positions held after each token."""
    cache = LayerCache(chunk_size)
    for n in range(TOKENS):
        cache.append(n, *np.zeros((2, 1, 1, 1, 1)))
        cache.trim(n + 1)
        yield range(cache.start, n + 1)


def draw():
    size = TOKENS * CELL
    canvas = Canvas(LEFT + 2 * size + GAP + 2, TOP + size + 32, f"Positions that a layer holds after each of {TOKENS} "
                    f"tokens: a local layer drops all at every multiple of {CHUNK}, a global layer keeps all")
    for number, (title, (chunk_size, note, tint)) in enumerate(KINDS.items()):
        left = LEFT + number * (size + GAP)
        canvas.text(left, 14, title, "title").text(left, 32, f"holds {note}", "note")
        canvas.text(left, 52, "position", "small")
        for row, held in enumerate(grow(chunk_size)):
            for position in range(row + 1):
                kind = "box" if position in held else "ghost"
                canvas.rect(left + position * CELL, TOP + row * CELL, CELL, CELL, tint=tint * (kind == "box"),
                            kind=kind, radius=0)
                canvas.text(left + (position + 0.5) * CELL, TOP + (row + 0.5) * CELL + 4,
                            position if position in held else "", "small", "middle")
    for row in range(TOKENS):
        canvas.text(LEFT - 8, TOP + (row + 0.5) * CELL + 4, f"token {row} in", "small", "end")
    return canvas.text(LEFT, TOP + size + 22, "Dashed: the token was read, and its key and value are gone.", "note")
