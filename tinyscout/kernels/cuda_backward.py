"""The gradients of the CUDA column: given what comes down to a result, what comes down to each argument.

A block owns what it adds up, so nothing depends on the order in which blocks run: the same gradients every time, to the
bit.  What a kernel was not made for is left to the reference, as in cuda.py, whose part this is.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels import cuda_matrix
from tinyscout.kernels.cuda_matrix import HEAD, TILE, by_expert, experts_launch, form, heads_fit
from tinyscout.kernels.device import beside, empty, f32, typed
from tinyscout.kernels.guards import for_kernels, integers, is_array, readable, rows, shaped
from tinyscout.kernels.launch import BLOCK, WARP, Launch, ceil_div, element_launch, kernel, row_launch

PASSING = 32                    # queries, and keys, that pass by a block of attention_backward.cu at a time


def alike(dy, *arrays):
    """Are they all float32, not empty, and of the same shape?"""
    return for_kernels(dy, *arrays) and all(a.shape == dy.shape for a in arrays)


def stripe_launch(D):
    """A block for each 32 of D columns, and eight warps that share out the rows."""
    return Launch((ceil_div(D, WARP),), (BLOCK,))


def channel_sums(dy, x, middle, scale, bias):
    """What comes down to a norm's weight and bias, given its rows' middles and scales  ->  (D,), (D,) or None"""
    (N, D), out_weight = rows(x), empty(x.shape[-1])
    out_bias = empty(D) if bias else None
    kernel("norm.cu", "norm_backward_channels")(stripe_launch(D), out_weight, out_bias, dy, x, middle, scale, N, D)
    return out_weight, out_bias


def rms_norm_backward(dy, x, weight=None, eps=1e-5):
    if not (alike(dy, x) and (weight is None or shaped(weight, x.shape[-1]))):
        return reference.rms_norm_backward(dy, x, weight, eps)
    (N, D), out_x, out_scale = rows(x), empty(*x.shape), empty(x.size // x.shape[-1])
    dy_, x_, weight = f32(dy, x, weight)
    kernel("norm.cu", "rms_norm_backward_rows")(row_launch(N, D), out_x, out_scale, dy_, x_, weight, eps, N, D)
    return beside(x, out_x, None if weight is None else channel_sums(dy_, x_, None, out_scale, bias=False)[0])


def layer_norm_backward(dy, x, weight, bias, eps=1e-5):
    if not (alike(dy, x) and shaped(weight, x.shape[-1]) and shaped(bias, x.shape[-1])):
        return reference.layer_norm_backward(dy, x, weight, bias, eps)
    (N, D), out_x, (dy_, x_, weight) = rows(x), empty(*x.shape), f32(dy, x, weight)
    middle, scale = empty(N), empty(N)
    kernel("norm.cu", "layer_norm_backward_rows")(row_launch(N, D), out_x, middle, scale, dy_, x_, weight, eps, N, D)
    return beside(x, out_x, *channel_sums(dy_, x_, middle, scale, bias=True))


def softmax_backward(dy, x):
    if not alike(dy, x):
        return reference.softmax_backward(dy, x)
    out, (N, S) = empty(*x.shape), rows(x)
    kernel("softmax.cu", "softmax_backward")(row_launch(N, S), out, *f32(dy, x), N, S)
    return beside(x, out)


def sigmoid_backward(dy, x):
    if not alike(dy, x):
        return reference.sigmoid_backward(dy, x)
    out = empty(*x.shape)
    kernel("activation.cu", "sigmoid_backward")(element_launch(x.size), out, *f32(dy, x), *rows(x))
    return beside(x, out)


def swiglu_backward(dy, gate, up):
    if not alike(dy, gate, up):
        return reference.swiglu_backward(dy, gate, up)
    outs = empty(*gate.shape), empty(*gate.shape)
    kernel("activation.cu", "swiglu_backward")(element_launch(gate.size), *outs, *f32(dy, gate, up), *rows(gate))
    return beside(gate, *outs)


def gelu_backward(dy, x):
    if not alike(dy, x):
        return reference.gelu_backward(dy, x)
    out = empty(*x.shape)
    kernel("activation.cu", "gelu_backward")(element_launch(x.size), out, *f32(dy, x), *rows(x))
    return beside(x, out)


def embed_backward(dy, tokens, embedding):
    fits = for_kernels(dy) and shaped(embedding, None, dy.shape[-1]) and integers(tokens, len(embedding))
    if not (fits and tokens.min() >= 0 and dy.shape[:-1] == tokens.shape):
        return reference.embed_backward(dy, tokens, embedding)
    out, (N, D), V = empty(*embedding.shape), rows(dy), len(embedding)
    launch = Launch((ceil_div(V, 4),), (4 * WARP,))
    kernel("embed.cu", "embed_backward")(launch, out, *f32(dy), *typed(np.int64, tokens), None, N, D, V)
    return beside(dy, out)


def cross_entropy_backward(dy, logits, targets):
    fits = for_kernels(logits) and logits.ndim == 2 and shaped(targets, len(logits))
    if not (fits and integers(targets, logits.shape[1]) and targets.max() >= 0):
        return reference.cross_entropy_backward(dy, logits, targets)
    out, (N, V) = empty(*logits.shape), logits.shape
    each = dy / int((targets >= 0).sum())
    kernel("loss.cu", "cross_entropy_backward")(row_launch(N, V), out, each, *f32(logits), *typed(np.int64, targets),
                                                N, V)
    return beside(logits, out)


def linear_backward(dy, x, w, bias=None):
    fits = for_kernels(dy, x) and dy.shape[:-1] == x.shape[:-1] and is_array(w)
    if not (fits and readable(w, x.shape[-1], dy.shape[-1]) and (bias is None or shaped(bias, w.shape[1]))):
        return reference.linear_backward(dy, x, w, bias)
    ((N, I), O), (dy_, x_) = (rows(x), w.shape[1]), f32(dy, x)
    out_w, out_bias = empty(I, O), None if bias is None else empty(O)
    tiles = Launch((ceil_div(O, TILE), ceil_div(I, TILE)), (256,))
    kernel("linear_backward.cu", "linear_backward_w")(tiles, out_w, dy_, x_, N, I, O)
    if bias is not None:
        kernel("linear_backward.cu", "linear_backward_bias")(stripe_launch(O), out_bias, dy_, N, O)
    return beside(x, cuda_matrix.linear(dy_, w.T), out_w, out_bias)


def attention_backward_launch(length, B, K, d):
    """A block for 32 of `length` rows of each key head: two tiles that it owns, two that pass, weights between them."""
    pitch = ceil_div(d, 32) * 32 + 4
    return Launch((ceil_div(length, PASSING), K, B), (128,), 4 * PASSING * (4 * pitch + 2 * (PASSING + 4)))


def grouped_query_attention_backward(dy, q, k, v, causal=True, chunk=None, first=0):
    fits = for_kernels(dy, q, k, v) and dy.shape == q.shape and heads_fit(q, k, v, chunk, first)
    if not (fits and q.shape[3] <= HEAD):
        return reference.grouped_query_attention_backward(dy, q, k, v, causal, chunk, first)
    (B, T, H, d), (S, K), (dy_, q_, k_, v_) = q.shape, k.shape[1:3], f32(dy, q, k, v)
    out_q, out_k, out_v, of_rows = empty(*q.shape), empty(*k.shape), empty(*v.shape), empty(B, T, H, 3)
    how = bool(causal), chunk or 0, first, B, T, S, H, K, d
    launch_q, launch_kv = (attention_backward_launch(length, B, K, d) for length in (T * H // K, S))
    kernel("attention_backward.cu", "attention_backward_q")(launch_q, out_q, of_rows, dy_, q_, k_, v_, *how)
    kernel("attention_backward.cu", "attention_backward_kv")(launch_kv, out_k, out_v, dy_, q_, of_rows, k_, v_, *how)
    return beside(q, out_q, out_k, out_v)


def product(x, gate, first, order, w, C):
    """Each of M rows, in sorted order, with the matrix of its own expert  ->  (M, O)

    x (M, I), or where there is an order (N, I): the tokens' rows, times their gate if there is one.
    """
    kind, [values], steps = form(w)
    (E, I, O), M = w.shape, (len(x) if order is None else len(order))
    out = empty(M, O)
    kernel("moe.cu", "experts_matmul" + kind)(experts_launch(M, O, E), out, x, gate, first, order, values, C, E, I, O,
                                              *steps)
    return out


def matrices(dy, dy_order, x, gate, x_order, first, C):
    """What comes down to the matrices of all experts: each one's rows of x with those of dy  ->  (E, I, O)"""
    E, I, O = len(first) - 1, x.shape[1], dy.shape[1]
    out = empty(E, I, O)
    launch = Launch((ceil_div(O, TILE), ceil_div(I, TILE), E), (256,))
    kernel("moe.cu", "experts_backward_w")(launch, out, dy, dy_order, x, gate, x_order, first, C, E, I, O)
    return out


def experts_backward(dy, x, expert, gate, w_gate, w_up, w_down):
    fits = alike(dy, x) and for_kernels(gate) and x.ndim == 2 and shaped(gate, len(x), None)
    fits = fits and all(is_array(w) for w in (w_gate, w_up, w_down)) and w_gate.ndim == 3
    E, D, F = w_gate.shape if fits else (0, 0, 0)
    fits = fits and x.shape[1] == D and readable(w_down, E, F, D) and all(readable(w, E, D, F) for w in (w_gate, w_up))
    if not (fits and shaped(expert, *gate.shape) and integers(expert, E) and expert.min() >= 0):
        return reference.experts_backward(dy, x, expert, gate, w_gate, w_up, w_down)
    (N, C), M = gate.shape, gate.size
    (dy_, x_, gate_), [expert] = f32(dy, x, gate), typed(np.int64, expert)
    first, order, place = by_expert(expert, E)
    opened, up = (product(x_, gate_, first, order, w, C) for w in (w_gate, w_up))
    d_hidden = product(dy_, None, first, order, w_down.swapaxes(1, 2), C)
    hidden, d_opened, d_up = (empty(M, F) for _ in range(3))
    kernel("activation.cu", "swiglu")(element_launch(M * F), hidden, opened, up, M, F)
    kernel("activation.cu", "swiglu_backward")(element_launch(M * F), d_opened, d_up, d_hidden, opened, up, M, F)
    d_gate, d_up_w = (matrices(d, None, x_, gate_, order, first, C) for d in (d_opened, d_up))
    d_down = matrices(dy_, order, hidden, None, None, first, C)
    by_gate, by_up = (product(d, None, first, None, w.swapaxes(1, 2), C) for d, w in ((d_opened, w_gate), (d_up, w_up)))
    out_x, out_gate = empty(N, D), empty(N, C)
    kernel("moe.cu", "experts_backward_combine")(row_launch(N, D), out_x, out_gate, by_gate, by_up, x_, gate_, place,
                                                 N, C, D)
    return beside(x, out_x, out_gate, d_gate, d_up_w, d_down)
