"""How NumPy's arrays are handed to C: looked at first, and where they are as C wants them, in place."""
import math

import numpy as np

from tinyscout.kernels.library import ffi, lib
from tinyscout.reference import Quantized, QuantizedRows

KINDS = {"float32": lib.F32, "bfloat16": lib.BF16, "float16": lib.F16, "int8": lib.INT8, "uint8": lib.INT4}
FLOATS = ("float32", "bfloat16", "float16")       # of plain numbers, where bytes would be bits of a group


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


def address(array):
    """Where an array's first number lies.  The caller keeps the array alive."""
    return ffi.cast("void *", array.__array_interface__["data"][0])


def matrix(w):
    """A C `matrix` that reads a weight (I, O) or (E, I, O) where it lies, in its own form, and what has to stay alive."""
    if isinstance(w, Quantized):
        values, scales = (np.require(a, requirements=["C", "A"]) for a in w)
        return ffi.new("matrix *", {"values": address(values), "kind": KINDS[values.dtype.name], "group": w.group,
                                    "scales": address(scales), "scale_kind": KINDS[scales.dtype.name]}), (values, scales)
    if w.dtype.name not in FLOATS or not (w.dtype.isnative and w.flags.aligned):
        [w] = f32(w)
    steps = [1 if n == 1 else step // w.itemsize for n, step in zip(w.shape, w.strides, strict=True)]  # of one: any step
    return ffi.new("matrix *", {"values": address(w), "kind": KINDS[w.dtype.name], "expert": steps[0], "in": steps[-2],
                                "out": steps[-1]}), w


def past(k):
    """A C `past` that reads keys or values (B, S, K, d) of a cache where they lie, and what has to stay alive."""
    parts = tuple(k) if isinstance(k, QuantizedRows) else (k,)
    row = [math.prod(a.shape[2:]) * a.itemsize for a in parts]
    known = KINDS if len(parts) == 2 else ("float32", "bfloat16")       # a cache never holds float16
    if parts[0].dtype.name not in known or not all(
            a.flags.aligned and a.dtype.isnative and a[:1, :1].flags.c_contiguous and a.strides[1] == r and a.strides[0] % r == 0
            for a, r in zip(parts, row, strict=True)):
        parts = tuple(np.require(a, a.dtype if a.dtype.name in known else np.float32, ["C", "A"]) for a in parts)
    made = {"values": address(parts[0]), "kind": KINDS[parts[0].dtype.name], "batch": parts[0].strides[0] // row[0]}
    if len(parts) == 2:
        made |= {"scales": address(parts[1]), "scale_kind": KINDS[parts[1].dtype.name], "group": k.group}
    return ffi.new("past *", made), parts


def readable(w, *shape):
    """Is it a weight of that shape, stored or quantized, which C can read?"""
    if isinstance(w, Quantized):
        fits = w.scales.dtype.name in ("float32", "bfloat16") and w.group in (32, 128)
        return fits and len(w.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, w.shape, strict=True))
    return shaped(w, *shape) and w.size > 0 and w.dtype.kind in "fV" and np.dtype(w.dtype) != np.float64
