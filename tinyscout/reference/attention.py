"""Attention: every token reads a weighted mean of the tokens that it may see."""
import math

import numpy as np

from tinyscout.reference.quantize import dense, part

SCORES_AT_ONCE = 1 << 22    # bounds the memory of one block of queries: 16 MB of float32
KEYS_AT_ONCE = 1 << 12      # a cache in few bits is made plain numbers that many tokens at a time


def causal_mask(queries, keys):
    """May the token at position t look at position s?  Only at the past and itself, equation (causal).

    queries (T,) int, keys (S,) int  ->  (T, S) bool
    """
    return keys[None, :] <= queries[:, None]


def chunked_mask(queries, keys, chunk):
    """The past, and only inside one's own chunk of `chunk` tokens, equation (chunked).

    queries (T,) int, keys (S,) int, chunk int  ->  (T, S) bool
    """
    return causal_mask(queries, keys) & (keys[None, :] // chunk == queries[:, None] // chunk)


def attention_temperature(positions, floor, scale):
    """By how much a query of a NoPE layer is sharpened as the past grows, equation (temperature).

    positions (T,) int, floor float in tokens, scale float  ->  (T,) float64
    """
    return 1 + scale * np.log1p(np.floor((np.asarray(positions, np.float64) + 1) / floor))


def softmax(x):
    """Positive numbers that sum to one along the last axis, equation (softmax).

    x (..., S)  ->  (..., S)
    """
    e = np.exp(x - x.max(-1, keepdims=True))
    e /= e.sum(-1, keepdims=True)
    return e


def attend(q, k, v, mask):
    """One block of queries against the keys it may see, equation (gqa).

    q (B, T, H, d), k and v (B, S, K, d) in any form, mask (T, S) bool or None  ->  (B, T, H, d)
    """
    B, T, H, d = q.shape
    K, S = k.shape[2], k.shape[1]
    q = q.reshape(B, T, K, H // K, d).transpose(0, 2, 3, 1, 4).reshape(B, K, -1, d)         # G heads share a key
    pieces = [np.s_[:, n:n + KEYS_AT_ONCE] for n in range(0, S, KEYS_AT_ONCE)]
    scores = np.empty((*q.shape[:3], S), q.dtype)                       # (B, K, G*T, S)
    for piece in pieces:
        keys = dense(part(k, piece), q.dtype).transpose(0, 2, 3, 1)     # (B, K, d, up to KEYS_AT_ONCE)
        np.matmul(q, keys, out=scores[..., piece[1]])
    scores *= 1 / math.sqrt(d)
    if mask is not None:
        np.copyto(scores.reshape(B, K, H // K, T, -1), -np.inf, where=~mask)
    weights = softmax(scores)
    y = np.zeros_like(q)                                                # (B, K, G*T, d)
    for piece in pieces:
        y += weights[..., piece[1]] @ dense(part(v, piece), q.dtype).transpose(0, 2, 1, 3)
    return y.reshape(B, K, H // K, T, d).transpose(0, 3, 1, 2, 4).reshape(B, T, H, d)


def grouped_query_attention(q, k, v, causal=True, chunk=None, first=0):
    """Softmax attention in which G = H/K query heads share each key and value head, equation (gqa).

    q (B, T, H, d), k and v (B, S, K, d) in any form  ->  (B, T, H, d)

    The keys stand at S consecutive positions from `first` on, and the queries at the last T of them.
    causal: a query sees no later key.  chunk: nor one of another chunk of that many tokens.
    A T x S matrix is never built: queries go in blocks, against only the keys that a block can see.
    """
    T, S, H = q.shape[1], k.shape[1], q.shape[2]
    if not causal:
        return attend(q, k, v, None)
    positions = first + np.arange(S)
    most = SCORES_AT_ONCE // max(1, q.shape[0] * H)
    y = np.empty_like(q)
    at = 0
    while at < T:
        start = S - T + at                                              # the block's first query among the keys
        low = 0 if chunk is None else max(0, positions[start] // chunk * chunk - first)
        n = start - low                                                 # rows * (n + rows) scores: no more than most
        rows = max(1, min(T - at, int((math.sqrt(n * n + 4 * most) - n) / 2)))
        if chunk is not None:
            rows = min(rows, chunk - positions[start] % chunk)          # a block ends with its chunk
        queries, keys = positions[start:start + rows], positions[low:start + rows]
        mask = causal_mask(queries, keys) if chunk is None else chunked_mask(queries, keys, chunk)
        seen = np.s_[:, low:start + rows]
        y[:, at:at + rows] = attend(q[:, at:at + rows], part(k, seen), part(v, seen), mask)
        at += rows
    return y
