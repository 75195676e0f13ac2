"""Predicates on arguments: if a kernel does not support them, the call falls back to the reference."""
from typing import Any

import numpy as np

from tinyscout.reference import Quantized

Array = Any                                             # of NumPy or of CuPy
FLOAT_DTYPES = ("float32", "bfloat16", "float16")       # of weights that are not quantized


def is_array(a: Any) -> bool:
    """True for an array of NumPy or CuPy."""
    return isinstance(a, np.ndarray) or hasattr(a, "__cuda_array_interface__")


def are_float32(*arrays: Array) -> bool:
    """True if all are float32 and none is empty."""
    return all(is_array(a) and a.dtype == np.float32 and a.size > 0 and a.ndim > 0 for a in arrays)


def are_float32_of_one_shape(*arrays: Array) -> bool:
    """True if all are float32, none is empty, and all have the same shape."""
    return are_float32(*arrays) and all(a.shape == arrays[0].shape for a in arrays)


def has_shape(array: Array, *shape: int | None) -> bool:
    """True for an array of that shape; None in the shape matches any length."""
    return is_array(array) and is_shape(array.shape, shape)


def is_shape(actual: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """True if the shapes match; None in the expected shape matches any length."""
    return len(actual) == len(expected) and all(m in (None, n) for n, m in zip(actual, expected, strict=True))


def is_positive_int(k: Any) -> bool:
    """True for an integer of 1 or more."""
    return isinstance(k, int | np.integer) and bool(k >= 1)


def are_ids_below(array: Array, limit: int) -> bool:
    """True for an array of integers below the limit, which may be negative."""
    return is_array(array) and array.dtype.kind in "iu" and array.size > 0 and array.max() < limit


def row_sizes(x: Array) -> tuple[int, int]:
    """The sizes (N, D) of x as a stack of rows: number and length."""
    return x.size // x.shape[-1], x.shape[-1]


def is_readable_weight(w: Array | Quantized, *shape: int | None) -> bool:
    """True for a weight of that shape, plain or quantized, that a kernel can read."""
    if isinstance(w, Quantized):
        return w.scales.dtype.name in ("float32", "bfloat16") and w.group in (32, 128) and is_shape(w.shape, shape)
    return has_shape(w, *shape) and w.size > 0 and w.dtype.kind in "fV" and np.dtype(w.dtype) != np.float64


def is_trainable_weight(w: Array | Quantized, *shape: int | None) -> bool:
    """True for a weight of that shape that a kernel can read and that has a gradient: not quantized."""
    return not isinstance(w, Quantized) and is_readable_weight(w, *shape)


def are_gqa_shapes_valid(q: Array, k: Any, v: Any, chunk: int | None, kv_start: int) -> bool:
    """True if the shapes, the chunk and the first position are valid for `grouped_query_attention`.

    q (B, T, H, d), k and v (B, S, K, d), arrays or quantized, with H a multiple of K and S >= T
    """
    return (q.ndim == len(k.shape) == 4 and k.shape == v.shape and k.shape[::3] == q.shape[::3]
            and k.shape[2] > 0 and q.shape[2] % k.shape[2] == 0 and k.shape[1] >= q.shape[1]
            and (chunk is None or is_positive_int(chunk)) and kv_start >= 0)


def are_experts_arguments_valid(x: Array, expert: Array, gate: Array, w_gate: Any, w_up: Any, w_down: Any) -> bool:
    """True for arguments of `experts` that a kernel can read.

    x (N, D) and gate (N, C) float32, expert (N, C) ids below E, w_gate and w_up (E, D, F), w_down (E, F, D)
    """
    if not (are_float32(x, gate) and x.ndim == 2 and has_shape(gate, len(x), None) and len(w_gate.shape) == 3):
        return False
    E, D, F = w_gate.shape
    return (x.shape[1] == D and all(is_readable_weight(w, E, D, F) for w in (w_gate, w_up))
            and is_readable_weight(w_down, E, F, D) and has_shape(expert, *gate.shape)
            and are_ids_below(expert, E) and expert.min() >= 0)
