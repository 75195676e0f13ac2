"""A model larger than memory: ask for the next layer's weights while this one is being computed."""
import mmap
from time import perf_counter

import numpy as np

from tinyscout.nn.weights import named_arrays
from tinyscout.progress import Display

SLOW_BLOCK_SECONDS = 0.05       # a layer that takes longer either waits for the disk or has time to spare


def iterate_with_progress(display: Display):
    """How a forward pass goes through its layers and its images if someone waits for it.

    display Display  ->  the argument `iterate` of `text_model` and `scout.forward`: the weights of the next layer are
    read ahead from disk, and slow work shows a bar
    """
    def iterate(items, name):
        if name == "layers":
            return display.track_steps(prefetch_blocks(items), name, len(items))
        return display.track(items, f"Reading the {name}")
    return iterate


def prefetch_blocks(blocks):
    """Yield the blocks of a model.  If they are slow, the system is told early which come next."""
    is_slow = False
    for n, block in enumerate(blocks):
        if is_slow:
            prefetch(blocks[(n + 1) % len(blocks)])     # after the last the first, for the next token
        start = perf_counter()
        yield block
        is_slow = perf_counter() - start > SLOW_BLOCK_SECONDS


def prefetch(tree):
    """Ask for all weights that every token needs: not the routed experts, of which only the chosen are ever read."""
    for path, w in named_arrays(tree):
        if ".experts." not in path:
            for array in w if isinstance(w, tuple) else (w,):
                madvise_willneed(array)


def madvise_willneed(array):
    """Ask the system to read an array's part of its file soon.  Does nothing for an array of no mapped file."""
    file = array
    while isinstance(file, np.ndarray):
        file = file.base
    if array.size and isinstance(file, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        begin = array.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data
        page = begin // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_WILLNEED, page, begin - page + array.nbytes)     # all bytes, transposed or not
