"""Arrays as C reads them, and whether it can: the border between Python and csrc/c."""
import numpy as np

from tinyscout.kernels.library import ffi, lib
from tinyscout.reference.quantize import Quantized, QuantizedRows

KINDS = {"float32": lib.F32, "bfloat16": lib.BF16, "float16": lib.F16, "int8": lib.INT8, "uint8": lib.INT4}


def floats(array):
    """A C pointer to a row-major float32 array, or NULL for None."""
    return ffi.NULL if array is None else ffi.from_buffer("float[]", array)


def f32(*arrays):
    """Each as row-major float32 where C may read it, copied only where it is not; None stays None."""
    return [None if a is None else np.require(a, np.float32, ["C", "A"]) for a in arrays]


def for_c(*arrays):
    """Are they all float32, and none empty?"""
    return all(isinstance(a, np.ndarray) and a.dtype == np.float32 and a.size > 0 and a.ndim > 0 for a in arrays)


def shaped(array, *shape):
    """Is it an array of that shape?  None in the shape stands for any length."""
    return (isinstance(array, np.ndarray) and array.ndim == len(shape)
            and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True)))


def whole(k):
    """Is it a whole number of one or more?"""
    return isinstance(k, int | np.integer) and k >= 1


def integers(array, limit):
    """Are they integers below the limit?"""
    return isinstance(array, np.ndarray) and array.dtype.kind in "iu" and array.size > 0 and array.max() < limit


def rows(x):
    """The sizes of x seen as a stack of rows: how many, and how long."""
    return x.size // x.shape[-1], x.shape[-1]


def halves(w):
    """Are they floats of at most four bytes, as a checkpoint has them?"""
    return isinstance(w, np.ndarray) and w.dtype.name in ("float32", "bfloat16", "float16") and w.dtype.isnative


def address(array):
    """Where an array's first number lies.  The caller keeps the array alive."""
    return ffi.cast("void *", array.__array_interface__["data"][0])


def matrix(w):
    """A weight (I, O) or (E, I, O), stored or quantized, as C reads it: in place  ->  struct, what must stay alive"""
    m = ffi.new("matrix *")
    if isinstance(w, Quantized):
        values, scales = np.ascontiguousarray(w.values), np.ascontiguousarray(w.scales)
        m.kind, m.scale_kind, m.group = KINDS[values.dtype.name], KINDS[scales.dtype.name], w.group
        m.values, m.scales = address(values), address(scales)
        return m, (m, values, scales)
    if not halves(w) or not w.flags.aligned or any(s % w.itemsize for s in w.strides):
        w = w.astype(np.float32)
    steps = [1 if n == 1 else s // w.itemsize for n, s in zip(w.shape, w.strides, strict=True)]    # of one: any step
    m.kind, m.values, m.expert, m.out, m.in_ = KINDS[w.dtype.name], address(w), steps[0], steps[-1], steps[-2]
    return m, (m, w)


def past(k):
    """Keys or values (B, S, K, d) of a cache as C reads them: in place  ->  struct, what must stay alive"""
    p = ffi.new("past *")
    parts = k if isinstance(k, QuantizedRows) else (k,)
    values = parts[0]
    row = values.shape[2] * values.shape[3] * values.itemsize
    if values.dtype.name not in KINDS or values.strides[1:] != (row, row // values.shape[2], values.itemsize) \
            or values.strides[0] % row or not values.flags.aligned:
        parts = tuple(np.require(a if a.dtype.name in KINDS else a.astype(np.float32), None, ["C", "A"]) for a in parts)
    p.kind, p.values, p.batch = KINDS[parts[0].dtype.name], address(parts[0]), parts[0].strides[0] // row
    if len(parts) == 2:
        p.scales, p.group = address(parts[1]), values.shape[-1] * (2 if p.kind == lib.INT4 else 1) // parts[1].shape[-1]
    return p, (p, parts)


def fits(w, *shape):
    """Is it a weight of that shape with something in it, stored or quantized?"""
    right = len(w.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, w.shape, strict=True))
    return right and (isinstance(w, Quantized) or (isinstance(w, np.ndarray) and w.size > 0))


def attends(q, k, v):
    """Can these queries read these keys and values?  QuantizedRows come from a cache, and are what it made them."""
    if isinstance(k, QuantizedRows):
        return True
    B, T, H, d = q.shape
    if not (shaped(k, B, None, None, d) and shaped(v, *k.shape) and k.size > 0 and H % k.shape[2] == 0):
        return False
    return all(a.dtype.name in ("float32", "bfloat16") and a.dtype.isnative for a in (k, v)) and k.shape[1] >= T
