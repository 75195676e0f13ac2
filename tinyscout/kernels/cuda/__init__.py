"""The reference, with these names replaced by CUDA (csrc/cuda): on a GPU through CuPy, else in the simulator.

What a kernel was not made for is left to the reference, which computes it or says what is wrong: other types than
float32, arrays without elements, shapes that do not fit.  How a kernel is launched stands right above its operation.
"""
import math

import numpy as np

from tinyscout import reference
from tinyscout.kernels import device, nvrtc
from tinyscout.kernels.cuda import backward, matrix
from tinyscout.kernels.device import beside, empty, f32, typed, xp
from tinyscout.kernels.device import note as note
from tinyscout.kernels.guards import for_kernels, integers, rows, shaped, whole
from tinyscout.kernels.launch import BLOCK, Launch, element_launch, kernel, row_launch
from tinyscout.reference import *  # noqa: F403  what is not below is the reference itself

asarray, asnumpy = device.asarray, device.asnumpy    # type: ignore[assignment]  # what stands above is NumPy's
linear = matrix.linear                                     # the products have a file of their own
grouped_query_attention = matrix.grouped_query_attention
experts = matrix.experts
muon_step = matrix.muon_step
rms_norm_backward = backward.rms_norm_backward             # and so have the gradients
layer_norm_backward = backward.layer_norm_backward
softmax_backward = backward.softmax_backward
sigmoid_backward = backward.sigmoid_backward
swiglu_backward = backward.swiglu_backward
gelu_backward = backward.gelu_backward
embed_backward = backward.embed_backward
linear_backward = backward.linear_backward
grouped_query_attention_backward = backward.grouped_query_attention_backward
experts_backward = backward.experts_backward
cross_entropy_backward = backward.cross_entropy_backward

LARGEST = 1024          # threads of a block
nvrtc.wheel()                               # without the compiler this says, in one line, what to install


def rms_norm(x, weight=None, eps=1e-5):
    if not (for_kernels(x) and (weight is None or shaped(weight, x.shape[-1]))):
        return reference.rms_norm(x, weight, eps)
    out, (N, D) = empty(*x.shape), rows(x)
    kernel("norm.cu", "rms_norm")(row_launch(N, D), out, *f32(x, weight), eps, N, D)
    return beside(x, out)


def layer_norm(x, weight, bias, eps=1e-5):
    if not (for_kernels(x) and shaped(weight, x.shape[-1]) and shaped(bias, x.shape[-1])):
        return reference.layer_norm(x, weight, bias, eps)
    out, (N, D) = empty(*x.shape), rows(x)
    kernel("norm.cu", "layer_norm")(row_launch(N, D), out, *f32(x, weight, bias), eps, N, D)
    return beside(x, out)


def apply_rope(x, cos, sin):
    fits = for_kernels(x) and x.ndim == 4 and x.shape[3] % 2 == 0
    if not (fits and all(shaped(a, x.shape[1], x.shape[3] // 2) for a in (cos, sin))):
        return reference.apply_rope(x, cos, sin)
    out, (B, T, H, d) = empty(*x.shape), x.shape
    kernel("rope.cu", "apply_rope")(row_launch(B * T, H * d), out, *f32(x, cos, sin), B, T, H, d)
    return beside(x, out)


def apply_rope_backward(dy, x, cos, sin):
    return apply_rope(dy, cos, -sin)


def softmax(x):
    if not for_kernels(x):
        return reference.softmax(x)
    out, (N, S) = empty(*x.shape), rows(x)
    kernel("softmax.cu", "softmax")(row_launch(N, S), out, *f32(x), N, S)
    return beside(x, out)


def sigmoid(x):
    if not for_kernels(x):
        return reference.sigmoid(x)
    out = empty(*x.shape)
    kernel("activation.cu", "sigmoid")(element_launch(x.size), out, *f32(x), *rows(x))
    return beside(x, out)


def swiglu(gate, up):
    if not (for_kernels(gate, up) and gate.shape == up.shape):
        return reference.swiglu(gate, up)
    out = empty(*gate.shape)
    kernel("activation.cu", "swiglu")(element_launch(gate.size), out, *f32(gate, up), *rows(gate))
    return beside(gate, out)


def gelu(x):
    if not for_kernels(x):
        return reference.gelu(x)
    out = empty(*x.shape)
    kernel("activation.cu", "gelu")(element_launch(x.size), out, *f32(x), *rows(x))
    return beside(x, out)


def embed(tokens, embedding, dtype="float32"):
    fits = for_kernels(embedding) and embedding.ndim == 2 and embedding.flags.c_contiguous
    fits = fits and np.dtype(dtype) == np.float32 and integers(tokens, len(embedding))
    if not (fits and tokens.min() >= 0):
        return reference.embed(tokens, embedding, dtype)
    N, D = tokens.size, embedding.shape[1]
    out = empty(*tokens.shape, D)
    kernel("embed.cu", "embed")(row_launch(N, D), out, *typed(np.int64, tokens), *f32(embedding), N, D)
    return beside(tokens, out)


def router_launch(N, E):
    """One block for each of N tokens, with as many times E threads as fit, and a float for each of them and E more."""
    threads = E * max(1, BLOCK // E)
    return Launch((N,), (threads,), 4 * (threads + E))


def router(x, w_router, top_k=1):
    fits = for_kernels(x, w_router) and x.ndim == 2 and shaped(w_router, x.shape[1], None)
    if not (fits and w_router.shape[1] <= LARGEST and whole(top_k)):
        return reference.router(x, w_router, top_k)
    (N, D), E = x.shape, w_router.shape[1]
    k = min(top_k, E)
    expert, gate = empty(N, k, dtype=np.int64), empty(N, k)
    kernel("router.cu", "router")(router_launch(N, E), expert, gate, *f32(x, w_router), k, N, D, E)
    return beside(x, expert, gate)


def router_backward(d_gate, x, w_router, top_k=1):
    fits = for_kernels(d_gate, x, w_router) and x.ndim == 2 and shaped(w_router, x.shape[1], None) and whole(top_k)
    E = w_router.shape[1] if fits else 0
    if not (fits and E <= LARGEST and shaped(d_gate, len(x), min(top_k, E))):
        return reference.router_backward(d_gate, x, w_router, top_k)
    d_gate_, x_, w_ = f32(d_gate, x, w_router)
    expert, gate = router(x_, w_, top_k)
    d_scores = xp.zeros((len(x), E), np.float32)
    d_scores[xp.arange(len(x))[:, None], expert] = d_gate_ * gate * (1 - gate)
    return beside(x, *linear_backward(d_scores, x_, w_)[:2])


def patchify(tiles, patch):
    fits = for_kernels(tiles) and tiles.ndim == 4 and whole(patch)
    if not (fits and all(n % patch == 0 for n in tiles.shape[2:])):
        return reference.patchify(tiles, patch)
    (B, C), R, S = tiles.shape[:2], tiles.shape[2] // patch, tiles.shape[3] // patch
    out = empty(B, R * S, C * patch * patch)
    kernel("patches.cu", "patchify")(row_launch(B * R * S, out.shape[2]), out, *f32(tiles), patch, B, C, R, S)
    return beside(tiles, out)


def pixel_shuffle(x, side):
    fits = for_kernels(x) and x.ndim == 3 and whole(side)
    n = math.isqrt(x.shape[1]) if fits else 0
    if not (fits and n * n == x.shape[1] and n % side == 0):
        return reference.pixel_shuffle(x, side)
    B, R, D = len(x), n // side, x.shape[2]
    out = empty(B, R * R, side * side * D)
    kernel("patches.cu", "pixel_shuffle")(row_launch(B * R * R, out.shape[2]), out, *f32(x), side, B, R, D)
    return beside(x, out)


def fuse(x, places, features):
    fits = for_kernels(x, features) and x.ndim == 2 and shaped(places, len(x)) and places.dtype == bool
    if not (fits and features.shape == (int(places.sum()), x.shape[1])):
        return reference.fuse(x, places, features)
    out, (T, D) = empty(*x.shape), x.shape
    x_, features_ = f32(x, features)
    kernel("fusion.cu", "fuse")(row_launch(T, D), out, x_, *typed(np.uint8, places), features_, T, D)
    return beside(x, out)


def top_k(logits, k):
    if not (for_kernels(logits) and whole(k)):
        return reference.top_k(logits, k)
    out, (N, V) = empty(*logits.shape), rows(logits)
    kernel("sampling.cu", "top_k")(row_launch(N, V, LARGEST), out, *f32(logits), min(k, V), N, V)
    return beside(logits, out)


def top_p(probabilities, p):
    if not (for_kernels(probabilities) and p >= 0 and probabilities.shape[-1] <= VOCABULARY):
        return reference.top_p(probabilities, p)
    out, (N, V) = empty(*probabilities.shape), rows(probabilities)
    kernel("sampling.cu", "top_p")(row_launch(N, V, LARGEST), out, *f32(probabilities), p, N, V)
    return beside(probabilities, out)


VOCABULARY = 1 << 19        # tokens whose probabilities sampling.cu can add up in its integers


def sample(logits, uniform, temperature=1.0, k=None, p=None):
    fits = for_kernels(logits) and logits.ndim == 1 and 0 < temperature < math.inf and (k is None or whole(k))
    if not (fits and (p is None or p >= 0) and len(logits) <= VOCABULARY):
        return reference.sample(logits, uniform, temperature, k, p)
    out, V = empty(1, dtype=np.int32), len(logits)
    kernel("sampling.cu", "sample")(row_launch(1, V, LARGEST), out, *f32(logits), uniform, temperature,
                                    min(k or V, V), math.inf if p is None else p, V)
    return int(out[0])


def cross_entropy(logits, targets):
    fits = for_kernels(logits) and logits.ndim == 2 and shaped(targets, len(logits))
    if not (fits and integers(targets, logits.shape[1]) and targets.max() >= 0):
        return reference.cross_entropy(logits, targets)
    out, (N, V) = empty(len(logits), dtype=np.float64), logits.shape
    kernel("loss.cu", "cross_entropy")(row_launch(N, V), out, *f32(logits), *typed(np.int64, targets), N, V)
    return float(out.sum() / (targets >= 0).sum())


def adamw_step(w, g, m, v, step, lr, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1):
    if not (for_kernels(w, g, m, v) and w.shape == g.shape == m.shape == v.shape and step >= 1):
        return reference.adamw_step(w, g, m, v, step, lr, beta1, beta2, eps, decay)
    outs = [empty(*w.shape) for _ in range(3)]
    kernel("adamw.cu", "adamw_step")(element_launch(w.size, 1), *outs, *f32(w, g, m, v), step, lr, beta1, beta2, eps,
                                     decay, w.size)
    return beside(w, *outs)
