"""Questions about arguments: what a kernel was not made for is left to the reference."""
import numpy as np

from tinyscout.reference import Quantized

FLOAT_DTYPES = ("float32", "bfloat16", "float16")       # of plain numbers, where bytes would be bits of a group


def is_array(a):
    """Is it an array, NumPy's or CuPy's?"""
    return isinstance(a, np.ndarray) or hasattr(a, "__cuda_array_interface__")


def are_float32(*arrays):
    """Are they all float32, and none empty?"""
    return all(is_array(a) and a.dtype == np.float32 and a.size > 0 and a.ndim > 0 for a in arrays)


def has_shape(array, *shape):
    """Is it an array of that shape?  None in the shape stands for any length."""
    return (is_array(array) and array.ndim == len(shape)
            and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True)))


def is_positive_int(k):
    """Is it a whole number of one or more?"""
    return isinstance(k, int | np.integer) and k >= 1


def are_ids_below(array, limit):
    """Are they integers below the limit?"""
    return is_array(array) and array.dtype.kind in "iu" and array.size > 0 and array.max() < limit


def row_sizes(x):
    """The sizes of x seen as a stack of rows: how many, and how long."""
    return x.size // x.shape[-1], x.shape[-1]


def is_readable_weight(w, *shape):
    """Is it a weight of that shape, stored or quantized, which a kernel can read?"""
    if isinstance(w, Quantized):
        fits = w.scales.dtype.name in ("float32", "bfloat16") and w.group in (32, 128)
        return fits and len(w.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, w.shape, strict=True))
    return has_shape(w, *shape) and w.size > 0 and w.dtype.kind in "fV" and np.dtype(w.dtype) != np.float64
