"""Pass NumPy arrays to C: in place if C can read them as they are, else as a copy."""
import math
from weakref import WeakKeyDictionary

import numpy as np

from tinyscout.kernels.c.library import ffi, lib
from tinyscout.kernels.guards import FLOAT_DTYPES
from tinyscout.reference import Quantized, QuantizedRows

KINDS = {"float32": lib.F32, "bfloat16": lib.BF16, "float16": lib.F16, "int8": lib.INT8, "uint8": lib.INT4}


def float_ptr(array):
    """A C pointer to a row-major float32 array, or NULL for None."""
    return ffi.NULL if array is None else ffi.from_buffer("float[]", array)


def int64_ptr(array):
    """A C pointer to an array as row-major 64-bit integers, which is copied only if it has another layout or dtype."""
    return ffi.from_buffer("int64_t[]", np.require(array, np.int64, ["C", "A"]))


def as_float32(*arrays):
    """Each as row-major float32, copied only if it is not; None stays None."""
    return [None if a is None else np.require(a, np.float32, ["C", "A"]) for a in arrays]


def data_ptr(array):
    """The address of an array's first element.  The caller keeps the array alive."""
    return ffi.cast("void *", array.__array_interface__["data"][0])


keep_alive: WeakKeyDictionary = WeakKeyDictionary()         # {struct: the arrays that it points into}


def matrix_view(w):
    """A C struct that reads a weight (I, O) or (E, I, O) in place, in its own format and memory order."""
    if isinstance(w, Quantized):
        values, scales = source = tuple(np.require(a, requirements=["C", "A"]) for a in w)
        struct = ffi.new("matrix *", {"values": data_ptr(values), "kind": KINDS[values.dtype.name], "group": w.group,
                                      "scales": data_ptr(scales), "scale_kind": KINDS[scales.dtype.name]})
    else:
        [source] = [w] if w.dtype.name in FLOAT_DTYPES and w.dtype.isnative and w.flags.aligned else as_float32(w)
        strides = [1 if n == 1 else step // source.itemsize        # an axis of length 1 may have any
                   for n, step in zip(source.shape, source.strides, strict=True)]
        struct = ffi.new("matrix *", {"values": data_ptr(source), "kind": KINDS[source.dtype.name],
                                      "expert_stride": strides[0], "in_stride": strides[-2], "out_stride": strides[-1]})
    keep_alive[struct] = source
    return struct


def kv_view(k):
    """A C struct that reads keys or values (B, S, K, d) of a cache in place."""
    is_quantized = isinstance(k, QuantizedRows)
    arrays = tuple(k) if is_quantized else (k,)
    if not is_quantized and k.dtype.name not in ("float32", "bfloat16"):
        arrays = tuple(as_float32(k))
    if not all(_is_row_contiguous(a) for a in arrays):
        arrays = tuple(np.require(a, a.dtype.newbyteorder("="), ["C", "A"]) for a in arrays)
    values = arrays[0]
    fields = {"values": data_ptr(values), "kind": KINDS[values.dtype.name],
              "batch_stride": values.strides[0] // (math.prod(values.shape[2:]) * values.itemsize)}
    if is_quantized:
        fields |= {"scales": data_ptr(arrays[1]), "scale_kind": KINDS[arrays[1].dtype.name], "group": k.group}
    struct = ffi.new("kv_view *", fields)
    keep_alive[struct] = arrays
    return struct


def _is_row_contiguous(a):
    """True if positions are contiguous, and sequences are a whole number of positions apart."""
    row_bytes = math.prod(a.shape[2:]) * a.itemsize
    return (a.dtype.isnative and a.flags.aligned and a[:1, :1].flags.c_contiguous
            and a.strides[1] == row_bytes and a.strides[0] % row_bytes == 0)
