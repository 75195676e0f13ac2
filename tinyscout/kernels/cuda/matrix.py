"""The products of the CUDA backend: matrices, attention and experts, with the functions that make their launches.

kernels/cuda/__init__.py re-exports the operations.  If a kernel does not support its arguments, the call falls back to
the reference.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.device import as_float32, as_typed, empty, like_input, xp
from tinyscout.kernels.guards import (
    FLOAT_DTYPES,
    are_experts_arguments_valid,
    are_float32,
    are_float32_of_one_shape,
    are_gqa_shapes_valid,
    has_shape,
    is_array,
    is_readable_weight,
    row_sizes,
)
from tinyscout.kernels.launch import Launch, ceil_div, element_launch, kernel
from tinyscout.reference import Quantized, QuantizedRows, dequantize
from tinyscout.reference.muon import NEWTON_SCHULZ_COEFFS

MATVEC_MAX_ROWS = 16            # up to this many rows, a matrix is streamed once for every four, without tiles
TILE = 64                       # rows and columns of an output that a block of tile.cuh owns
MAX_HEAD_DIM = 128              # channels of a head that fit in the tiles of attention
TARGET_BLOCKS = 256             # enough blocks to keep a large GPU busy


def weight_on_device(a):
    """A weight on the device, row-major: bfloat16 as its bits in uint16, float16 as float32, others unchanged."""
    a = xp.ascontiguousarray(xp.asarray(a))
    if a.dtype.name == "bfloat16":
        return a.view(np.uint16)
    return a.astype(np.float32) if a.dtype == np.float16 else a


def kernel_format(w):
    """How kernels read a matrix (I, O), or E of them, in its stored format.

    ->  suffix of the kernels' names, its arrays, and the last arguments: strides of inputs and outputs, or the group
    """
    if isinstance(w, Quantized):
        kind = f"_int{w.bits}{'' if w.scales.dtype == np.float32 else '_bf16'}"
        return kind, [weight_on_device(w.values), weight_on_device(w.scales)], [w.group]
    is_transposed = not w.flags.c_contiguous and w.swapaxes(-1, -2).flags.c_contiguous      # (O, I) in memory
    values = weight_on_device(w.swapaxes(-1, -2) if is_transposed else w)
    kind = "_bf16" if w.dtype.name == "bfloat16" else ""
    return kind, [values], [1, w.shape[-2]] if is_transposed else [w.shape[-1], 1]


def linear_launch(N, O, kind, inputs_contiguous):
    """The file, the kernel's name without suffix, and the launch for N rows and O columns.

    kind: that suffix.  inputs_contiguous: the weights of neighbouring inputs are adjacent in memory.
    """
    if N > MATVEC_MAX_ROWS:
        return "linear_2.cu", "linear_2", Launch((ceil_div(O, TILE), ceil_div(N, TILE)), (256,))
    if "int" in kind:
        name, rows_per_block = ("linear_row", 1) if N == 1 else ("linear_rows", 4)
        return "linear_quantized.cu", name, Launch((O // 16, ceil_div(N, rows_per_block)), (128,))
    return "linear.cu", "linear_rows", Launch((ceil_div(O, 8 if inputs_contiguous else 32), ceil_div(N, 4)), (256,))


def linear(x, w, bias=None):
    fits = are_float32(x) and is_readable_weight(w, x.shape[-1], None)
    if not (fits and (bias is None or has_shape(bias, w.shape[1]))):
        return reference.linear(x, w, bias)
    (N, I), O = row_sizes(x), w.shape[1]
    kind, arrays, strides = kernel_format(w)
    file, name, launch = linear_launch(N, O, kind, strides[0] == 1)
    [x_, bias], out = as_float32(x, bias), empty(*x.shape[:-1], O)
    kernel(file, name + kind)(launch, out, x_, *arrays, bias, N, I, O, *strides)
    return like_input(x, out)


def orthogonalize(g, steps=5):
    """The reference's function for one matrix (I, O), with `linear` for the products."""
    is_tall, (a, b, c) = len(g) > g.shape[1], NEWTON_SCHULZ_COEFFS
    x = g.T if is_tall else g
    x = x / (np.sqrt((x * x).sum()) + 1e-7)
    for _ in range(steps):
        square = linear(x, x.T)
        x = a * x + linear(b * square + c * linear(square, square), x)
    return x.T if is_tall else x


def muon_step(w, g, m, lr, momentum=0.95, decay=0.1):
    if not (are_float32_of_one_shape(w, g, m) and w.ndim >= 2):
        return reference.muon_step(w, g, m, lr, momentum, decay)
    w_, g_, m_ = as_float32(w, g, m)
    m_ = momentum * m_ + (1 - momentum) * g_
    update = (1 - momentum) * g_ + momentum * m_
    update = xp.stack([orthogonalize(matrix) for matrix in update.reshape(-1, *w.shape[-2:])]).reshape(w.shape)
    scale = max(1.0, w.shape[-1] / w.shape[-2]) ** 0.5
    return like_input(w, (1 - lr * decay) * w_ - (lr * scale) * update, m_)


def attention_1_launch(B, T, H):
    """A thread for each query of each head."""
    return Launch((ceil_div(B * T * H, 128),), (128,))


def attention_2_launch(B, T, H, K, d):
    """A block for 64 rows of each key head, and shared memory for them, 32 keys, 32 values and the weights."""
    pitch = ceil_div(d, 32) * 32 + 4
    return Launch((ceil_div(T * H // K, TILE), K, B), (128,), 4 * ((64 + 32 + 32) * pitch + 64 * (32 + 4)))


def attention_split_kv_launch(B, T, S, H, K):
    """A block for 8 rows of each key head and a part of its keys: enough parts to keep a GPU busy, none too small."""
    groups = K * ceil_div(T * H // K, 8)
    return Launch((max(1, min(ceil_div(S, 64), ceil_div(TARGET_BLOCKS, groups * B))), groups, B), (128,))


def kv_on_device(k):
    """Keys or values as kernels read them: float32 or bfloat16."""
    return weight_on_device(dequantize(k) if isinstance(k, QuantizedRows) else k)


def is_readable_kv(k, v):
    """True if keys and values have the same format, and kernels can read it."""
    if isinstance(k, QuantizedRows) or isinstance(v, QuantizedRows):
        return type(k) is type(v)
    return is_array(k) and is_array(v) and k.dtype == v.dtype and k.dtype.name in FLOAT_DTYPES


def grouped_query_attention(q, k, v, causal=True, chunk=None, kv_start=0):
    fits = are_float32(q) and are_gqa_shapes_valid(q, k, v, chunk, kv_start) and is_readable_kv(k, v)
    if not (fits and q.shape[3] <= MAX_HEAD_DIM):
        return reference.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    [q_], keys, values, out = as_float32(q), kv_on_device(k), kv_on_device(v), empty(*q.shape)
    (B, T, H, d), (S, K) = q.shape, k.shape[1:3]
    kind = "_bf16" if keys.dtype == np.uint16 else ""
    arguments = q_, keys, values, bool(causal), chunk or 0, kv_start, B, T, S, H, K, d
    if T * H // K > MATVEC_MAX_ROWS:
        kernel("attention_2.cu", "grouped_query_attention_2" + kind)(attention_2_launch(B, T, H, K, d), out, *arguments)
        return like_input(q, out)
    launch = attention_split_kv_launch(B, T, S, H, K)
    partials = empty(B * T * H, launch.grid[0], d + 2)          # O, m and l of each split
    kernel("attention_split_kv.cu", "attention_split_kv" + kind)(launch, partials, *arguments)
    kernel("attention_split_kv.cu", "attention_combine")(Launch((B * T * H,), (128,)), out, partials, launch.grid[0], d)
    return like_input(q, out)


def experts_launch(M, O, E):
    """A block for every tile that M rows of E experts can form at most; surplus blocks return immediately."""
    return Launch((ceil_div(O, TILE), M // TILE + min(E, M)), (256,))


def experts_per_row(x, expert, gate, w, C):
    """Each of a few rows times the matrix of its expert: row m of M reads x[m // C].  x (M / C, I)  ->  (M, O)"""
    kind, arrays, strides = kernel_format(w)
    M, (_, I, O) = expert.size, w.shape
    out, (_, _, one_row) = empty(M, O), linear_launch(1, O, kind, strides[0] == 1)
    launch = Launch((one_row.grid[0], M), one_row.block)
    kernel("moe.cu", "experts_matvec" + kind)(launch, out, x, expert, gate, *arrays, C, I, O, *strides)
    return out


def sort_by_expert(expert, E):
    """Sort rows by expert  ->  each expert's first slot (E + 1,), the row in each slot (M,), each row's slot (M,)"""
    M = expert.size
    first, order, slot = (empty(n, dtype=np.int32) for n in (E + 1, M, M))
    kernel("moe.cu", "experts_sort")(Launch((E,), (32,)), first, order, slot, expert, M, E)
    return first, order, slot


def experts_sorted(x, expert, gate, w_gate, w_up, w_down):
    """Many rows, sorted by expert: one launch for gate and up, and one for down.

    x (N, D), expert and gate (N, C)  ->  the results in sorted order (M, D), and the slot of each row among them (M,)
    """
    (kind, gates, strides), (_, ups, up_strides) = kernel_format(w_gate), kernel_format(w_up)
    if strides != up_strides:                                           # only one is transposed in memory
        w_gate, w_up = (xp.ascontiguousarray(xp.asarray(w)) for w in (w_gate, w_up))
        (kind, gates, strides), (_, ups, _) = kernel_format(w_gate), kernel_format(w_up)
    (E, D, F), M = w_gate.shape, expert.size
    first, order, slot = sort_by_expert(expert, E)
    hidden, y = empty(M, F), empty(M, D)
    kernel("moe.cu", "experts_gate_up" + kind)(experts_launch(M, F, E), hidden, x, gate, first, order, *gates, *ups,
                                               M // len(x), D, E, F, *strides)
    kind, downs, strides = kernel_format(w_down)
    kernel("moe.cu", "experts_down" + kind)(experts_launch(M, D, E), y, hidden, first, *downs, D, E, F, *strides)
    return y, slot


def experts(x, expert, gate, w_gate, w_up, w_down):
    fits = are_experts_arguments_valid(x, expert, gate, w_gate, w_up, w_down)
    if not (fits and weight_signature(w_gate) == weight_signature(w_up)):
        return reference.experts(x, expert, gate, w_gate, w_up, w_down)
    (N, C), (_, D, F), out = gate.shape, w_gate.shape, empty(*x.shape)
    (x_, gate), [expert] = as_float32(x, gate), as_typed(np.int64, expert)
    if N * C > MATVEC_MAX_ROWS:
        y, slot = experts_sorted(x_, expert, gate, w_gate, w_up, w_down)
    else:
        gate_out, up_out = (experts_per_row(x_, expert, gate, w, C) for w in (w_gate, w_up))
        hidden = empty(N * C, F)
        kernel("activation.cu", "swiglu")(element_launch(N * C * F), hidden, gate_out, up_out, N * C, F)
        y, slot = experts_per_row(hidden, expert, None, w_down, 1), None
    kernel("moe.cu", "experts_combine")(Launch((N, ceil_div(D, 128)), (128,)), out, y, slot, N, C, D)
    return like_input(x, out)


def weight_signature(w):
    """The properties that two matrices must share to be read by one kernel."""
    return (w.bits, w.group, w.scales.dtype) if isinstance(w, Quantized) else w.dtype


__all__ = [name for name in reference.__all__ if name in globals()]      # the operations that are defined here
