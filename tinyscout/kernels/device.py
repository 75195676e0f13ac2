"""The device of the CUDA backend's arrays: the GPU that CuPy sees, or NumPy for the simulator.

"The device" is either of the two.
"""
import os

import numpy as np


def find_cupy():
    """CuPy if it is installed and sees a GPU, else None.  TINYSCOUT_CUDA=simulator: do not look for one."""
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
xp = np if cupy is None else cupy                   # the module that makes arrays on the device
device_note = "no GPU here: the simulator runs the kernels, for tiny models only" if cupy is None else None


def asarray(a):
    """Move an array to the device."""
    return xp.asarray(a)


def asnumpy(a):
    """Move an array back from the device."""
    return np.asarray(a) if cupy is None else cupy.asnumpy(a)


def as_typed(dtype, *arrays):
    """Each array as a kernel reads it: row-major and of that dtype, copied only if it is not; None stays None."""
    return [None if a is None else xp.ascontiguousarray(a.astype(dtype, copy=False)) for a in arrays]


def as_float32(*arrays):
    return as_typed(np.float32, *arrays)


def empty(*shape, dtype=np.float32):
    """An uninitialized array on the device, for a result."""
    return xp.empty(shape, dtype)


def like_input(x, *results):
    """Convert results to x's kind: NumPy in, NumPy out.  A single result is returned bare, not as a tuple."""
    results = tuple(asnumpy(a) if isinstance(x, np.ndarray) and a is not None else a for a in results)
    return results[0] if len(results) == 1 else results
