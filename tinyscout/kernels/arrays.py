"""How NumPy's arrays are handed to C: looked at first, and where they are as C wants them, in place."""
import math
from weakref import WeakKeyDictionary

import numpy as np

from tinyscout.kernels.guards import FLOATS
from tinyscout.kernels.library import ffi, lib
from tinyscout.reference import Quantized, QuantizedRows

KINDS = {"float32": lib.F32, "bfloat16": lib.BF16, "float16": lib.F16, "int8": lib.INT8, "uint8": lib.INT4}


def floats(array):
    """A C pointer to a row-major float32 array, or NULL for None."""
    return ffi.NULL if array is None else ffi.from_buffer("float[]", array)


def f32(*arrays):
    """Each as row-major float32 where C may read it, copied only where it is not; None stays None."""
    return [None if a is None else np.require(a, np.float32, ["C", "A"]) for a in arrays]


def address(array):
    """Where an array's first number lies.  The caller keeps the array alive."""
    return ffi.cast("void *", array.__array_interface__["data"][0])


alive: WeakKeyDictionary = WeakKeyDictionary()      # {struct: the arrays it points into}


def matrix(w):
    """A C `matrix` that reads a weight (I, O) or (E, I, O) where it lies, in its own form."""
    if isinstance(w, Quantized):
        values, scales = kept = tuple(np.require(a, requirements=["C", "A"]) for a in w)
        made = ffi.new("matrix *", {"values": address(values), "kind": KINDS[values.dtype.name], "group": w.group,
                                    "scales": address(scales), "scale_kind": KINDS[scales.dtype.name]})
    else:
        [kept] = [w] if w.dtype.name in FLOATS and w.dtype.isnative and w.flags.aligned else f32(w)
        # a step along one number may be any
        steps = [1 if n == 1 else step // kept.itemsize for n, step in zip(kept.shape, kept.strides, strict=True)]
        made = ffi.new("matrix *", {
            "values": address(kept), "kind": KINDS[kept.dtype.name],
            "expert_stride": steps[0], "in_stride": steps[-2], "out_stride": steps[-1]})
    alive[made] = kept
    return made


def past(k):
    """A C `kv_view` that reads keys or values (B, S, K, d) of a cache where they lie."""
    plain = not isinstance(k, QuantizedRows)
    parts = (k,) if plain else tuple(k)
    if plain and k.dtype.name not in ("float32", "bfloat16"):
        parts = tuple(f32(k))
    if not all(_in_rows(a) for a in parts):
        parts = tuple(np.require(a, a.dtype.newbyteorder("="), ["C", "A"]) for a in parts)
    values = parts[0]
    made = {"values": address(values), "kind": KINDS[values.dtype.name],
            "batch_stride": values.strides[0] // (math.prod(values.shape[2:]) * values.itemsize)}
    if not plain:
        made |= {"scales": address(parts[1]), "scale_kind": KINDS[parts[1].dtype.name], "group": k.group}
    struct = ffi.new("kv_view *", made)
    alive[struct] = parts
    return struct


def _in_rows(a):
    """Does each position follow the one before, and each sequence begin a whole number of positions later?"""
    row = math.prod(a.shape[2:]) * a.itemsize
    return (a.dtype.isnative and a.flags.aligned and a[:1, :1].flags.c_contiguous
            and a.strides[1] == row and a.strides[0] % row == 0)
