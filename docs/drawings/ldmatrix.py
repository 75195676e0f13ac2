"""One of the four matrices of ldmatrix: the lanes that it goes to, and the banks that its eight rows are in."""
import numpy as np

from drawings import Canvas
from tinyscout.simulator.profile import BANKS, WORD, count_wavefronts

ROWS, ROW_BYTES = 8, 16                         # of a matrix
PITCHES = ((64, 4), (72, 3))                    # elements from one row of the tile to the next, and a tint
CELL, ROW, LEFT, MAP, BANK = 34, 24, 54, 254, 7     # pixels; BANK: a bank's width


def draw_matrix(canvas, top):
    """The boxes of two elements, with the lane that each goes to."""
    canvas.text(2, 18, "a matrix of 8 rows", "title").text(2, 36, "of 8 bfloat16", "note")
    canvas.cells(LEFT, top, [[(str(4 * row + pair), 1) for pair in range(4)] for row in range(ROWS)], CELL, ROW)
    for row in range(ROWS):
        canvas.text(2, top + row * ROW + 16, f"lane {row}", "small")
    for n, text in enumerate(("Lane n gives the address of row n,", "and a box goes to the lane that is",
                              "written in it. Lanes 8 to 31 give", "the rows of three more matrices.")):
        canvas.text(2, top + ROWS * ROW + 28 + 17 * n, text, "note")
    return canvas


def draw_banks(canvas, top, pitch, tint):
    """The banks of the eight rows, if rows of the tile are `pitch` elements apart."""
    words = np.arange(ROWS)[:, None] * pitch * 2 // WORD + np.arange(ROW_BYTES // WORD)
    passes, _ = count_wavefronts(np.zeros(words.size, int), words.ravel())
    height = 13
    canvas.text(MAP, top - 8, f"rows {2 * pitch} bytes apart", "title")
    canvas.rect(MAP, top, BANKS * BANK, ROWS * height, kind="frame", radius=0)
    for row in range(ROWS):
        canvas.rect(MAP + words[row, 0] % BANKS * BANK, top + row * height, BANK * len(words[row]), height, tint=tint,
                    radius=0)
    return canvas.text(MAP, top + ROWS * height + 18, f"banks 0 to 31: {passes} pass{'es' * (passes > 1)}", "note")


def draw():
    canvas = Canvas(MAP + BANKS * BANK + 2, 324, "A matrix of ldmatrix and its lanes; its rows begin in one bank if "
                    "they are 128 bytes apart, and in eight different ones if they are 144 bytes apart")
    draw_matrix(canvas, 46)
    for n, (pitch, tint) in enumerate(PITCHES):
        draw_banks(canvas, 26 + 154 * n, pitch, tint)
    return canvas
