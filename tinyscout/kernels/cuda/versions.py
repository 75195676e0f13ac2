"""The numbered CUDA kernels: the same operation from the formula to tensor cores, one idea at a time.

docs/cuda_linear.md and docs/cuda_attention.md explain them step by step.  The last of each takes and returns bfloat16,
the others float32.  Anything else falls back to the reference.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.cuda.matrix import (
    MAX_HEAD_DIM,
    TILE,
    attention_1_launch,
    attention_2_launch,
    kernel_format,
    weight_on_device,
)
from tinyscout.kernels.device import as_float32, asnumpy, empty, like_input
from tinyscout.kernels.guards import (
    are_float32,
    are_gqa_shapes_valid,
    has_shape,
    is_array,
    is_trainable_weight,
    row_sizes,
)
from tinyscout.kernels.launch import Launch, ceil_div, kernel

LARGE_TILE = 128                # rows and columns that a block of linear_3.cu owns, and rows of attention_3.cu


def are_bfloat16(*arrays):
    """True if all are bfloat16 and none is empty."""
    return all(is_array(a) and a.dtype.name == "bfloat16" and a.size > 0 for a in arrays)


def as_bfloat16(x, out):
    """View a result that a kernel wrote as uint16 as a NumPy array of x's dtype, bfloat16."""
    return asnumpy(out).view(x.dtype)


def linear_1_launch(N, O):
    """A thread for each output."""
    return Launch((N, ceil_div(O, 128)), (128,))


def linear_2_launch(N, O):
    """A block for 64 rows and 64 columns."""
    return Launch((ceil_div(O, TILE), ceil_div(N, TILE)), (256,))


def linear_3_launch(N, O):
    """A block for 128 rows and 128 columns, and shared memory for three stages of 64 inputs of both, in rows of 72."""
    return Launch((ceil_div(O, LARGE_TILE), ceil_div(N, LARGE_TILE)), (256,), 3 * 2 * LARGE_TILE * (64 + 8) * 2)


def make_linear(name, launch):
    """`linear` by one of the float32 kernels, equation (linear)."""
    def linear(x, w, bias=None):
        fits = are_float32(x) and is_trainable_weight(w, x.shape[-1], None)
        if not (fits and (bias is None or has_shape(bias, w.shape[1]))):
            return reference.linear(x, w, bias)
        (N, I), O = row_sizes(x), w.shape[1]
        _, [values], strides = kernel_format(w.astype(np.float32, order="K", copy=False))
        [x_, bias], out = as_float32(x, bias), empty(*x.shape[:-1], O)
        kernel(f"{name}.cu", name)(launch(N, O), out, x_, values, bias, N, I, O, *strides)
        return like_input(x, out)
    return linear


def linear_3(x, w, bias=None):
    """bfloat16 on tensor cores, equation (linear): I and O multiples of 8."""
    fits = are_bfloat16(x, w) and has_shape(w, x.shape[-1], None) and w.shape[0] % 8 == w.shape[1] % 8 == 0
    if not (fits and (bias is None or (are_bfloat16(bias) and has_shape(bias, w.shape[1])))):
        return reference.linear(x, w, bias)
    (N, I), O, (_, [values], strides) = row_sizes(x), w.shape[1], kernel_format(w)
    out, name = empty(*x.shape[:-1], O, dtype=np.uint16), "linear_3" if strides[1] == 1 else "linear_3_transposed"
    bias = None if bias is None else weight_on_device(bias)
    kernel("linear_3.cu", name)(linear_3_launch(N, O), out, weight_on_device(x), values, bias, N, I, O)
    return as_bfloat16(x, out)


def attention_3_launch(B, T, H, K, padded_d):
    """A block for 128 rows of each key head, and shared memory for them and two tiles each of keys and values."""
    keys = 48 if padded_d > 96 else 64
    return Launch((ceil_div(T * H // K, LARGE_TILE), K, B), (128,), (LARGE_TILE + 4 * keys) * (padded_d + 8) * 2)


def attention_arguments(q, k, causal, chunk, kv_start):
    """The kernels' arguments after out, q, k and v."""
    (B, T, H, d), (S, K) = q.shape, k.shape[1:3]
    return bool(causal), chunk or 0, kv_start, B, T, S, H, K, d


def grouped_query_attention_1(q, k, v, causal=True, chunk=None, kv_start=0):
    """One thread for one query of one head, equation (gqa)."""
    if not (are_float32(q, k, v) and are_gqa_shapes_valid(q, k, v, chunk, kv_start)):
        return reference.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    out = empty(*q.shape)
    kernel("attention_1.cu", "grouped_query_attention_1")(attention_1_launch(*q.shape[:3]), out, *as_float32(q, k, v),
                                                          *attention_arguments(q, k, causal, chunk, kv_start))
    return like_input(q, out)


def grouped_query_attention_2(q, k, v, causal=True, chunk=None, kv_start=0):
    """Tiles in shared memory, equation (online-softmax)."""
    if not (are_float32(q, k, v) and are_gqa_shapes_valid(q, k, v, chunk, kv_start) and q.shape[3] <= MAX_HEAD_DIM):
        return reference.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    (B, T, H, d), K, out = q.shape, k.shape[2], empty(*q.shape)
    kernel("attention_2.cu", "grouped_query_attention_2")(attention_2_launch(B, T, H, K, d), out, *as_float32(q, k, v),
                                                          *attention_arguments(q, k, causal, chunk, kv_start))
    return like_input(q, out)


def grouped_query_attention_3(q, k, v, causal=True, chunk=None, kv_start=0):
    """bfloat16 on tensor cores, equation (online-softmax): heads of a multiple of 8 channels, 128 at most."""
    fits = are_bfloat16(q, k, v) and are_gqa_shapes_valid(q, k, v, chunk, kv_start)
    if not (fits and q.shape[3] <= MAX_HEAD_DIM and q.shape[3] % 8 == 0):
        return reference.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    (B, T, H, d), K, out = q.shape, k.shape[2], empty(*q.shape, dtype=np.uint16)
    padded_d = next(size for size in (64, 96, 128) if d <= size)
    launch = attention_3_launch(B, T, H, K, padded_d)
    kernel("attention_3.cu", f"grouped_query_attention_3_{padded_d}")(launch, out, *map(weight_on_device, (q, k, v)),
                                                                      *attention_arguments(q, k, causal, chunk,
                                                                                           kv_start))
    return as_bfloat16(q, out)


def versions():
    """Every numbered kernel  ->  {operation: {name: a function with the operation's signature}}"""
    return {"linear": {"linear_1": make_linear("linear_1", linear_1_launch),
                       "linear_2": make_linear("linear_2", linear_2_launch), "linear_3": linear_3},
            "grouped_query_attention": {f.__name__: f for f in (grouped_query_attention_1, grouped_query_attention_2,
                                                                grouped_query_attention_3)}}
