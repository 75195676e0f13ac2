"""The gradients of the C backend: f_backward for each f of kernels/c/__init__.py, which re-exports them.

Unsupported arguments fall back to the reference: dtypes other than float32, quantized weights, which are not trained,
empty arrays, shapes that do not match.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.c.arrays import as_float32, float_ptr, int64_ptr, matrix_view
from tinyscout.kernels.c.library import ffi, lib
from tinyscout.kernels.guards import (
    FLOAT_DTYPES,
    are_experts_arguments_valid,
    are_float32,
    are_float32_of_one_shape,
    are_gqa_shapes_valid,
    are_ids_below,
    has_shape,
    is_positive_int,
    is_trainable_weight,
    row_sizes,
)


def rms_norm_backward(dy, x, weight=None, eps=1e-5):
    if not (are_float32_of_one_shape(dy, x) and (weight is None or has_shape(weight, x.shape[-1]))):
        return reference.rms_norm_backward(dy, x, weight, eps)
    dy, x, weight = as_float32(dy, x, weight)
    dx, dw = np.empty_like(x), None if weight is None else np.empty_like(weight)
    lib.rms_norm_backward(float_ptr(dx), float_ptr(dw), float_ptr(dy), float_ptr(x), float_ptr(weight), eps,
                          *row_sizes(x))
    return dx, dw


def layer_norm_backward(dy, x, weight, bias, eps=1e-5):
    D = x.shape[-1]
    if not (are_float32_of_one_shape(dy, x) and has_shape(weight, D) and has_shape(bias, D)):
        return reference.layer_norm_backward(dy, x, weight, bias, eps)
    dy, x, weight = as_float32(dy, x, weight)
    outs = np.empty_like(x), np.empty_like(weight), np.empty_like(weight)
    lib.layer_norm_backward(*map(float_ptr, outs), float_ptr(dy), float_ptr(x), float_ptr(weight), ffi.NULL, eps,
                            *row_sizes(x))
    return outs


def softmax_backward(dy, x):
    if not are_float32_of_one_shape(dy, x):
        return reference.softmax_backward(dy, x)
    dy, x = as_float32(dy, x)
    out = np.empty_like(x)
    lib.softmax_backward(float_ptr(out), float_ptr(dy), float_ptr(x), *row_sizes(x))
    return out


def grouped_query_attention_backward(dy, q, k, v, causal=True, chunk=None, kv_start=0):
    if not (are_float32(dy, q, k, v) and dy.shape == q.shape and are_gqa_shapes_valid(q, k, v, chunk, kv_start)):
        return reference.grouped_query_attention_backward(dy, q, k, v, causal, chunk, kv_start)
    inputs = as_float32(dy, q, k, v)
    outs = [np.empty(a.shape, np.float32) for a in (q, k, v)]
    (B, T, H, d), (S, K) = q.shape, k.shape[1:3]
    lib.grouped_query_attention_backward(*map(float_ptr, outs), *map(float_ptr, inputs), causal, chunk or 0, kv_start,
                                         B, T, S, H, K, d)
    return tuple(outs)


def sigmoid_backward(dy, x):
    if not are_float32_of_one_shape(dy, x):
        return reference.sigmoid_backward(dy, x)
    dy, x = as_float32(dy, x)
    out = np.empty_like(x)
    lib.sigmoid_backward(float_ptr(out), float_ptr(dy), float_ptr(x), *row_sizes(x))
    return out


def swiglu_backward(dy, gate, up):
    if not are_float32_of_one_shape(dy, gate, up):
        return reference.swiglu_backward(dy, gate, up)
    inputs = as_float32(dy, gate, up)
    outs = np.empty_like(inputs[1]), np.empty_like(inputs[2])
    lib.swiglu_backward(*map(float_ptr, outs), *map(float_ptr, inputs), *row_sizes(gate))
    return outs


def gelu_backward(dy, x):
    if not are_float32_of_one_shape(dy, x):
        return reference.gelu_backward(dy, x)
    dy, x = as_float32(dy, x)
    out = np.empty_like(x)
    lib.gelu_backward(float_ptr(out), float_ptr(dy), float_ptr(x), *row_sizes(x))
    return out


def linear_backward(dy, x, w, bias=None):
    fits = are_float32(dy, x) and is_trainable_weight(w, x.shape[-1], dy.shape[-1]) and dy.shape[:-1] == x.shape[:-1]
    if not (fits and (bias is None or has_shape(bias, w.shape[1]))):
        return reference.linear_backward(dy, x, w, bias)
    m, (dy, x) = matrix_view(w), as_float32(dy, x)
    dx, dw = np.empty_like(x), np.empty(w.shape, np.float32)
    dbias = None if bias is None else np.empty(w.shape[1], np.float32)
    lib.linear_backward(float_ptr(dx), float_ptr(dw), float_ptr(dbias), float_ptr(dy), float_ptr(x), m, ffi.NULL,
                        row_sizes(x)[0], *w.shape)
    return dx, dw, dbias


def embed_backward(dy, tokens, embedding):
    fits = are_float32(dy) and has_shape(embedding, None, dy.shape[-1]) and embedding.dtype.name in FLOAT_DTYPES
    if not (fits and are_ids_below(tokens, len(embedding)) and tokens.min() >= 0 and dy.shape[:-1] == tokens.shape):
        return reference.embed_backward(dy, tokens, embedding)
    [dy] = as_float32(dy)
    out = np.empty(embedding.shape, np.float32)
    lib.embed_backward(float_ptr(out), float_ptr(dy), int64_ptr(tokens), ffi.NULL, *row_sizes(dy), len(embedding))
    return out


def router_backward(d_gate, x, w_router, top_k=1):
    fits = are_float32(d_gate, x) and x.ndim == 2 and is_trainable_weight(w_router, x.shape[1], None)
    if not (fits and is_positive_int(top_k) and has_shape(d_gate, len(x), min(top_k, w_router.shape[1]))):
        return reference.router_backward(d_gate, x, w_router, top_k)
    w, (d_gate, x) = matrix_view(w_router), as_float32(d_gate, x)
    outs = np.empty_like(x), np.empty(w_router.shape, np.float32)
    lib.router_backward(*map(float_ptr, outs), float_ptr(d_gate), float_ptr(x), w, d_gate.shape[1], *x.shape,
                        w_router.shape[1])
    return outs


def load_balance_backward(dy, x, w_router, top_k=1):
    if not (are_float32(x) and x.ndim == 2 and is_trainable_weight(w_router, x.shape[1], None)
            and is_positive_int(top_k)):
        return reference.load_balance_backward(dy, x, w_router, top_k)
    [x], w, E = as_float32(x), matrix_view(w_router), w_router.shape[1]
    outs = np.empty_like(x), np.empty(w_router.shape, np.float32)
    lib.load_balance_backward(*map(float_ptr, outs), dy, float_ptr(x), w, min(top_k, E), *x.shape, E)
    return outs


def experts_backward(dy, x, expert, gate, w_gate, w_up, w_down):
    fits = are_float32_of_one_shape(dy, x)
    fits = fits and are_experts_arguments_valid(x, expert, gate, w_gate, w_up, w_down)
    if not (fits and all(is_trainable_weight(w, *w.shape) for w in (w_gate, w_up, w_down))):
        return reference.experts_backward(dy, x, expert, gate, w_gate, w_up, w_down)
    E, D, F = w_gate.shape
    matrices, (dy, x, gate) = [matrix_view(w) for w in (w_gate, w_up, w_down)], as_float32(dy, x, gate)
    outs = [np.empty(a.shape, np.float32) for a in (x, gate, w_gate, w_up, w_down)]
    lib.experts_backward(*map(float_ptr, outs), float_ptr(dy), float_ptr(x), int64_ptr(expert), float_ptr(gate),
                         *matrices, *gate.shape, D, E, F)
    return tuple(outs)


def cross_entropy_backward(dy, logits, targets):
    fits = are_float32(logits) and logits.ndim == 2 and has_shape(targets, len(logits))
    if not (fits and are_ids_below(targets, logits.shape[1]) and targets.max() >= 0):
        return reference.cross_entropy_backward(dy, logits, targets)
    [logits] = as_float32(logits)
    out = np.empty_like(logits)
    lib.cross_entropy_backward(float_ptr(out), dy, float_ptr(logits), int64_ptr(targets), *logits.shape)
    return out


def soft_cross_entropy_backward(dy, logits, teacher):
    if not (are_float32(logits, teacher) and logits.ndim == 2 and logits.shape == teacher.shape):
        return reference.soft_cross_entropy_backward(dy, logits, teacher)
    logits, teacher = as_float32(logits, teacher)
    out = np.empty_like(logits)
    lib.soft_cross_entropy_backward(float_ptr(out), dy, float_ptr(logits), float_ptr(teacher), *logits.shape)
    return out


__all__ = [name for name in reference.__all__ if name in globals()]      # the gradients that are defined here
