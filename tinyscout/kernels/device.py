"""Where the CUDA column keeps its arrays: on the GPU that CuPy sees, or in NumPy for the simulator."""
import os

import numpy as np


def find_cupy():
    """CuPy where it is installed and sees a GPU, else None.  TINYSCOUT_CUDA=simulator: do not look for one."""
    if os.environ.get("TINYSCOUT_CUDA") == "simulator":
        return None
    try:
        import cupy
    except ImportError:
        return None
    try:
        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except cupy.cuda.runtime.CUDARuntimeError:      # CuPy without a driver, or a driver without a GPU
        return None


cupy = find_cupy()
xp = np if cupy is None else cupy                   # what makes arrays there
device_note = "no GPU here: the simulator runs the kernels, which is for tiny models" if cupy is None else None


def asarray(a):
    """An array, moved there."""
    return xp.asarray(a)


def asnumpy(a):
    """An array, moved back."""
    return np.asarray(a) if cupy is None else cupy.asnumpy(a)


def as_typed(dtype, *arrays):
    """Each as a kernel reads it: there, row-major and of that type, copied only where it is not; None stays None."""
    return [None if a is None else xp.ascontiguousarray(a.astype(dtype, copy=False)) for a in arrays]


def as_float32(*arrays):
    return as_typed(np.float32, *arrays)


def empty(*shape, dtype=np.float32):
    """Room for a result there."""
    return xp.empty(shape, dtype)


def like_input(x, *results):
    """Results where x is: who hands over NumPy arrays gets NumPy arrays back.  One alone comes as it is."""
    here = tuple(asnumpy(a) if isinstance(x, np.ndarray) and a is not None else a for a in results)
    return here[0] if len(here) == 1 else here
