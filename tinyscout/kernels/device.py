"""Where the CUDA column keeps its arrays: on the GPU that CuPy sees, or in NumPy for the simulator."""
import os

import numpy as np


def find_gpu():
    """CuPy where it is installed and sees a GPU, else None.  TINYSCOUT_CUDA=simulator: do not look for one."""
    if os.environ.get("TINYSCOUT_CUDA") == "simulator":
        return None
    try:
        import cupy
        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except ImportError:
        return None
    except cupy.cuda.runtime.CUDARuntimeError:      # CuPy without a driver, or a driver without a GPU
        return None


cupy = find_gpu()
xp = np if cupy is None else cupy                   # what makes arrays there


def asarray(a):
    """An array, moved there."""
    return xp.asarray(a)


def asnumpy(a):
    """An array, moved back."""
    return np.asarray(a) if cupy is None else cupy.asnumpy(a)


def f32(*arrays):
    """Each as row-major float32 where kernels can read it; None stays None."""
    return [None if a is None else xp.ascontiguousarray(a.astype(np.float32, copy=False)) for a in arrays]


def empty(shape, dtype=np.float32):
    """Room for a result."""
    return xp.empty(shape, dtype)


def beside(x, *results):
    """Results where x is: who hands over NumPy arrays gets NumPy arrays back.  One alone comes as it is."""
    here = [asnumpy(a) if isinstance(x, np.ndarray) else a for a in results]
    return here[0] if len(here) == 1 else tuple(here)
