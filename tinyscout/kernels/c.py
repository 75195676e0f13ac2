"""The reference, with these names replaced by C (csrc/c, through cffi)."""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.library import ffi, lib
from tinyscout.reference import *  # noqa: F403  what is not below is the reference itself


def floats(array):
    """A C pointer to a row-major float32 array, or NULL for None."""
    return ffi.NULL if array is None else ffi.from_buffer("float[]", array)


def f32(*arrays):
    """Each as row-major float32, copied only where it is not; None stays None."""
    return [None if a is None else np.ascontiguousarray(a, dtype=np.float32) for a in arrays]


def for_c(x):
    """The kernels compute in float32.  float64 and arrays without elements are left to the reference."""
    return x.dtype == np.float32 and x.size > 0


def rms_norm(x, weight=None, eps=1e-5):
    if not for_c(x):
        return reference.rms_norm(x, weight, eps)
    x, weight = f32(x, weight)
    out = np.empty_like(x)
    lib.rms_norm(floats(out), floats(x), floats(weight), eps, x.size // x.shape[-1], x.shape[-1])
    return out


def apply_rope(x, cos, sin):
    if not for_c(x):
        return reference.apply_rope(x, cos, sin)
    x, cos, sin = f32(x, cos, sin)
    out = np.empty_like(x)
    lib.apply_rope(floats(out), floats(x), floats(cos), floats(sin), *x.shape)
    return out


def swiglu(gate, up):
    if not for_c(gate):
        return reference.swiglu(gate, up)
    gate, up = f32(gate, up)
    out = np.empty_like(gate)
    lib.swiglu(floats(out), floats(gate), floats(up), gate.size // gate.shape[-1], gate.shape[-1])
    return out


def linear(x, w, bias=None):
    if not for_c(x):
        return reference.linear(x, w, bias)
    x, rows, bias = f32(x, w.T, bias)               # (O, I): how a checkpoint has it, so no copy there
    out = np.empty((*x.shape[:-1], len(rows)), np.float32)
    lib.linear(floats(out), floats(x), floats(rows), floats(bias), x.size // x.shape[-1], *rows.shape[::-1])
    return out
