"""The 32 lanes of a warp, the floats that they read, and the sectors of 32 bytes that move for it."""
from drawings import Canvas

LANES, FLOAT, SECTOR = 32, 4, 32        # lanes of a warp, bytes
CELL, LEFT, ROW = 20, 20, 128           # pixels
STRIDES = ((1, "each lane reads the next float"), (2, "each lane reads every second float"),
           (8, "each lane reads the first float of a sector"))


def draw_case(canvas, y, stride, says):
    """One way to read: lanes above, memory below, with the sectors that move in colour."""
    sectors = sorted({lane * stride * FLOAT // SECTOR for lane in range(LANES)})
    canvas.text(LEFT, y + 14, says, "title")
    canvas.text(LEFT + LANES * CELL, y + 14, f"{len(sectors)} sectors", anchor="end")
    per_sector = SECTOR // FLOAT
    shown = LANES * CELL // 10                                  # floats of memory, 10 pixels each
    for lane in range(LANES):
        x, target = LEFT + lane * CELL, lane * stride
        canvas.rect(x, y + 22, CELL - 3, 16, tint=1, radius=2)
        if target < shown:
            canvas.line((x + CELL / 2 - 1, y + 38), (LEFT + target * 10 + 5, y + 78), tint=1)
    for sector in range(shown // per_sector):
        x = LEFT + sector * per_sector * 10
        canvas.rect(x, y + 78, per_sector * 10 - 3, 18, tint=2 if sector in sectors else 0, radius=2,
                    kind="box" if sector in sectors else "frame")
        for lane in range(LANES):
            if lane * stride // per_sector == sector:
                canvas.rect(LEFT + lane * stride * 10 + 1, y + 81, 7, 12, tint=1, radius=1)


def draw():
    canvas = Canvas(LEFT * 2 + LANES * CELL, ROW * len(STRIDES) + 4,
                    "A warp that reads 32 neighbouring floats moves 4 sectors; if it reads every second float, 8; if "
                    "it reads one float of each sector, 32")
    for n, (stride, says) in enumerate(STRIDES):
        draw_case(canvas, n * ROW, stride, says)
    return canvas.text(LEFT + LANES * CELL, 2 * ROW + 116, f"… and {LANES - LANES * CELL // 80} more", "note", "end")
