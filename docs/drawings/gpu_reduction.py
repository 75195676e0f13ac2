"""The sum of a row by a block: threads, then warps, then the block.  Drawn with 4 warps of 4 lanes."""
import numpy as np

from drawings import Canvas

LANES, WARPS, CELL, LEFT = 4, 4, 17, 150        # the drawing's, not a GPU's; pixels
THREAD, WARP, BLOCK, BARRIER = 1, 2, 3, 4       # tints
ROW = np.random.default_rng(5).integers(0, 10, 2 * LANES * WARPS)


def place_thread(thread):
    return LEFT + (2 * thread + 1) * CELL


def place_warp(warp):
    return LEFT + (2 * warp + 1) * LANES * CELL


def write_notes(canvas):
    for y, lines in ((32, ("a row in", "global memory")), (108, ("1. each thread adds", "its own, in registers")),
                     (184, ("2. each warp adds,", "by shuffles")), (246, ("shared memory",)),
                     (330, ("3. one thread adds", "the sums of the warps"))):
        for n, line in enumerate(lines):
            canvas.text(4, y + 16 * n, line, "note")


def draw():
    n = LANES * WARPS
    threads = ROW.reshape(-1, n).sum(0)
    warps = threads.reshape(WARPS, LANES).sum(1)
    right, middle = LEFT + len(ROW) * CELL, LEFT + n * CELL
    canvas = Canvas(right + 4, 358, f"A row of {len(ROW)} numbers becomes {n} sums of threads, {WARPS} sums of warps, "
                    "and one sum of the block")
    write_notes(canvas)
    canvas.cells(LEFT, 22, [[(str(value), 0) for value in ROW]], CELL, 26)
    for thread, value in enumerate(threads):
        x = place_thread(thread)
        for part in range(len(ROW) // n):
            canvas.line((LEFT + (part * n + thread + 0.5) * CELL, 48), (x, 98), tint=THREAD if thread == 0 else 0)
        canvas.rect(x - 14, 98, 28, 26, str(value), tint=THREAD, radius=3)
        canvas.line((x, 124), (place_warp(thread // LANES), 172))
    for warp, value in enumerate(warps):
        x = place_warp(warp)
        canvas.rect(x - 24, 172, 48, 28, str(value), tint=WARP, radius=3).arrow((x, 200), (x, 226))
        canvas.rect(x - 24, 228, 48, 26, str(value), radius=0).line((x, 254), (middle, 320))
    canvas.line((LEFT, 286), (right, 286), kind="dashed", tint=BARRIER)
    canvas.text(right, 302, "barrier: __syncthreads()", "small", "end")
    return canvas.rect(middle - 30, 320, 60, 30, str(int(warps.sum())), tint=BLOCK)
