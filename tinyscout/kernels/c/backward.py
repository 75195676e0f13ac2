"""The gradients of the C column: f_backward for the f of c.py, whose part this is.

What a kernel was not made for is left to the reference: other types than float32, weights in few bits, which do not
learn, arrays without elements, shapes that do not fit.
"""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.c.arrays import f32, floats, matrix
from tinyscout.kernels.c.library import ffi, lib
from tinyscout.kernels.guards import FLOATS, for_kernels, integers, readable, rows, shaped, whole
from tinyscout.reference import Quantized


def indices(array):
    """A C pointer to row-major 64-bit integers, which are copied only where they are not that yet."""
    return ffi.from_buffer("int64_t[]", np.require(array, np.int64, ["C", "A"]))


def learnable(w, *shape):
    """Is it a weight of that shape in plain numbers?"""
    return not isinstance(w, Quantized) and readable(w, *shape)


def rms_norm_backward(dy, x, weight=None, eps=1e-5):
    if not (for_kernels(dy, x) and dy.shape == x.shape and (weight is None or shaped(weight, x.shape[-1]))):
        return reference.rms_norm_backward(dy, x, weight, eps)
    dy, x, weight = f32(dy, x, weight)
    dx, dw = np.empty_like(x), None if weight is None else np.empty_like(weight)
    lib.rms_norm_backward(floats(dx), floats(dw), floats(dy), floats(x), floats(weight), eps, *rows(x))
    return dx, dw


def layer_norm_backward(dy, x, weight, bias, eps=1e-5):
    D = x.shape[-1]
    if not (for_kernels(dy, x) and dy.shape == x.shape and shaped(weight, D) and shaped(bias, D)):
        return reference.layer_norm_backward(dy, x, weight, bias, eps)
    dy, x, weight = f32(dy, x, weight)
    outs = np.empty_like(x), np.empty_like(weight), np.empty_like(weight)
    lib.layer_norm_backward(*map(floats, outs), floats(dy), floats(x), floats(weight), ffi.NULL, eps, *rows(x))
    return outs


def softmax_backward(dy, x):
    if not (for_kernels(dy, x) and dy.shape == x.shape):
        return reference.softmax_backward(dy, x)
    dy, x = f32(dy, x)
    out = np.empty_like(x)
    lib.softmax_backward(floats(out), floats(dy), floats(x), *rows(x))
    return out


def grouped_query_attention_backward(dy, q, k, v, causal=True, chunk=None, first=0):
    fits = for_kernels(dy, q, k, v) and q.ndim == k.ndim == 4 and dy.shape == q.shape and k.shape == v.shape
    fits = fits and k.shape[::3] == q.shape[::3] and q.shape[2] % k.shape[2] == 0 and k.shape[1] >= q.shape[1]
    if not (fits and (chunk is None or whole(chunk)) and first >= 0):
        return reference.grouped_query_attention_backward(dy, q, k, v, causal, chunk, first)
    inputs = f32(dy, q, k, v)
    outs = [np.empty(a.shape, np.float32) for a in (q, k, v)]
    B, T, H, d = q.shape
    lib.grouped_query_attention_backward(*map(floats, outs), *map(floats, inputs), causal, chunk or 0, first, B, T,
                                         k.shape[1], H, k.shape[2], d)
    return tuple(outs)


def sigmoid_backward(dy, x):
    if not (for_kernels(dy, x) and dy.shape == x.shape):
        return reference.sigmoid_backward(dy, x)
    dy, x = f32(dy, x)
    out = np.empty_like(x)
    lib.sigmoid_backward(floats(out), floats(dy), floats(x), *rows(x))
    return out


def swiglu_backward(dy, gate, up):
    if not (for_kernels(dy, gate, up) and dy.shape == gate.shape == up.shape):
        return reference.swiglu_backward(dy, gate, up)
    inputs = f32(dy, gate, up)
    outs = np.empty_like(inputs[1]), np.empty_like(inputs[2])
    lib.swiglu_backward(*map(floats, outs), *map(floats, inputs), *rows(gate))
    return outs


def gelu_backward(dy, x):
    if not (for_kernels(dy, x) and dy.shape == x.shape):
        return reference.gelu_backward(dy, x)
    dy, x = f32(dy, x)
    out = np.empty_like(x)
    lib.gelu_backward(floats(out), floats(dy), floats(x), *rows(x))
    return out


def linear_backward(dy, x, w, bias=None):
    fits = for_kernels(dy, x) and learnable(w, x.shape[-1], dy.shape[-1]) and dy.shape[:-1] == x.shape[:-1]
    if not (fits and (bias is None or shaped(bias, w.shape[1]))):
        return reference.linear_backward(dy, x, w, bias)
    m, (dy, x) = matrix(w), f32(dy, x)
    dx, dw = np.empty_like(x), np.empty(w.shape, np.float32)
    d_bias = None if bias is None else np.empty(w.shape[1], np.float32)
    lib.linear_backward(floats(dx), floats(dw), floats(d_bias), floats(dy), floats(x), m, ffi.NULL, rows(x)[0],
                        *w.shape)
    return dx, dw, d_bias


def embed_backward(dy, tokens, embedding):
    fits = for_kernels(dy) and shaped(embedding, None, dy.shape[-1]) and embedding.dtype.name in FLOATS
    if not (fits and integers(tokens, len(embedding)) and tokens.min() >= 0 and dy.shape[:-1] == tokens.shape):
        return reference.embed_backward(dy, tokens, embedding)
    [dy] = f32(dy)
    out = np.empty(embedding.shape, np.float32)
    lib.embed_backward(floats(out), floats(dy), indices(tokens), ffi.NULL, *rows(dy), len(embedding))
    return out


def router_backward(d_gate, x, w_router, top_k=1):
    fits = for_kernels(d_gate, x) and x.ndim == 2 and learnable(w_router, x.shape[1], None) and whole(top_k)
    if not (fits and shaped(d_gate, len(x), min(top_k, w_router.shape[1]))):
        return reference.router_backward(d_gate, x, w_router, top_k)
    w, (d_gate, x) = matrix(w_router), f32(d_gate, x)
    outs = np.empty_like(x), np.empty(w_router.shape, np.float32)
    lib.router_backward(*map(floats, outs), floats(d_gate), floats(x), w, d_gate.shape[1], *x.shape, w_router.shape[1])
    return outs


def load_balance_backward(dy, x, w_router, top_k=1):
    if not (for_kernels(x) and x.ndim == 2 and learnable(w_router, x.shape[1], None) and whole(top_k)):
        return reference.load_balance_backward(dy, x, w_router, top_k)
    [x], w, E = f32(x), matrix(w_router), w_router.shape[1]
    outs = np.empty_like(x), np.empty(w_router.shape, np.float32)
    lib.load_balance_backward(*map(floats, outs), dy, floats(x), w, min(top_k, E), *x.shape, E)
    return outs


def experts_backward(dy, x, expert, gate, w_gate, w_up, w_down):
    fits = for_kernels(dy, x, gate) and x.ndim == 2 and dy.shape == x.shape and shaped(gate, len(x), None)
    E, D, F = w_gate.shape if fits and len(w_gate.shape) == 3 else (0, 0, 0)
    fits = fits and x.shape[1] == D and learnable(w_down, E, F, D)
    fits = fits and all(learnable(w, E, D, F) for w in (w_gate, w_up))
    if not (fits and shaped(expert, *gate.shape) and integers(expert, E) and expert.min() >= 0):
        return reference.experts_backward(dy, x, expert, gate, w_gate, w_up, w_down)
    matrices, (dy, x, gate) = [matrix(w) for w in (w_gate, w_up, w_down)], f32(dy, x, gate)
    outs = [np.empty(a.shape, np.float32) for a in (x, gate, w_gate, w_up, w_down)]
    lib.experts_backward(*map(floats, outs), floats(dy), floats(x), indices(expert), floats(gate), *matrices,
                         *gate.shape, D, E, F)
    return tuple(outs)


def cross_entropy_backward(dy, logits, targets):
    fits = for_kernels(logits) and logits.ndim == 2 and shaped(targets, len(logits))
    if not (fits and integers(targets, logits.shape[1]) and targets.max() >= 0):
        return reference.cross_entropy_backward(dy, logits, targets)
    [logits] = f32(logits)
    out = np.empty_like(logits)
    lib.cross_entropy_backward(floats(out), dy, floats(logits), indices(targets), *logits.shape)
    return out


def soft_cross_entropy_backward(dy, logits, teacher):
    if not (for_kernels(logits, teacher) and logits.ndim == 2 and logits.shape == teacher.shape):
        return reference.soft_cross_entropy_backward(dy, logits, teacher)
    logits, teacher = f32(logits, teacher)
    out = np.empty_like(logits)
    lib.soft_cross_entropy_backward(floats(out), dy, floats(logits), floats(teacher), *logits.shape)
    return out
