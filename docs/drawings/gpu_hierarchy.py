"""Threads, warps and blocks on the left of each multiprocessor's memory; below them the memory that all share."""
from drawings import Canvas

WARP, SHARED, REGISTERS = 1, 2, 3      # tints


def draw_block(canvas, x, y, name, warps=3):
    """A block: its warps as rows of lanes, and its shared memory."""
    canvas.rect(x, y, 300, 26 + 44 * warps + 38, kind="frame", radius=8).text(x + 10, y + 18, name, "title")
    for warp in range(warps):
        top = y + 28 + 44 * warp
        canvas.text(x + 10, top + 14, f"warp {warp}", "small")
        for lane in range(15):
            canvas.rect(x + 82 + 12 * lane, top, 10, 18, tint=WARP, radius=2)
        canvas.text(x + 10, top + 33, "registers", "small")
        canvas.text(x + 266, top + 14, "… 32", "small")
        canvas.rect(x + 82, top + 22, 178, 13, tint=REGISTERS, radius=2)
    canvas.rect(x + 10, y + 22 + 44 * warps + 6, 280, 26, "shared memory of the block", tint=SHARED)


def draw():
    canvas = Canvas(700, 424, "A GPU has many multiprocessors; each runs blocks of warps of 32 threads, with "
                    "registers and shared memory; all use one L2 cache and one global memory")
    for n, x in enumerate((8, 360)):
        canvas.rect(x, 8, 332, 270, kind="ghost", radius=10)
        canvas.text(x + 14, 30, f"multiprocessor {n}" + ("  … many more" if n else ""), "title")
        draw_block(canvas, x + 16, 42, f"block {n}")
        canvas.rect(x + 16, 244, 300, 24, "L1 cache")
        canvas.line((x + 166, 278), (x + 166, 298))
    canvas.rect(8, 300, 684, 30, "L2 cache, for all multiprocessors")
    canvas.line((350, 330), (350, 346))
    canvas.rect(8, 348, 684, 34, "global memory: the arrays of a kernel", kind="strong")
    canvas.text(8, 406, "A square is a thread. The nearer a memory is to it, the faster and the smaller it is.", "note")
    return canvas
