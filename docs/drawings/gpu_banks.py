"""A warp that reads a column of a tile in shared memory: all lanes ask one bank, or each another."""
from drawings import Canvas

BANKS, COLUMN, CELL = 32, 5, 9       # banks, the column that is read, pixels


def draw_tile(canvas, left, width, tint):
    """The words of a tile of 32 rows of `width` words, one bank in each column, and those that the warp reads."""
    top = 52
    canvas.text(left, 18, f"rows of {width} words", "title").text(left, 40, "bank 0", "small")
    canvas.text(left + BANKS * CELL, 40, "bank 31", "small", "end")
    canvas.rect(left, top, BANKS * CELL, BANKS * CELL, kind="frame", radius=0)
    for bank in range(4, BANKS, 4):
        canvas.line((left + bank * CELL, top), (left + bank * CELL, top + BANKS * CELL), kind="dashed")
    passes = {}
    for row in range(BANKS):
        word = row * width + COLUMN
        line, bank = divmod(word, BANKS)
        passes[bank] = passes.get(bank, 0) + 1
        canvas.rect(left + bank * CELL, top + min(line, BANKS - 1) * CELL, CELL, CELL, tint=tint, radius=0)
    worst = max(passes.values())
    canvas.text(left, top + BANKS * CELL + 22, f"{len(passes)} bank{'s' * (len(passes) > 1)} asked: "
                f"{worst} pass{'es' * (worst > 1)}", "note")


def draw():
    canvas = Canvas(660, 380, "Column 5 of a tile: with rows of 32 words all lanes ask one bank, so 32 passes; "
                    "with rows of 33 words each lane asks another bank, and one pass is enough")
    draw_tile(canvas, 8, 32, tint=4)
    draw_tile(canvas, 360, 33, tint=2)
    return canvas
