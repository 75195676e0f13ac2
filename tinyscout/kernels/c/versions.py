"""The numbered kernels: one operation, from the plain loop of the formula to the fastest, with one more idea in each.

docs/roofline.md explains them step by step.  They take float32 in row-major order; anything else falls back to the
reference.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.c.arrays import as_float32, float_ptr
from tinyscout.kernels.c.library import lib
from tinyscout.kernels.guards import are_float32, are_gqa_shapes_valid, has_shape, is_readable_weight, row_sizes


def make_linear(kernel):
    """`linear` by one of the C functions linear_1, linear_2 and linear_3, equation (linear)."""
    def linear(x, w, bias=None):
        fits = are_float32(x) and isinstance(w, np.ndarray) and is_readable_weight(w, x.shape[-1], None)
        if not (fits and (bias is None or has_shape(bias, w.shape[1]))):
            return reference.linear(x, w, bias)
        x, w, bias = as_float32(x, w, bias)
        out = np.empty((*x.shape[:-1], w.shape[1]), np.float32)
        kernel(float_ptr(out), float_ptr(x), float_ptr(w), float_ptr(bias), row_sizes(x)[0], *w.shape)
        return out
    return linear


def grouped_query_attention_1(q, k, v, causal=True, chunk=None, kv_start=0):
    """One query and one head at a time, equation (gqa)."""
    if not (are_float32(q, k, v) and are_gqa_shapes_valid(q, k, v, chunk, kv_start)):
        return reference.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    q, k, v = as_float32(q, k, v)
    out = np.empty_like(q)
    (B, T, H, d), (S, K) = q.shape, k.shape[1:3]
    lib.grouped_query_attention_1(float_ptr(out), float_ptr(q), float_ptr(k), float_ptr(v), causal, chunk or 0,
                                  kv_start, B, T, S, H, K, d)
    return out


def versions():
    """Every numbered kernel  ->  {operation: {name: a function with the operation's signature}}"""
    return {"linear": {f"linear_{n}": make_linear(getattr(lib, f"linear_{n}")) for n in (1, 2, 3)},
            "grouped_query_attention": {"grouped_query_attention_1": grouped_query_attention_1}}
