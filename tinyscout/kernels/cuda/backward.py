"""The gradients of the CUDA backend: f_backward for each f of kernels/cuda/__init__.py, which re-exports them.

Every sum is computed by one block, so no result depends on the order in which blocks run: the gradients are
deterministic.  If a kernel does not support its arguments, the call falls back to the reference.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.cuda import matrix
from tinyscout.kernels.cuda.matrix import (
    MAX_HEAD_DIM,
    TILE,
    experts_launch,
    kernel_format,
    sort_by_expert,
)
from tinyscout.kernels.device import as_float32, as_typed, empty, like_input
from tinyscout.kernels.guards import (
    are_experts_arguments_valid,
    are_float32,
    are_float32_of_one_shape,
    are_gqa_shapes_valid,
    are_ids_below,
    has_shape,
    is_trainable_weight,
    row_sizes,
)
from tinyscout.kernels.launch import BLOCK_SIZE, WARP_SIZE, Launch, ceil_div, element_launch, kernel, row_launch

STREAMED_ROWS = 32              # queries, or keys, that a block of attention_backward.cu reads at a time


def column_sums_launch(D):
    """A block for every 32 of D columns; its eight warps divide the rows between them."""
    return Launch((ceil_div(D, WARP_SIZE),), (BLOCK_SIZE,))


def norm_param_grads(dy, x, mean, rstd, has_bias):
    """The gradients of a norm's weight and bias, given the rows' means and rstd  ->  (D,), (D,) or None"""
    (N, D), out_weight = row_sizes(x), empty(x.shape[-1])
    out_bias = empty(D) if has_bias else None
    kernel("norm.cu", "norm_backward_channels")(column_sums_launch(D), out_weight, out_bias, dy, x, mean, rstd, N, D)
    return out_weight, out_bias


def rms_norm_backward(dy, x, weight=None, eps=1e-5):
    if not (are_float32_of_one_shape(dy, x) and (weight is None or has_shape(weight, x.shape[-1]))):
        return reference.rms_norm_backward(dy, x, weight, eps)
    (N, D), out_x, out_rstd = row_sizes(x), empty(*x.shape), empty(x.size // x.shape[-1])
    dy_, x_, weight = as_float32(dy, x, weight)
    kernel("norm.cu", "rms_norm_backward_rows")(row_launch(N, D), out_x, out_rstd, dy_, x_, weight, eps, N, D)
    out_weight = None if weight is None else norm_param_grads(dy_, x_, None, out_rstd, has_bias=False)[0]
    return like_input(x, out_x, out_weight)


def layer_norm_backward(dy, x, weight, bias, eps=1e-5):
    if not (are_float32_of_one_shape(dy, x) and has_shape(weight, x.shape[-1]) and has_shape(bias, x.shape[-1])):
        return reference.layer_norm_backward(dy, x, weight, bias, eps)
    (N, D), out_x, (dy_, x_, weight) = row_sizes(x), empty(*x.shape), as_float32(dy, x, weight)
    mean, rstd = empty(N), empty(N)
    kernel("norm.cu", "layer_norm_backward_rows")(row_launch(N, D), out_x, mean, rstd, dy_, x_, weight, eps, N, D)
    return like_input(x, out_x, *norm_param_grads(dy_, x_, mean, rstd, has_bias=True))


def softmax_backward(dy, x):
    if not are_float32_of_one_shape(dy, x):
        return reference.softmax_backward(dy, x)
    out, (N, S) = empty(*x.shape), row_sizes(x)
    kernel("softmax.cu", "softmax_backward")(row_launch(N, S), out, *as_float32(dy, x), N, S)
    return like_input(x, out)


def sigmoid_backward(dy, x):
    if not are_float32_of_one_shape(dy, x):
        return reference.sigmoid_backward(dy, x)
    out = empty(*x.shape)
    kernel("activation.cu", "sigmoid_backward")(element_launch(x.size), out, *as_float32(dy, x), *row_sizes(x))
    return like_input(x, out)


def swiglu_backward(dy, gate, up):
    if not are_float32_of_one_shape(dy, gate, up):
        return reference.swiglu_backward(dy, gate, up)
    outs = empty(*gate.shape), empty(*gate.shape)
    kernel("activation.cu", "swiglu_backward")(element_launch(gate.size), *outs, *as_float32(dy, gate, up),
                                               *row_sizes(gate))
    return like_input(gate, *outs)


def gelu_backward(dy, x):
    if not are_float32_of_one_shape(dy, x):
        return reference.gelu_backward(dy, x)
    out = empty(*x.shape)
    kernel("activation.cu", "gelu_backward")(element_launch(x.size), out, *as_float32(dy, x), *row_sizes(x))
    return like_input(x, out)


def embed_backward(dy, tokens, embedding):
    fits = are_float32(dy) and has_shape(embedding, None, dy.shape[-1]) and are_ids_below(tokens, len(embedding))
    if not (fits and tokens.min() >= 0 and dy.shape[:-1] == tokens.shape):
        return reference.embed_backward(dy, tokens, embedding)
    out, (N, D), V = empty(*embedding.shape), row_sizes(dy), len(embedding)
    launch = Launch((ceil_div(V, 4),), (4 * WARP_SIZE,))
    kernel("embed.cu", "embed_backward")(launch, out, *as_float32(dy), *as_typed(np.int64, tokens), None, N, D, V)
    return like_input(dy, out)


def cross_entropy_backward(dy, logits, targets):
    fits = are_float32(logits) and logits.ndim == 2 and has_shape(targets, len(logits))
    if not (fits and are_ids_below(targets, logits.shape[1]) and targets.max() >= 0):
        return reference.cross_entropy_backward(dy, logits, targets)
    out, (N, V) = empty(*logits.shape), logits.shape
    dy_per_row = dy / int((targets >= 0).sum())
    kernel("loss.cu", "cross_entropy_backward")(row_launch(N, V), out, dy_per_row, *as_float32(logits),
                                                *as_typed(np.int64, targets), N, V)
    return like_input(logits, out)


def linear_backward(dy, x, w, bias=None):
    fits = are_float32(dy, x) and dy.shape[:-1] == x.shape[:-1] and is_trainable_weight(w, x.shape[-1], dy.shape[-1])
    if not (fits and (bias is None or has_shape(bias, w.shape[1]))):
        return reference.linear_backward(dy, x, w, bias)
    ((N, I), O), (dy_, x_) = (row_sizes(x), w.shape[1]), as_float32(dy, x)
    out_w, out_bias = empty(I, O), None if bias is None else empty(O)
    tiles = Launch((ceil_div(O, TILE), ceil_div(I, TILE)), (256,))
    kernel("linear_backward.cu", "linear_backward_w")(tiles, out_w, dy_, x_, N, I, O)
    if bias is not None:
        kernel("linear_backward.cu", "linear_backward_bias")(column_sums_launch(O), out_bias, dy_, N, O)
    return like_input(x, matrix.linear(dy_, w.T), out_w, out_bias)


def attention_backward_launch(length, B, K, d):
    """A block for 32 of `length` rows of each key head: two tiles that it owns, two that it streams, and weights."""
    pitch = ceil_div(d, 32) * 32 + 4
    return Launch((ceil_div(length, STREAMED_ROWS), K, B), (128,),
                  4 * STREAMED_ROWS * (4 * pitch + 2 * (STREAMED_ROWS + 4)))


def grouped_query_attention_backward(dy, q, k, v, causal=True, chunk=None, kv_start=0):
    fits = are_float32(dy, q, k, v) and dy.shape == q.shape and are_gqa_shapes_valid(q, k, v, chunk, kv_start)
    if not (fits and q.shape[3] <= MAX_HEAD_DIM):
        return reference.grouped_query_attention_backward(dy, q, k, v, causal, chunk, kv_start)
    (B, T, H, d), (S, K), (dy_, q_, k_, v_) = q.shape, k.shape[1:3], as_float32(dy, q, k, v)
    out_q, out_k, out_v, row_stats = empty(*q.shape), empty(*k.shape), empty(*v.shape), empty(B, T, H, 3)
    mask_and_sizes = bool(causal), chunk or 0, kv_start, B, T, S, H, K, d
    launch_q, launch_kv = (attention_backward_launch(length, B, K, d) for length in (T * H // K, S))
    kernel("attention_backward.cu", "attention_backward_q")(launch_q, out_q, row_stats, dy_, q_, k_, v_,
                                                            *mask_and_sizes)
    kernel("attention_backward.cu", "attention_backward_kv")(launch_kv, out_k, out_v, dy_, q_, row_stats, k_, v_,
                                                             *mask_and_sizes)
    return like_input(q, out_q, out_k, out_v)


def grouped_matmul(x, gate, first, order, w, C):
    """Each of M rows, sorted by expert, times the matrix of its expert  ->  (M, O)

    x (M, I), or (N, I) with an order: the tokens' rows, times their gate if given.
    """
    kind, [values], strides = kernel_format(w)
    (E, I, O), M = w.shape, (len(x) if order is None else len(order))
    out = empty(M, O)
    kernel("moe.cu", "experts_matmul" + kind)(experts_launch(M, O, E), out, x, gate, first, order, values, C, E, I, O,
                                              *strides)
    return out


def grouped_weight_grads(dy, dy_order, x, gate, x_order, first, C):
    """The gradients of all experts' matrices: x^T dy over the rows of each expert  ->  (E, I, O)"""
    E, I, O = len(first) - 1, x.shape[1], dy.shape[1]
    out = empty(E, I, O)
    launch = Launch((ceil_div(O, TILE), ceil_div(I, TILE), E), (256,))
    kernel("moe.cu", "experts_backward_w")(launch, out, dy, dy_order, x, gate, x_order, first, C, E, I, O)
    return out


def experts_backward(dy, x, expert, gate, w_gate, w_up, w_down):
    fits = are_float32_of_one_shape(dy, x) and are_experts_arguments_valid(x, expert, gate, w_gate, w_up, w_down)
    if not (fits and all(is_trainable_weight(w, *w.shape) for w in (w_gate, w_up, w_down))):
        return reference.experts_backward(dy, x, expert, gate, w_gate, w_up, w_down)
    (E, D, F), (N, C), M = w_gate.shape, gate.shape, gate.size
    (dy_, x_, gate_), [expert] = as_float32(dy, x, gate), as_typed(np.int64, expert)
    first, order, slot = sort_by_expert(expert, E)
    gate_out, up_out = (grouped_matmul(x_, gate_, first, order, w, C) for w in (w_gate, w_up))
    d_hidden = grouped_matmul(dy_, None, first, order, w_down.swapaxes(1, 2), C)
    hidden, d_gate_out, d_up_out = (empty(M, F) for _ in range(3))
    kernel("activation.cu", "swiglu")(element_launch(M * F), hidden, gate_out, up_out, M, F)
    kernel("activation.cu", "swiglu_backward")(element_launch(M * F), d_gate_out, d_up_out, d_hidden, gate_out, up_out,
                                               M, F)
    dw_gate, dw_up = (grouped_weight_grads(d, None, x_, gate_, order, first, C) for d in (d_gate_out, d_up_out))
    dw_down = grouped_weight_grads(dy_, order, hidden, None, None, first, C)
    dx_gate, dx_up = (grouped_matmul(d, None, first, None, w.swapaxes(1, 2), C)
                      for d, w in ((d_gate_out, w_gate), (d_up_out, w_up)))
    out_x, out_gate = empty(N, D), empty(N, C)
    kernel("moe.cu", "experts_backward_combine")(row_launch(N, D), out_x, out_gate, dx_gate, dx_up, x_, gate_, slot,
                                                 N, C, D)
    return like_input(x, out_x, out_gate, dw_gate, dw_up, dw_down)


__all__ = [name for name in reference.__all__ if name in globals()]      # the gradients that are defined here
