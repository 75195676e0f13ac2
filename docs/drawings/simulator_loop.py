"""How the simulator executes a launch: from the source to steps, and the loop that runs groups of threads."""
import numpy as np

from drawings import Canvas

THREADS, HALF, CELL = 16, 8, 27                 # of the register that is shown: a small block's; pixels
SOURCE, RUNNING, FAULT, COUNTS = 5, 1, 4, 2     # tints
LEFT, WIDE, SIDE = 26, 236, 318                 # pixels: the loop, its boxes, the boxes beside it


def draw_source(canvas):
    """The compiler makes PTX, and each of its instructions becomes a function."""
    canvas.rect(2, 24, 82, 34, "sum.cu", SOURCE).arrow((84, 41), (180, 41)).text(128, 33, "NVRTC", "small", "middle")
    canvas.rect(182, 24, 60, 34, "PTX", SOURCE).arrow((242, 41), (SIDE - 2, 41))
    canvas.text(276, 33, "decode", "small", "middle").rect(SIDE, 24, 156, 34, "steps", SOURCE)
    return canvas.text(SIDE + 78, 76, "one function each", "note", "middle")


def draw_loop(canvas):
    middle = LEFT + WIDE / 2
    canvas.rect(LEFT, 100, WIDE, 48, "choose the group at\nthe lowest instruction", kind="strong")
    canvas.arrow((middle, 148), (middle, 180))
    canvas.rect(LEFT, 182, WIDE, 48, "run its next step,\nNumPy over all threads", RUNNING)
    canvas.arrow((middle, 230), (middle, 262))
    canvas.rect(LEFT, 264, WIDE, 48, "branch, barrier, end, or\nanother group is here?")
    canvas.arrow((LEFT, 288), (6, 288), (6, 124), (LEFT - 2, 124)).text(2, 304, "yes", "small")
    canvas.arrow((LEFT + WIDE, 288), (LEFT + WIDE + 18, 288), (LEFT + WIDE + 18, 214), (LEFT + WIDE + 2, 214))
    return canvas.text(LEFT + WIDE + 22, 284, "no", "small")


def draw_memory(canvas):
    """What happens at an access to memory."""
    canvas.arrow((LEFT + WIDE, 195), (SIDE - 2, 195)).text(SIDE + 78, 112, "each memory access", "note", "middle")
    canvas.rect(SIDE, 122, 156, 108, "in bounds?\nwritten before?\nordered after\nother accesses?", FAULT)
    canvas.arrow((SIDE + 78, 230), (SIDE + 78, 262))
    canvas.rect(SIDE, 264, 156, 48, "no: Fault with\nline and thread", FAULT)
    return canvas


def draw_register(canvas, y):
    """A register before and after the step tile[i] += tile[i + half], of the threads below half."""
    threads = np.arange(THREADS)
    before = threads.astype(int)
    after = np.where(threads < HALF, before + np.roll(before, -HALF), before)
    canvas.text(2, y, "a register of 16 threads, and a step of the group of threads 0 to 7", "note")
    for n, values in enumerate((before, after)):
        tints = [RUNNING * (bool(n) and thread < HALF) for thread in threads]
        canvas.cells(42, y + 12 + 40 * n, [[(str(v), tint) for v, tint in zip(values, tints, strict=True)]], CELL, 26)
        canvas.text(2, y + 30 + 40 * n, "%f1", "small")
    return canvas


def draw():
    canvas = Canvas(SIDE + 158, 430, "A source is compiled to PTX and decoded to steps; a loop chooses a group of "
                    "threads and runs its steps, and every access to memory is checked")
    draw_memory(draw_loop(draw_source(canvas)))
    return draw_register(canvas, 344)
