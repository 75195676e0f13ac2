"""A model larger than memory: what the next layer is sure to need is fetched while this one is being computed."""
import mmap
from time import perf_counter

import numpy as np

from tinyscout.nn.weights import named

SLOW = 0.05     # seconds: a layer that takes longer either waits for the disk or has time to spare


def reading_ahead(blocks):
    """Yield the blocks of a model.  Where they are slow, the system is told early of those to come."""
    slow = False
    for n, block in enumerate(blocks):
        if slow:
            fetch(blocks[(n + 1) % len(blocks)])        # after the last the first, for the next token
        begun = perf_counter()
        yield block
        slow = perf_counter() - begun > SLOW


def fetch(tree):
    """Ask for all weights that every token needs: not the routed experts, of which only the chosen are ever read."""
    for path, w in named(tree):
        if ".experts." not in path:
            for array in w if isinstance(w, tuple) else (w,):
                advise(array)


def advise(array):
    """Ask the system to read an array's part of its file soon.  Does nothing where it is not of a mapped file."""
    file = array
    while isinstance(file, np.ndarray):
        file = file.base
    if array.size and isinstance(file, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        begin = array.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data       # transposed or not, it is all there
        page = begin // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_WILLNEED, page, begin - page + array.nbytes)
