"""Models larger than memory: prefetch the next layer's weights while the current layer runs."""
import mmap
from time import perf_counter

import numpy as np

from tinyscout.nn.weights import named_arrays
from tinyscout.progress import Display

SLOW_BLOCK_SECONDS = 0.05       # a layer that takes longer either waits for the disk or is slow anyway


def iterate_with_progress(display: Display):
    """Return an `iterate` for the layers and images of a forward pass that prefetches weights and shows progress.

    display Display  ->  the argument `iterate` of `text_model` and `scout.forward`: the weights of the next layer are
    read ahead from disk, and slow work shows a progress bar
    """
    def iterate(items, name):
        if name == "layers":
            return display.track_steps(prefetch_blocks(items), name, len(items))
        return display.track(items, f"Reading the {name}")
    return iterate


def prefetch_blocks(blocks):
    """Yield the blocks of a model; if they are slow, prefetch the next one first."""
    is_slow = False
    for n, block in enumerate(blocks):
        if is_slow:
            prefetch(blocks[(n + 1) % len(blocks)])     # after the last block the first, for the next token
        start = perf_counter()
        yield block
        is_slow = perf_counter() - start > SLOW_BLOCK_SECONDS


def prefetch(tree):
    """Prefetch the weights that every token needs: all except the routed experts, which are read only if chosen."""
    for path, w in named_arrays(tree):
        if ".experts." not in path:
            for array in w if isinstance(w, tuple) else (w,):
                madvise_willneed(array)


def madvise_willneed(array):
    """Ask the operating system to read a memory-mapped array soon.  Does nothing for other arrays."""
    file = array
    while isinstance(file, np.ndarray):
        file = file.base
    if array.size and isinstance(file, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        begin = array.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data
        page = begin // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_WILLNEED, page, begin - page + array.nbytes)     # all bytes, transposed or not
