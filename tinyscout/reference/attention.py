"""Attention: every token reads a weighted mean of the tokens that it may see."""
import math

import numpy as np

from tinyscout.reference.quantize import take, to_dense

MAX_SCORES_PER_BLOCK = 1 << 22      # bounds the memory of one block of queries: 16 MB of float32
KEYS_PER_BLOCK = 1 << 12            # tokens of a quantized cache that are dequantized together


def causal_mask(queries, keys):
    """Mask of the keys that each query may attend to: its own position and earlier ones, equation (causal).

    queries (T,) int, keys (S,) int  ->  (T, S) bool
    """
    return keys[None, :] <= queries[:, None]


def chunked_mask(queries, keys, chunk):
    """Causal mask that is also limited to the query's chunk of `chunk` tokens, equation (chunked).

    queries (T,) int, keys (S,) int, chunk int  ->  (T, S) bool
    """
    return causal_mask(queries, keys) & (keys[None, :] // chunk == queries[:, None] // chunk)


def attention_temperature(positions, floor, scale):
    """Factor on the queries of a NoPE layer, which grows with their positions, equation (temperature).

    positions (T,) int, floor float in tokens, scale float  ->  (T,) float64
    """
    return 1 + scale * np.log1p(np.floor((np.asarray(positions, np.float64) + 1) / floor))


def softmax(x):
    """Softmax along the last axis, equation (softmax).

    x (..., S)  ->  (..., S)
    """
    e = np.exp(x - x.max(-1, keepdims=True))
    e /= e.sum(-1, keepdims=True)
    return e


def softmax_backward(dy, x):
    """Gradient of softmax: y times dy minus its y-weighted mean, equation (softmax-backward).

    dy and x (..., S)  ->  dx (..., S)
    """
    y = softmax(x)
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def naive_attention(q, k, v, causal=True, chunk=None, kv_start=0):
    """Equation (gqa) as written, with all T x S scores in memory.

    Arguments and result as in `grouped_query_attention`, which computes the same in blocks.
    """
    T, S, G = q.shape[1], k.shape[1], q.shape[2] // k.shape[2]
    k, v = (to_dense(a, q.dtype).repeat(G, axis=2) for a in (k, v))     # (B, S, H, d): G query heads read the same keys
    scores = np.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    if causal:
        keys = kv_start + np.arange(S)
        queries = keys[S - T:]
        mask = causal_mask(queries, keys) if chunk is None else chunked_mask(queries, keys, chunk)
        scores = np.where(mask, scores, -np.inf)
    return np.einsum("bhts,bshd->bthd", softmax(scores), v)


# From here on, the same in blocks: of queries, to bound the memory, and of keys, which may be quantized.


def group_heads(q, K):
    """Stack the G query heads that share a key head: (B, T, H, d) -> (B, K, G*T, d)."""
    B, T, H, d = q.shape
    return q.reshape(B, T, K, H // K, d).transpose(0, 2, 3, 1, 4).reshape(B, K, -1, d)


def ungroup_heads(y, T, H):
    """The inverse of `group_heads`: (B, K, G*T, d) -> (B, T, H, d)."""
    B, K, _, d = y.shape
    return y.reshape(B, K, H // K, T, d).transpose(0, 3, 1, 2, 4).reshape(B, T, H, d)


def attention_weights(q, k, mask):
    """Attention weights of each query for each key, equation (gqa).

    q (B, K, G*T, d) from `group_heads`, k (B, S, K, d) in any format, mask (T, S) bool or None  ->  (B, K, G*T, S)
    """
    B, K, GT, d = q.shape
    scores = np.empty((B, K, GT, k.shape[1]), q.dtype)
    for block in key_blocks(k):
        keys = to_dense(take(k, block), q.dtype).transpose(0, 2, 3, 1)  # (B, K, d, up to KEYS_PER_BLOCK)
        np.matmul(q, keys, out=scores[..., block[1]])
    scores *= 1 / math.sqrt(d)
    if mask is not None:
        np.copyto(scores.reshape(B, K, -1, *mask.shape), -np.inf, where=~mask)
    return softmax(scores)


def key_blocks(k):
    """Indices of the blocks of keys, or of values, that are dequantized together."""
    return [np.s_[:, n:n + KEYS_PER_BLOCK] for n in range(0, k.shape[1], KEYS_PER_BLOCK)]


def attend_block(q, k, v, mask):
    """Attention of one block of queries to the keys that it can see, equation (gqa).

    q (B, T, H, d), k and v (B, S, K, d) in any format, mask (T, S) bool or None  ->  (B, T, H, d)
    """
    rows = group_heads(q, k.shape[2])
    weights = attention_weights(rows, k, mask)
    y = np.zeros_like(rows)
    for block in key_blocks(v):
        y += weights[..., block[1]] @ to_dense(take(v, block), q.dtype).transpose(0, 2, 1, 3)
    return ungroup_heads(y, *q.shape[1:3])


def attend_block_backward(dy, q, k, v, mask):
    """Gradient of attend_block, equation (gqa-backward).

    dy (B, T, H, d), the rest as in `attend_block`, k and v not quantized  ->  dq (B, T, H, d), dk and dv (B, S, K, d)
    """
    (T, H, d), K = q.shape[1:], k.shape[2]
    rows, dy = group_heads(q, K), group_heads(dy, K)
    weights = attention_weights(rows, k, mask)
    dv = weights.swapaxes(2, 3) @ dy                                    # (B, K, S, d)
    d_scores = dy @ v.transpose(0, 2, 3, 1)                             # so far, gradient of the weights
    d_scores -= (d_scores * weights).sum(-1, keepdims=True)
    d_scores *= weights
    d_scores *= 1 / math.sqrt(d)
    dk = d_scores.swapaxes(2, 3) @ rows
    return ungroup_heads(d_scores @ k.swapaxes(1, 2), T, H), dk.swapaxes(1, 2), dv.swapaxes(1, 2)


def query_blocks(q, k, causal, chunk, kv_start):
    """Yield blocks of queries with only the keys that they can see, so that a T x S matrix is never built.

    Arguments as in `grouped_query_attention`  ->  yields index of the queries, index of the keys, mask (t, s) or None
    """
    T, S, H = q.shape[1], k.shape[1], q.shape[2]
    if not causal:
        yield np.s_[:], np.s_[:], None
        return
    positions = kv_start + np.arange(S)
    max_scores = MAX_SCORES_PER_BLOCK // max(1, q.shape[0] * H)         # per head and sequence
    at = 0
    while at < T:
        start = S - T + at                                              # the block's first query among the keys
        low = 0 if chunk is None else max(0, positions[start] // chunk * chunk - kv_start)
        n = start - low                                                 # rows * (n + rows) scores <= max_scores
        rows = max(1, min(T - at, int((math.sqrt(n * n + 4 * max_scores) - n) / 2)))
        if chunk is not None:
            rows = min(rows, chunk - positions[start] % chunk)          # a block ends with its chunk
        queries, keys = positions[start:start + rows], positions[low:start + rows]
        mask = causal_mask(queries, keys) if chunk is None else chunked_mask(queries, keys, chunk)
        yield np.s_[:, at:at + rows], np.s_[:, low:start + rows], mask
        at += rows


def grouped_query_attention(q, k, v, causal=True, chunk=None, kv_start=0):
    """Softmax attention in which G = H/K query heads share each key and value head, equation (gqa).

    q (B, T, H, d), k and v (B, S, K, d) in any format  ->  (B, T, H, d)

    The keys have S consecutive positions from `kv_start` on, and the queries the last T of them.
    causal: a query sees no later key.  chunk: nor a key outside its chunk of `chunk` tokens.
    """
    y = np.empty_like(q)
    for queries, keys, mask in query_blocks(q, k, causal, chunk, kv_start):
        y[queries] = attend_block(q[queries], take(k, keys), take(v, keys), mask)
    return y


def grouped_query_attention_backward(dy, q, k, v, causal=True, chunk=None, kv_start=0):
    """Gradient of grouped_query_attention, recomputing the weights block by block, equation (gqa-backward).

    dy (B, T, H, d), the rest as in `grouped_query_attention`, k and v not quantized  ->  dq, dk, dv
    """
    dq, dk, dv = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
    for queries, keys, mask in query_blocks(q, k, causal, chunk, kv_start):
        dq[queries], block_dk, block_dv = attend_block_backward(dy[queries], q[queries], k[keys], v[keys], mask)
        dk[keys] += block_dk
        dv[keys] += block_dv
    return dq, dk, dv
