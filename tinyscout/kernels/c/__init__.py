"""The reference, with these functions replaced by C (csrc/c, through cffi).

If a kernel does not support its arguments (dtypes other than float32, empty arrays, shapes that do not match), the call
falls back to the reference, which computes the result or raises an error.  So C never reads out of bounds.
"""
import math

import numpy as np

from tinyscout import reference
from tinyscout.kernels.c.arrays import as_float32, float_ptr, int64_ptr, kv_view, matrix_view
from tinyscout.kernels.c.decode import TokenDecoder, can_decode
from tinyscout.kernels.c.library import ffi, lib
from tinyscout.kernels.c.versions import versions as versions
from tinyscout.kernels.guards import (
    FLOAT_DTYPES,
    are_experts_arguments_valid,
    are_float32,
    are_float32_of_one_shape,
    are_gqa_shapes_valid,
    are_ids_below,
    has_shape,
    is_positive_int,
    is_readable_weight,
    row_sizes,
)
from tinyscout.nn.text import in_order
from tinyscout.reference import *  # noqa: F403  the functions that are not replaced below

# After the reference, whose gradients these replace.
# isort: split
from tinyscout.kernels.c.backward import *  # noqa: F403


def set_threads(count):
    """Set the number of threads of the kernels.

    count int  ->  int, the previous number; 1 if compiled without OpenMP
    """
    return lib.set_threads(count)


def rms_norm(x, weight=None, eps=1e-5):
    if not (are_float32(x) and (weight is None or has_shape(weight, x.shape[-1]))):
        return reference.rms_norm(x, weight, eps)
    x, weight = as_float32(x, weight)
    out = np.empty_like(x)
    lib.rms_norm(float_ptr(out), float_ptr(x), float_ptr(weight), eps, *row_sizes(x))
    return out


def layer_norm(x, weight, bias, eps=1e-5):
    if not (are_float32(x) and has_shape(weight, x.shape[-1]) and has_shape(bias, x.shape[-1])):
        return reference.layer_norm(x, weight, bias, eps)
    x, weight, bias = as_float32(x, weight, bias)
    out = np.empty_like(x)
    lib.layer_norm(float_ptr(out), float_ptr(x), float_ptr(weight), float_ptr(bias), eps, *row_sizes(x))
    return out


def apply_rope(x, cos, sin):
    fits = are_float32(x) and x.ndim == 4 and x.shape[3] % 2 == 0
    if not (fits and all(has_shape(a, x.shape[1], x.shape[3] // 2) for a in (cos, sin))):
        return reference.apply_rope(x, cos, sin)
    x, cos, sin = as_float32(x, cos, sin)
    out = np.empty_like(x)
    lib.apply_rope(float_ptr(out), float_ptr(x), float_ptr(cos), float_ptr(sin), *x.shape)
    return out


def apply_rope_backward(dy, x, cos, sin):
    return apply_rope(dy, cos, -sin)


def softmax(x):
    if not are_float32(x):
        return reference.softmax(x)
    [x] = as_float32(x)
    out = np.empty_like(x)
    lib.softmax(float_ptr(out), float_ptr(x), *row_sizes(x))
    return out


def sigmoid(x):
    if not are_float32(x):
        return reference.sigmoid(x)
    [x] = as_float32(x)
    out = np.empty_like(x)
    lib.sigmoid(float_ptr(out), float_ptr(x), *row_sizes(x))
    return out


def swiglu(gate, up):
    if not are_float32_of_one_shape(gate, up):
        return reference.swiglu(gate, up)
    gate, up = as_float32(gate, up)
    out = np.empty_like(gate)
    lib.swiglu(float_ptr(out), float_ptr(gate), float_ptr(up), *row_sizes(gate))
    return out


def gelu(x):
    if not are_float32(x):
        return reference.gelu(x)
    [x] = as_float32(x)
    out = np.empty_like(x)
    lib.gelu(float_ptr(out), float_ptr(x), *row_sizes(x))
    return out


def embed(tokens, embedding, dtype="float32"):
    fits = has_shape(embedding, None, None) and embedding.dtype.name in FLOAT_DTYPES and np.dtype(dtype) == np.float32
    fits = fits and embedding.strides[1] == embedding.itemsize and embedding.shape[1] > 0
    if not (fits and are_ids_below(tokens, len(embedding)) and tokens.min() >= 0):
        return reference.embed(tokens, embedding, dtype)
    table = matrix_view(embedding)
    out = np.empty((*tokens.shape, embedding.shape[1]), np.float32)
    lib.embed(float_ptr(out), int64_ptr(tokens), table, tokens.size, embedding.shape[1])
    return out


def linear(x, w, bias=None):
    if not (are_float32(x) and is_readable_weight(w, x.shape[-1], None)
            and (bias is None or has_shape(bias, w.shape[1]))):
        return reference.linear(x, w, bias)
    m, (x, bias) = matrix_view(w), as_float32(x, bias)
    out = np.empty((*x.shape[:-1], w.shape[1]), np.float32)
    lib.linear(float_ptr(out), float_ptr(x), m, float_ptr(bias), row_sizes(x)[0], *w.shape)
    return out


def grouped_query_attention(q, k, v, causal=True, chunk=None, kv_start=0):
    if not (are_float32(q) and are_gqa_shapes_valid(q, k, v, chunk, kv_start) and type(k) is type(v)):
        return reference.grouped_query_attention(q, k, v, causal, chunk, kv_start)
    [q], keys, values = as_float32(q), kv_view(k), kv_view(v)
    out = np.empty_like(q)
    (B, T, H, d), (S, K) = q.shape, k.shape[1:3]
    lib.grouped_query_attention(float_ptr(out), float_ptr(q), keys, values, causal, chunk or 0, kv_start, B, T, S, H,
                                K, d)
    return out


def router(x, w_router, top_k=1):
    if not (are_float32(x) and x.ndim == 2 and is_readable_weight(w_router, x.shape[1], None)
            and is_positive_int(top_k)):
        return reference.router(x, w_router, top_k)
    [x], w = as_float32(x), matrix_view(w_router)
    (N, D), E = x.shape, w_router.shape[1]
    expert, gate = (np.empty((N, min(top_k, E)), dtype) for dtype in (np.int64, np.float32))
    lib.router(ffi.from_buffer("int64_t[]", expert), float_ptr(gate), float_ptr(x), w, gate.shape[1], N, D, E)
    return expert, gate


def load_balance(x, w_router, top_k=1):
    if not (are_float32(x) and x.ndim == 2 and is_readable_weight(w_router, x.shape[1], None)
            and is_positive_int(top_k)):
        return reference.load_balance(x, w_router, top_k)
    [x], w, E = as_float32(x), matrix_view(w_router), w_router.shape[1]
    out = ffi.new("double *")
    lib.load_balance(out, float_ptr(x), w, min(top_k, E), *x.shape, E)
    return out[0]


def experts(x, expert, gate, w_gate, w_up, w_down):
    if not are_experts_arguments_valid(x, expert, gate, w_gate, w_up, w_down):
        return reference.experts(x, expert, gate, w_gate, w_up, w_down)
    E, D, F = w_gate.shape
    matrices, (x, gate) = [matrix_view(w) for w in (w_gate, w_up, w_down)], as_float32(x, gate)
    out = np.empty_like(x)
    lib.experts(float_ptr(out), float_ptr(x), int64_ptr(expert), float_ptr(gate), *matrices, *gate.shape, D, E, F)
    return out


def patchify(tiles, patch):
    if not (are_float32(tiles) and tiles.ndim == 4 and is_positive_int(patch)
            and all(n % patch == 0 for n in tiles.shape[2:])):
        return reference.patchify(tiles, patch)
    [tiles] = as_float32(tiles)
    (B, C), R, S = tiles.shape[:2], tiles.shape[2] // patch, tiles.shape[3] // patch
    out = np.empty((B, R * S, C * patch * patch), np.float32)
    lib.patchify(float_ptr(out), float_ptr(tiles), patch, B, C, R, S)
    return out


def pixel_shuffle(x, side):
    fits = are_float32(x) and x.ndim == 3 and is_positive_int(side)
    n = math.isqrt(x.shape[1]) if fits else 0
    if not (fits and n * n == x.shape[1] and n % side == 0):
        return reference.pixel_shuffle(x, side)
    [x] = as_float32(x)
    out = np.empty((len(x), (n // side) ** 2, side * side * x.shape[2]), np.float32)
    lib.pixel_shuffle(float_ptr(out), float_ptr(x), side, len(x), n // side, x.shape[2])
    return out


def fuse(x, mask, features):
    fits = are_float32(x, features) and x.ndim == 2 and has_shape(mask, len(x)) and mask.dtype == bool
    if not (fits and features.shape == (np.count_nonzero(mask), x.shape[1])):
        return reference.fuse(x, mask, features)
    x, features = as_float32(x, features)
    mask = ffi.from_buffer("uint8_t[]", np.ascontiguousarray(mask))
    out = np.empty_like(x)
    lib.fuse(float_ptr(out), float_ptr(x), mask, float_ptr(features), *x.shape)
    return out


def top_k(logits, k):
    if not (are_float32(logits) and is_positive_int(k)):
        return reference.top_k(logits, k)
    [logits] = as_float32(logits)
    out = np.empty_like(logits)
    lib.top_k(float_ptr(out), float_ptr(logits), min(k, logits.shape[-1]), *row_sizes(logits))
    return out


def top_p(probabilities, p):
    if not are_float32(probabilities):
        return reference.top_p(probabilities, p)
    [probabilities] = as_float32(probabilities)
    out = np.empty_like(probabilities)
    lib.top_p(float_ptr(out), float_ptr(probabilities), p, *row_sizes(probabilities))
    return out


def sample(logits, uniform, temperature=1.0, k=None, p=None):
    if not (are_float32(logits) and logits.ndim == 1 and 0 < temperature < math.inf
            and (k is None or is_positive_int(k))):
        return reference.sample(logits, uniform, temperature, k, p)
    [logits], V = as_float32(logits), len(logits)
    token = ffi.new("int *")
    lib.sample(token, float_ptr(logits), uniform, temperature, min(k or V, V), math.inf if p is None else p, V)
    return token[0]


def cross_entropy(logits, targets):
    fits = are_float32(logits) and logits.ndim == 2 and has_shape(targets, len(logits))
    if not (fits and are_ids_below(targets, logits.shape[1]) and targets.max() >= 0):
        return reference.cross_entropy(logits, targets)
    [logits] = as_float32(logits)
    losses = np.empty(len(logits))
    lib.cross_entropy(ffi.from_buffer("double[]", losses), float_ptr(logits), int64_ptr(targets), *logits.shape)
    return float(losses.sum() / np.count_nonzero(targets >= 0))


def soft_cross_entropy(logits, teacher):
    if not (are_float32(logits, teacher) and logits.ndim == 2 and logits.shape == teacher.shape):
        return reference.soft_cross_entropy(logits, teacher)
    logits, teacher = as_float32(logits, teacher)
    losses = np.empty(len(logits))
    lib.soft_cross_entropy(ffi.from_buffer("double[]", losses), float_ptr(logits), float_ptr(teacher), *logits.shape)
    return float(losses.mean())


def adamw_step(w, g, m, v, step, lr, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1):
    if not (are_float32_of_one_shape(w, g, m, v) and step >= 1):
        return reference.adamw_step(w, g, m, v, step, lr, beta1, beta2, eps, decay)
    inputs = as_float32(w, g, m, v)
    outs = [np.empty(w.shape, np.float32) for _ in range(3)]
    lib.adamw_step(*map(float_ptr, outs), *map(float_ptr, inputs), step, lr, beta1, beta2, eps, decay, w.size)
    return tuple(outs)


def muon_step(w, g, m, lr, momentum=0.95, decay=0.1):
    if not (are_float32_of_one_shape(w, g, m) and w.ndim >= 2):
        return reference.muon_step(w, g, m, lr, momentum, decay)
    inputs = as_float32(w, g, m)
    outs = np.empty_like(inputs[0]), np.empty_like(inputs[0])
    lib.muon_step(*map(float_ptr, outs), *map(float_ptr, inputs), lr, momentum, decay, math.prod(w.shape[:-2]),
                  *w.shape[-2:])
    return outs


def decode(x, w, config, cache, iterate=in_order):
    """All layers and the last norm for one token; None if C does not support them: see tinyscout.kernels.Backend.

    x (1, 1, D), w Text, config TextConfig, cache Cache  ->  (1, 1, D)
    """
    if cache is None or x.shape[:2] != (1, 1):
        return None
    decoder = cache.backend_state
    if decoder is None or not decoder.is_valid_for(w, config):
        if not can_decode(x, w, config, cache):
            return None
        decoder = cache.backend_state = TokenDecoder(w, config)
    return rms_norm(decoder(x, cache, iterate), w.norm, config.norm_eps)
