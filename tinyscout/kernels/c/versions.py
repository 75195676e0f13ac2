"""The numbered kernels: the same operation from the loop that the formula is to the one that is used, a step in each.

docs/roofline.md walks up these stairs.  They take float32 in row-major order; what else comes goes to the reference.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.c.arrays import f32, floats
from tinyscout.kernels.c.library import lib
from tinyscout.kernels.guards import for_kernels, readable, rows, shaped, whole


def linear_by(kernel):
    """`linear` as one of the C functions linear_1, linear_2 and linear_3 computes it, equation (linear)."""
    def linear(x, w, bias=None):
        fits = for_kernels(x) and isinstance(w, np.ndarray) and readable(w, x.shape[-1], None)
        if not (fits and (bias is None or shaped(bias, w.shape[1]))):
            return reference.linear(x, w, bias)
        x, w, bias = f32(x, w, bias)
        out = np.empty((*x.shape[:-1], w.shape[1]), np.float32)
        kernel(floats(out), floats(x), floats(w), floats(bias), rows(x)[0], *w.shape)
        return out
    return linear


def grouped_query_attention_1(q, k, v, causal=True, chunk=None, first=0):
    """One query and one head at a time, equation (gqa)."""
    fits = for_kernels(q, k, v) and q.ndim == k.ndim == 4 and k.shape == v.shape and k.shape[::3] == q.shape[::3]
    fits = fits and q.shape[2] % k.shape[2] == 0 and k.shape[1] >= q.shape[1]
    if not (fits and (chunk is None or whole(chunk)) and first >= 0):
        return reference.grouped_query_attention(q, k, v, causal, chunk, first)
    q, k, v = f32(q, k, v)
    out = np.empty_like(q)
    B, T, H, d = q.shape
    lib.grouped_query_attention_1(floats(out), floats(q), floats(k), floats(v), causal, chunk or 0, first, B, T,
                                  k.shape[1], H, k.shape[2], d)
    return out


def versions():
    """Every numbered kernel  ->  {operation: {name: a function of the operation's own signature}}"""
    return {"linear": {f"linear_{n}": linear_by(getattr(lib, f"linear_{n}")) for n in (1, 2, 3)},
            "grouped_query_attention": {"grouped_query_attention_1": grouped_query_attention_1}}
