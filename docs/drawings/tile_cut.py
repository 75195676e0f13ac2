"""An image on its canvas of tiles, the overview tile, and the tokens that both become, from tinyscout.inputs.image."""
from itertools import groupby

from drawings import Canvas
from tinyscout.config import SCOUT
from tinyscout.inputs.image import IMAGE as OVERVIEW
from tinyscout.inputs.image import PATCH, choose_canvas, count_tokens, resize_target, tile_layout

SIZE = (480, 640)               # the page's example: height and width
TILE, LEFT, TOP = 116, 2, 44        # pixels of a tile and of the margins
TIMES = "\u00d7"
IMAGE, GLOBAL, SEPARATOR, MARK = 6, 2, 1, 0     # tints


def draw_scene(canvas, x, y, width, height, tint):
    """A landscape: its sun is round if the image keeps its proportions."""
    canvas.rect(x, y, width, height, tint=tint, radius=0)
    canvas.rect(x + 0.62 * width, y + 0.14 * height, 0.18 * width, 0.24 * height, tint=SEPARATOR, radius=999)
    return canvas.line(*((x + u * width, y + v * height) for u, v in (
        (0, 0.64), (0.2, 0.32), (0.38, 0.62), (0.56, 0.46), (0.82, 0.8), (1, 0.62))), tint=tint)


def draw_canvas(canvas, rows, cols):
    size = SCOUT.vision.tile_size
    height, width = resize_target(*SIZE, rows, cols, size)
    scale = TILE / size
    canvas.rect(LEFT, TOP, cols * TILE, rows * TILE, kind="box", radius=0)
    draw_scene(canvas, LEFT, TOP, width * scale, height * scale, IMAGE)
    for n in range(rows * cols):
        x, y = LEFT + n % cols * TILE, TOP + n // cols * TILE
        canvas.rect(x, y, TILE, TILE, kind="ghost", radius=0).text(x + 6, y + 18, f"{n}")
    canvas.text(LEFT, 16, f"canvas: {rows} {TIMES} {cols} tiles", "title")
    canvas.text(LEFT, 36, f"{rows * size} {TIMES} {cols * size}, image {height} {TIMES} {width}", "note")
    canvas.text(LEFT + cols * TILE - 6, TOP + rows * TILE - 10, "black", "note", "end")
    return LEFT + cols * TILE


def draw_strip(canvas, y, names):
    """A box for each run of equal tokens, a line for each row of tiles."""
    x = 2
    for name, run in groupby(names):
        n = len(list(run))
        text = f"{n} {TIMES} {name}" if name == PATCH else name.replace("separator", "sep…")
        width = len(text) * 6.7 + 10
        tint = SEPARATOR if "separator" in name else MARK
        if name == PATCH:
            tint = GLOBAL if names[0] == OVERVIEW else IMAGE
        canvas.rect(x, y, width, 28, tint=tint).text(x + width / 2, y + 18, text, "small", "middle")
        x += width + 4
    return canvas


def draw():
    v = SCOUT.vision
    rows, cols = choose_canvas(*SIZE)
    names = tile_layout(rows, cols, v)
    body = (v.tokens_per_tile + 1) * cols
    lines = [names[:1], *(names[1 + n * body:1 + (n + 1) * body] for n in range(rows)), names[1 + rows * body:]]
    bottom = TOP + rows * TILE
    canvas = Canvas(528, bottom + 58 + 34 * len(lines), f"An image of {SIZE[0]} by {SIZE[1]} pixels on a canvas of "
                    f"{rows} by {cols} tiles, its overview tile, and its {len(names)} tokens row by row")
    right = draw_canvas(canvas, rows, cols) + 80
    canvas.text(right, 16, "overview tile", "title").text(
        right, 36, f"{v.tile_size} {TIMES} {v.tile_size}, the whole image", "note")
    draw_scene(canvas, right, TOP, TILE, TILE, GLOBAL)
    canvas.text(right + 6, TOP + 18, rows * cols)
    canvas.text(2, bottom + 38, f"{count_tokens(rows, cols, v)} tokens, from left to right and from top to bottom",
                "title")
    assert len(names) == count_tokens(rows, cols, v)
    for n, line in enumerate(lines):
        draw_strip(canvas, bottom + 52 + 34 * n, line)
    return canvas
