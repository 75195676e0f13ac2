"""A model larger than memory: what the next layer is sure to need is fetched while this one is being computed."""
import mmap
from time import perf_counter

import numpy as np

from tinyscout.nn.weights import named_arrays

SLOW_BLOCK_SECONDS = 0.05     # seconds: a layer that takes longer either waits for the disk or has time to spare


def prefetch_blocks(blocks):
    """Yield the blocks of a model.  Where they are slow, the system is told early of those to come."""
    slow = False
    for n, block in enumerate(blocks):
        if slow:
            prefetch(blocks[(n + 1) % len(blocks)])        # after the last the first, for the next token
        begun = perf_counter()
        yield block
        slow = perf_counter() - begun > SLOW_BLOCK_SECONDS


def prefetch(tree):
    """Ask for all weights that every token needs: not the routed experts, of which only the chosen are ever read."""
    for path, w in named_arrays(tree):
        if ".experts." not in path:
            for array in w if isinstance(w, tuple) else (w,):
                madvise_willneed(array)


def madvise_willneed(array):
    """Ask the system to read an array's part of its file soon.  Does nothing where it is not of a mapped file."""
    file = array
    while isinstance(file, np.ndarray):
        file = file.base
    if array.size and isinstance(file, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        begin = array.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data       # transposed or not, it is all there
        page = begin // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_WILLNEED, page, begin - page + array.nbytes)
