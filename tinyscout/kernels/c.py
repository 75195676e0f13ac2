"""The reference, with these names replaced by C (csrc/c, through cffi).

What a kernel was not made for is left to the reference, which computes it or says what is wrong: other types than
float32, arrays without elements, shapes that do not fit.  So C never reads beyond an array's end.
"""
import math

import numpy as np

from tinyscout import reference
from tinyscout.kernels import c_backward
from tinyscout.kernels.arrays import f32, floats, matrix, past
from tinyscout.kernels.decode import Decoder, decodable
from tinyscout.kernels.guards import FLOATS, for_kernels, integers, readable, rows, shaped, whole
from tinyscout.kernels.library import ffi, lib
from tinyscout.kernels.versions import versions as versions
from tinyscout.reference import *  # noqa: F403  what is not below is the reference itself

rms_norm_backward = c_backward.rms_norm_backward                # the gradients have a file of their own
layer_norm_backward = c_backward.layer_norm_backward
softmax_backward = c_backward.softmax_backward
grouped_query_attention_backward = c_backward.grouped_query_attention_backward
sigmoid_backward = c_backward.sigmoid_backward
swiglu_backward = c_backward.swiglu_backward
gelu_backward = c_backward.gelu_backward
embed_backward = c_backward.embed_backward
linear_backward = c_backward.linear_backward
router_backward = c_backward.router_backward
load_balance_backward = c_backward.load_balance_backward
experts_backward = c_backward.experts_backward
cross_entropy_backward = c_backward.cross_entropy_backward
soft_cross_entropy_backward = c_backward.soft_cross_entropy_backward


def set_threads(count):
    """How many threads the kernels use from now on.

    count int  ->  int, how many it was before; 1 where the compiler had no OpenMP
    """
    return lib.set_threads(count)


def rms_norm(x, weight=None, eps=1e-5):
    if not (for_kernels(x) and (weight is None or shaped(weight, x.shape[-1]))):
        return reference.rms_norm(x, weight, eps)
    x, weight = f32(x, weight)
    out = np.empty_like(x)
    lib.rms_norm(floats(out), floats(x), floats(weight), eps, *rows(x))
    return out


def layer_norm(x, weight, bias, eps=1e-5):
    if not (for_kernels(x) and shaped(weight, x.shape[-1]) and shaped(bias, x.shape[-1])):
        return reference.layer_norm(x, weight, bias, eps)
    x, weight, bias = f32(x, weight, bias)
    out = np.empty_like(x)
    lib.layer_norm(floats(out), floats(x), floats(weight), floats(bias), eps, *rows(x))
    return out


def apply_rope(x, cos, sin):
    fits = for_kernels(x) and x.ndim == 4 and x.shape[3] % 2 == 0
    if not (fits and all(shaped(a, x.shape[1], x.shape[3] // 2) for a in (cos, sin))):
        return reference.apply_rope(x, cos, sin)
    x, cos, sin = f32(x, cos, sin)
    out = np.empty_like(x)
    lib.apply_rope(floats(out), floats(x), floats(cos), floats(sin), *x.shape)
    return out


def apply_rope_backward(dy, x, cos, sin):
    return apply_rope(dy, cos, -sin)


def softmax(x):
    if not for_kernels(x):
        return reference.softmax(x)
    [x] = f32(x)
    out = np.empty_like(x)
    lib.softmax(floats(out), floats(x), *rows(x))
    return out


def sigmoid(x):
    if not for_kernels(x):
        return reference.sigmoid(x)
    [x] = f32(x)
    out = np.empty_like(x)
    lib.sigmoid(floats(out), floats(x), *rows(x))
    return out


def swiglu(gate, up):
    if not (for_kernels(gate, up) and gate.shape == up.shape):
        return reference.swiglu(gate, up)
    gate, up = f32(gate, up)
    out = np.empty_like(gate)
    lib.swiglu(floats(out), floats(gate), floats(up), *rows(gate))
    return out


def gelu(x):
    if not for_kernels(x):
        return reference.gelu(x)
    [x] = f32(x)
    out = np.empty_like(x)
    lib.gelu(floats(out), floats(x), *rows(x))
    return out


def embed(tokens, embedding, dtype="float32"):
    fits = shaped(embedding, None, None) and embedding.dtype.name in FLOATS and np.dtype(dtype) == np.float32
    fits = fits and embedding.strides[1] == embedding.itemsize and embedding.shape[1] > 0
    if not (fits and integers(tokens, len(embedding)) and tokens.min() >= 0):
        return reference.embed(tokens, embedding, dtype)
    table = matrix(embedding)
    tokens = np.require(tokens, np.int64, ["C", "A"])
    out = np.empty((*tokens.shape, embedding.shape[1]), np.float32)
    lib.embed(floats(out), ffi.from_buffer("int64_t[]", tokens), table, tokens.size, embedding.shape[1])
    return out


def linear(x, w, bias=None):
    if not (for_kernels(x) and readable(w, x.shape[-1], None) and (bias is None or shaped(bias, w.shape[1]))):
        return reference.linear(x, w, bias)
    m, (x, bias) = matrix(w), f32(x, bias)
    out = np.empty((*x.shape[:-1], w.shape[1]), np.float32)
    lib.linear(floats(out), floats(x), m, floats(bias), rows(x)[0], *w.shape)
    return out


def grouped_query_attention(q, k, v, causal=True, chunk=None, first=0):
    fits = for_kernels(q) and q.ndim == len(k.shape) == 4 and k.shape == v.shape and k.shape[::3] == q.shape[::3]
    fits = fits and k.shape[2] > 0 and q.shape[2] % k.shape[2] == 0 and k.shape[1] >= q.shape[1] and type(k) is type(v)
    if not (fits and (chunk is None or whole(chunk)) and first >= 0):
        return reference.grouped_query_attention(q, k, v, causal, chunk, first)
    [q], keys, values = f32(q), past(k), past(v)
    out = np.empty_like(q)
    B, T, H, d = q.shape
    lib.grouped_query_attention(floats(out), floats(q), keys, values, causal, chunk or 0, first, B, T, k.shape[1], H,
                                k.shape[2], d)
    return out


def router(x, w_router, top_k=1):
    if not (for_kernels(x) and x.ndim == 2 and readable(w_router, x.shape[1], None) and whole(top_k)):
        return reference.router(x, w_router, top_k)
    [x], w = f32(x), matrix(w_router)
    (N, D), E = x.shape, w_router.shape[1]
    expert, gate = (np.empty((N, min(top_k, E)), dtype) for dtype in (np.int64, np.float32))
    lib.router(ffi.from_buffer("int64_t[]", expert), floats(gate), floats(x), w, gate.shape[1], N, D, E)
    return expert, gate


def load_balance(x, w_router, top_k=1):
    if not (for_kernels(x) and x.ndim == 2 and readable(w_router, x.shape[1], None) and whole(top_k)):
        return reference.load_balance(x, w_router, top_k)
    [x], w, E = f32(x), matrix(w_router), w_router.shape[1]
    out = ffi.new("double *")
    lib.load_balance(out, floats(x), w, min(top_k, E), *x.shape, E)
    return out[0]


def experts(x, expert, gate, w_gate, w_up, w_down):
    fits = for_kernels(x, gate) and x.ndim == 2 and shaped(gate, len(x), None) and len(w_gate.shape) == 3
    E, D, F = w_gate.shape if fits else (0, 0, 0)
    fits = fits and x.shape[1] == D and readable(w_down, E, F, D) and all(readable(w, E, D, F) for w in (w_gate, w_up))
    if not (fits and shaped(expert, *gate.shape) and integers(expert, E) and expert.min() >= 0):
        return reference.experts(x, expert, gate, w_gate, w_up, w_down)
    gates, ups, downs = matrix(w_gate), matrix(w_up), matrix(w_down)
    [x, gate], expert = f32(x, gate), np.require(expert, np.int64, ["C", "A"])
    out = np.empty_like(x)
    lib.experts(floats(out), floats(x), ffi.from_buffer("int64_t[]", expert), floats(gate), gates, ups, downs,
                *gate.shape, D, E, F)
    return out


def patchify(tiles, patch):
    if not (for_kernels(tiles) and tiles.ndim == 4 and whole(patch) and all(n % patch == 0 for n in tiles.shape[2:])):
        return reference.patchify(tiles, patch)
    [tiles] = f32(tiles)
    (B, C), R, S = tiles.shape[:2], tiles.shape[2] // patch, tiles.shape[3] // patch
    out = np.empty((B, R * S, C * patch * patch), np.float32)
    lib.patchify(floats(out), floats(tiles), patch, B, C, R, S)
    return out


def pixel_shuffle(x, side):
    fits = for_kernels(x) and x.ndim == 3 and whole(side)
    n = math.isqrt(x.shape[1]) if fits else 0
    if not (fits and n * n == x.shape[1] and n % side == 0):
        return reference.pixel_shuffle(x, side)
    [x] = f32(x)
    out = np.empty((len(x), (n // side) ** 2, side * side * x.shape[2]), np.float32)
    lib.pixel_shuffle(floats(out), floats(x), side, len(x), n // side, x.shape[2])
    return out


def fuse(x, places, features):
    fits = for_kernels(x, features) and x.ndim == 2 and shaped(places, len(x)) and places.dtype == bool
    if not (fits and features.shape == (np.count_nonzero(places), x.shape[1])):
        return reference.fuse(x, places, features)
    x, features = f32(x, features)
    places = ffi.from_buffer("uint8_t[]", np.ascontiguousarray(places))
    out = np.empty_like(x)
    lib.fuse(floats(out), floats(x), places, floats(features), *x.shape)
    return out


def top_k(logits, k):
    if not (for_kernels(logits) and whole(k)):
        return reference.top_k(logits, k)
    [logits] = f32(logits)
    out = np.empty_like(logits)
    lib.top_k(floats(out), floats(logits), min(k, logits.shape[-1]), *rows(logits))
    return out


def top_p(probabilities, p):
    if not for_kernels(probabilities):
        return reference.top_p(probabilities, p)
    [probabilities] = f32(probabilities)
    out = np.empty_like(probabilities)
    lib.top_p(floats(out), floats(probabilities), p, *rows(probabilities))
    return out


def sample(logits, uniform, temperature=1.0, k=None, p=None):
    if not (for_kernels(logits) and logits.ndim == 1 and 0 < temperature < math.inf and (k is None or whole(k))):
        return reference.sample(logits, uniform, temperature, k, p)
    [logits], V = f32(logits), len(logits)
    token = ffi.new("int *")
    lib.sample(token, floats(logits), uniform, temperature, min(k or V, V), math.inf if p is None else p, V)
    return token[0]


def cross_entropy(logits, targets):
    fits = for_kernels(logits) and logits.ndim == 2 and shaped(targets, len(logits))
    if not (fits and integers(targets, logits.shape[1]) and targets.max() >= 0):
        return reference.cross_entropy(logits, targets)
    [logits], targets = f32(logits), np.require(targets, np.int64, ["C", "A"])
    losses = np.empty(len(logits))
    lib.cross_entropy(ffi.from_buffer("double[]", losses), floats(logits), ffi.from_buffer("int64_t[]", targets),
                      *logits.shape)
    return float(losses.sum() / np.count_nonzero(targets >= 0))


def soft_cross_entropy(logits, teacher):
    if not (for_kernels(logits, teacher) and logits.ndim == 2 and logits.shape == teacher.shape):
        return reference.soft_cross_entropy(logits, teacher)
    logits, teacher = f32(logits, teacher)
    losses = np.empty(len(logits))
    lib.soft_cross_entropy(ffi.from_buffer("double[]", losses), floats(logits), floats(teacher), *logits.shape)
    return float(losses.mean())


def adamw_step(w, g, m, v, step, lr, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1):
    if not (for_kernels(w, g, m, v) and w.shape == g.shape == m.shape == v.shape and step >= 1):
        return reference.adamw_step(w, g, m, v, step, lr, beta1, beta2, eps, decay)
    inputs = f32(w, g, m, v)
    outs = [np.empty(w.shape, np.float32) for _ in range(3)]
    lib.adamw_step(*map(floats, outs), *map(floats, inputs), step, lr, beta1, beta2, eps, decay, w.size)
    return tuple(outs)


def muon_step(w, g, m, lr, momentum=0.95, decay=0.1):
    if not (for_kernels(w, g, m) and w.ndim >= 2 and w.shape == g.shape == m.shape):
        return reference.muon_step(w, g, m, lr, momentum, decay)
    inputs = f32(w, g, m)
    outs = np.empty_like(inputs[0]), np.empty_like(inputs[0])
    lib.muon_step(*map(floats, outs), *map(floats, inputs), lr, momentum, decay, math.prod(w.shape[:-2]), *w.shape[-2:])
    return outs


def decode(x, w, config, cache):
    """A token through all layers and the last norm at once, or None where C cannot: see tinyscout.text.text_model.

    x (1, 1, D), w Text, config TextConfig, cache Cache  ->  (1, 1, D)
    """
    if cache is None or x.shape[:2] != (1, 1):
        return None
    decoder = cache.prepared
    if decoder is None or not decoder.fits(w, config):
        if not decodable(x, w, config, cache):
            return None
        decoder = cache.prepared = Decoder(w, config)
    return rms_norm(decoder(x, cache), w.norm, config.norm_eps)
