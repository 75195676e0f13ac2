"""The numbered CUDA kernels: the same operation from the formula to tensor cores, one idea at a time.

docs/cuda_linear.md and docs/cuda_attention.md walk up these stairs.  The last of each takes bfloat16 and gives it back;
the others take float32.  What else comes goes to the reference.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.cuda_matrix import HEAD, TILE, attention_1_launch, attention_2_launch, form, heads_fit, stored
from tinyscout.kernels.device import asnumpy, beside, empty, f32
from tinyscout.kernels.guards import for_kernels, is_array, readable, rows, shaped
from tinyscout.kernels.launch import Launch, ceil_div, kernel

LARGE = 128                     # rows and columns that a block of linear_3.cu owns, and rows of attention_3.cu


def halves(*arrays):
    """Are they all bfloat16, and none empty?"""
    return all(is_array(a) and a.dtype.name == "bfloat16" and a.size > 0 for a in arrays)


def from_bits(x, out):
    """A result that a kernel wrote as bits, beside x and of its dtype."""
    return asnumpy(out).view(x.dtype)


def linear_1_launch(N, O):
    """A thread for each output."""
    return Launch((N, ceil_div(O, 128)), (128,))


def linear_2_launch(N, O):
    """A block for 64 rows and 64 columns."""
    return Launch((ceil_div(O, TILE), ceil_div(N, TILE)), (256,))


def linear_3_launch(N, O):
    """A block for 128 rows and 128 columns, and room for three stages of 64 inputs of both, in rows of 72."""
    return Launch((ceil_div(O, LARGE), ceil_div(N, LARGE)), (256,), 3 * 2 * LARGE * (64 + 8) * 2)


def linear_by(name, launch):
    """`linear` as one of the float32 kernels computes it, equation (linear)."""
    def linear(x, w, bias=None):
        fits = for_kernels(x) and is_array(w) and readable(w, x.shape[-1], None)
        if not (fits and (bias is None or shaped(bias, w.shape[1]))):
            return reference.linear(x, w, bias)
        (N, I), O = rows(x), w.shape[1]
        _, [values], steps = form(w.astype(np.float32, order="K", copy=False))
        [x_, bias], out = f32(x, bias), empty(*x.shape[:-1], O)
        kernel(f"{name}.cu", name)(launch(N, O), out, x_, values, bias, N, I, O, *steps)
        return beside(x, out)
    return linear


def linear_3(x, w, bias=None):
    """bfloat16 on tensor cores, equation (linear): I and O multiples of 8."""
    fits = halves(x, w) and shaped(w, x.shape[-1], None) and w.shape[0] % 8 == w.shape[1] % 8 == 0
    if not (fits and (bias is None or (halves(bias) and shaped(bias, w.shape[1])))):
        return reference.linear(x, w, bias)
    (N, I), O, (_, [values], steps) = rows(x), w.shape[1], form(w)
    out, name = empty(*x.shape[:-1], O, dtype=np.uint16), "linear_3" if steps[1] == 1 else "linear_3_transposed"
    bias = None if bias is None else stored(bias)
    kernel("linear_3.cu", name)(linear_3_launch(N, O), out, stored(x), values, bias, N, I, O)
    return from_bits(x, out)


def attention_3_launch(B, T, H, K, wide):
    """A block for 128 rows of each key head: queries, and two tiles of keys and values, each row 8 longer."""
    keys = 48 if wide > 96 else 64
    return Launch((ceil_div(T * H // K, LARGE), K, B), (128,), (LARGE + 4 * keys) * (wide + 8) * 2)


def arguments(q, k, causal, chunk, first):
    """What the kernels take after out, q, k and v."""
    (B, T, H, d), (S, K) = q.shape, k.shape[1:3]
    return bool(causal), chunk or 0, first, B, T, S, H, K, d


def grouped_query_attention_1(q, k, v, causal=True, chunk=None, first=0):
    """One thread for one query of one head, equation (gqa)."""
    if not (for_kernels(q, k, v) and heads_fit(q, k, v, chunk, first)):
        return reference.grouped_query_attention(q, k, v, causal, chunk, first)
    out = empty(*q.shape)
    kernel("attention_1.cu", "grouped_query_attention_1")(attention_1_launch(*q.shape[:3]), out, *f32(q, k, v),
                                                          *arguments(q, k, causal, chunk, first))
    return beside(q, out)


def grouped_query_attention_2(q, k, v, causal=True, chunk=None, first=0):
    """Tiles in shared memory, equation (online-softmax)."""
    if not (for_kernels(q, k, v) and heads_fit(q, k, v, chunk, first) and q.shape[3] <= HEAD):
        return reference.grouped_query_attention(q, k, v, causal, chunk, first)
    (B, T, H, d), K, out = q.shape, k.shape[2], empty(*q.shape)
    kernel("attention_2.cu", "grouped_query_attention_2")(attention_2_launch(B, T, H, K, d), out, *f32(q, k, v),
                                                          *arguments(q, k, causal, chunk, first))
    return beside(q, out)


def grouped_query_attention_3(q, k, v, causal=True, chunk=None, first=0):
    """bfloat16 on tensor cores, equation (online-softmax): heads of a multiple of 8 channels, 128 at most."""
    fits = halves(q, k, v) and heads_fit(q, k, v, chunk, first)
    if not (fits and q.shape[3] <= HEAD and q.shape[3] % 8 == 0):
        return reference.grouped_query_attention(q, k, v, causal, chunk, first)
    (B, T, H, d), K, out = q.shape, k.shape[2], empty(*q.shape, dtype=np.uint16)
    wide = next(wide for wide in (64, 96, 128) if d <= wide)
    launch = attention_3_launch(B, T, H, K, wide)
    kernel("attention_3.cu", f"grouped_query_attention_3_{wide}")(launch, out, *map(stored, (q, k, v)),
                                                                  *arguments(q, k, causal, chunk, first))
    return from_bits(q, out)


def versions():
    """Every numbered kernel  ->  {operation: {name: a function of the operation's own signature}}"""
    return {"linear": {"linear_1": linear_by("linear_1", linear_1_launch),
                       "linear_2": linear_by("linear_2", linear_2_launch), "linear_3": linear_3},
            "grouped_query_attention": {f.__name__: f for f in (grouped_query_attention_1, grouped_query_attention_2,
                                                                grouped_query_attention_3)}}
