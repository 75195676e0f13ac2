"""The reference, with these functions replaced by CUDA (csrc/cuda): on a GPU through CuPy, else in the simulator.

If a kernel does not support its arguments (dtypes other than float32, empty arrays, shapes that do not match), the call
falls back to the reference, which computes the result or raises an error.  The function that makes a kernel's Launch is
right above its operation.
"""
import math

import numpy as np

from tinyscout import reference
from tinyscout.kernels import device, nvrtc
from tinyscout.kernels.device import as_float32, as_typed, empty, like_input, xp
from tinyscout.kernels.device import device_note as device_note
from tinyscout.kernels.guards import (
    are_float32,
    are_float32_of_one_shape,
    are_ids_below,
    has_shape,
    is_positive_int,
    row_sizes,
)
from tinyscout.kernels.launch import BLOCK_SIZE, Launch, element_launch, kernel, row_launch
from tinyscout.reference import *  # noqa: F403  the functions that are not replaced below

# After the reference, whose names these replace: the products and the gradients are in separate files.
# isort: split
from tinyscout.kernels.cuda import backward
from tinyscout.kernels.cuda.backward import *  # noqa: F403
from tinyscout.kernels.cuda.matrix import *  # noqa: F403

asarray, asnumpy = device.asarray, device.asnumpy    # type: ignore[assignment]  # instead of the reference's

MAX_THREADS_PER_BLOCK = 1024
MAX_VOCAB = 1 << 19                         # tokens whose probabilities the integers of sampling.cu can sum
nvrtc.find_wheel()                          # raises an error that says what to install if it is missing


def rms_norm(x, weight=None, eps=1e-5):
    if not (are_float32(x) and (weight is None or has_shape(weight, x.shape[-1]))):
        return reference.rms_norm(x, weight, eps)
    out, (N, D) = empty(*x.shape), row_sizes(x)
    kernel("norm.cu", "rms_norm")(row_launch(N, D), out, *as_float32(x, weight), eps, N, D)
    return like_input(x, out)


def layer_norm(x, weight, bias, eps=1e-5):
    if not (are_float32(x) and has_shape(weight, x.shape[-1]) and has_shape(bias, x.shape[-1])):
        return reference.layer_norm(x, weight, bias, eps)
    out, (N, D) = empty(*x.shape), row_sizes(x)
    kernel("norm.cu", "layer_norm")(row_launch(N, D), out, *as_float32(x, weight, bias), eps, N, D)
    return like_input(x, out)


def apply_rope(x, cos, sin):
    fits = are_float32(x) and x.ndim == 4 and x.shape[3] % 2 == 0
    if not (fits and all(has_shape(a, x.shape[1], x.shape[3] // 2) for a in (cos, sin))):
        return reference.apply_rope(x, cos, sin)
    out, (B, T, H, d) = empty(*x.shape), x.shape
    kernel("rope.cu", "apply_rope")(row_launch(B * T, H * d), out, *as_float32(x, cos, sin), B, T, H, d)
    return like_input(x, out)


def apply_rope_backward(dy, x, cos, sin):
    return apply_rope(dy, cos, -sin)


def softmax(x):
    if not are_float32(x):
        return reference.softmax(x)
    out, (N, S) = empty(*x.shape), row_sizes(x)
    kernel("softmax.cu", "softmax")(row_launch(N, S), out, *as_float32(x), N, S)
    return like_input(x, out)


def sigmoid(x):
    if not are_float32(x):
        return reference.sigmoid(x)
    out = empty(*x.shape)
    kernel("activation.cu", "sigmoid")(element_launch(x.size), out, *as_float32(x), *row_sizes(x))
    return like_input(x, out)


def swiglu(gate, up):
    if not (are_float32(gate, up) and gate.shape == up.shape):
        return reference.swiglu(gate, up)
    out = empty(*gate.shape)
    kernel("activation.cu", "swiglu")(element_launch(gate.size), out, *as_float32(gate, up), *row_sizes(gate))
    return like_input(gate, out)


def gelu(x):
    if not are_float32(x):
        return reference.gelu(x)
    out = empty(*x.shape)
    kernel("activation.cu", "gelu")(element_launch(x.size), out, *as_float32(x), *row_sizes(x))
    return like_input(x, out)


def embed(tokens, embedding, dtype="float32"):
    fits = are_float32(embedding) and embedding.ndim == 2 and embedding.flags.c_contiguous
    fits = fits and np.dtype(dtype) == np.float32 and are_ids_below(tokens, len(embedding))
    if not (fits and tokens.min() >= 0):
        return reference.embed(tokens, embedding, dtype)
    N, D = tokens.size, embedding.shape[1]
    out = empty(*tokens.shape, D)
    kernel("embed.cu", "embed")(row_launch(N, D), out, *as_typed(np.int64, tokens), *as_float32(embedding), N, D)
    return like_input(tokens, out)


def router_launch(N, E):
    """A block for each of N tokens: a multiple of E threads, and shared memory for a float per thread and E more."""
    threads = E * max(1, BLOCK_SIZE // E)
    return Launch((N,), (threads,), 4 * (threads + E))


def router(x, w_router, top_k=1):
    fits = are_float32(x, w_router) and x.ndim == 2 and has_shape(w_router, x.shape[1], None)
    if not (fits and w_router.shape[1] <= MAX_THREADS_PER_BLOCK and is_positive_int(top_k)):
        return reference.router(x, w_router, top_k)
    (N, D), E = x.shape, w_router.shape[1]
    k = min(top_k, E)
    expert, gate = empty(N, k, dtype=np.int64), empty(N, k)
    kernel("router.cu", "router")(router_launch(N, E), expert, gate, *as_float32(x, w_router), k, N, D, E)
    return like_input(x, expert, gate)


def router_backward(d_gate, x, w_router, top_k=1):
    fits = are_float32(d_gate, x, w_router) and x.ndim == 2 and has_shape(w_router, x.shape[1], None)
    E = w_router.shape[1] if fits else 0
    fits = fits and E <= MAX_THREADS_PER_BLOCK and is_positive_int(top_k)
    if not (fits and has_shape(d_gate, len(x), min(top_k, E))):
        return reference.router_backward(d_gate, x, w_router, top_k)
    d_gate_, x_, w_ = as_float32(d_gate, x, w_router)           # on the device
    expert, gate = router(x_, w_, top_k)
    d_scores = xp.zeros((len(x), E), np.float32)
    d_scores[xp.arange(len(x))[:, None], expert] = d_gate_ * gate * (1 - gate)
    return like_input(x, *backward.linear_backward(d_scores, x_, w_)[:2])


def patchify(tiles, patch):
    fits = are_float32(tiles) and tiles.ndim == 4 and is_positive_int(patch)
    if not (fits and all(n % patch == 0 for n in tiles.shape[2:])):
        return reference.patchify(tiles, patch)
    (B, C), R, S = tiles.shape[:2], tiles.shape[2] // patch, tiles.shape[3] // patch
    out = empty(B, R * S, C * patch * patch)
    kernel("patches.cu", "patchify")(row_launch(B * R * S, out.shape[2]), out, *as_float32(tiles), patch, B, C, R, S)
    return like_input(tiles, out)


def pixel_shuffle(x, side):
    fits = are_float32(x) and x.ndim == 3 and is_positive_int(side)
    n = math.isqrt(x.shape[1]) if fits else 0
    if not (fits and n * n == x.shape[1] and n % side == 0):
        return reference.pixel_shuffle(x, side)
    B, R, D = len(x), n // side, x.shape[2]
    out = empty(B, R * R, side * side * D)
    kernel("patches.cu", "pixel_shuffle")(row_launch(B * R * R, out.shape[2]), out, *as_float32(x), side, B, R, D)
    return like_input(x, out)


def fuse(x, mask, features):
    fits = are_float32(x, features) and x.ndim == 2 and has_shape(mask, len(x)) and mask.dtype == bool
    if not (fits and features.shape == (int(mask.sum()), x.shape[1])):
        return reference.fuse(x, mask, features)
    out, (T, D) = empty(*x.shape), x.shape
    x_, features_ = as_float32(x, features)
    kernel("fusion.cu", "fuse")(row_launch(T, D), out, x_, *as_typed(np.uint8, mask), features_, T, D)
    return like_input(x, out)


def top_k(logits, k):
    if not (are_float32(logits) and is_positive_int(k)):
        return reference.top_k(logits, k)
    out, (N, V) = empty(*logits.shape), row_sizes(logits)
    kernel("sampling.cu", "top_k")(row_launch(N, V, MAX_THREADS_PER_BLOCK), out, *as_float32(logits), min(k, V), N, V)
    return like_input(logits, out)


def top_p(probabilities, p):
    if not (are_float32(probabilities) and p >= 0 and probabilities.shape[-1] <= MAX_VOCAB):
        return reference.top_p(probabilities, p)
    out, (N, V) = empty(*probabilities.shape), row_sizes(probabilities)
    kernel("sampling.cu", "top_p")(row_launch(N, V, MAX_THREADS_PER_BLOCK), out, *as_float32(probabilities), p, N, V)
    return like_input(probabilities, out)


def sample(logits, uniform, temperature=1.0, k=None, p=None):
    fits = are_float32(logits) and logits.ndim == 1 and 0 < temperature < math.inf and (k is None or is_positive_int(k))
    if not (fits and (p is None or p >= 0) and len(logits) <= MAX_VOCAB):
        return reference.sample(logits, uniform, temperature, k, p)
    out, V = empty(1, dtype=np.int32), len(logits)
    kernel("sampling.cu", "sample")(row_launch(1, V, MAX_THREADS_PER_BLOCK), out, *as_float32(logits), uniform,
                                    temperature, min(k or V, V), math.inf if p is None else p, V)
    return int(out[0])


def cross_entropy(logits, targets):
    fits = are_float32(logits) and logits.ndim == 2 and has_shape(targets, len(logits))
    if not (fits and are_ids_below(targets, logits.shape[1]) and targets.max() >= 0):
        return reference.cross_entropy(logits, targets)
    out, (N, V) = empty(len(logits), dtype=np.float64), logits.shape
    kernel("loss.cu", "cross_entropy")(row_launch(N, V), out, *as_float32(logits), *as_typed(np.int64, targets), N, V)
    return float(out.sum() / (targets >= 0).sum())


def adamw_step(w, g, m, v, step, lr, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1):
    if not (are_float32_of_one_shape(w, g, m, v) and step >= 1):
        return reference.adamw_step(w, g, m, v, step, lr, beta1, beta2, eps, decay)
    outs = [empty(*w.shape) for _ in range(3)]
    kernel("adamw.cu", "adamw_step")(element_launch(w.size, 1), *outs, *as_float32(w, g, m, v), step, lr, beta1, beta2,
                                     eps, decay, w.size)
    return like_input(w, *outs)
