"""Logits at some positions of a very long text, in memory that does not grow with it.

A chunked layer attends only within a chunk, so chunks can be computed in batches and dropped.  Only a global layer
needs the keys and values of all tokens; if only the last layer is global, only the queried tokens attend to them.
The text is therefore streamed, and each queried token keeps a running softmax over the keys so far.
"""
import math
from typing import Any, NamedTuple

import numpy as np

from tinyscout import reference
from tinyscout.nn.text import (
    attention_block,
    feed_forward_block,
    position_tables,
    position_tables_at,
    rotate_and_norm,
    scale_queries,
)
from tinyscout.progress import track

TOKENS_AT_ONCE = 1 << 11        # in whole chunks, at least one; their activations should fit into the CPU cache
SCORES_AT_ONCE = 1 << 21        # queries x heads x keys: 8 MB of float32


def logits_at(tokens, rows, weights, config, ops=reference):
    """Logits of the next token at some positions: these rows of `scout.forward`, without computing the others.

    tokens (T,) of any integer type, rows (R,) int positions in any order, weights Scout, config ScoutConfig
    ->  (R, V).  Raises ValueError for ids outside the vocabulary, patch tokens, or positions beyond the text.

    If only the last layer is global, memory holds `tokens` and the activations of a few thousand tokens.  If an earlier
    one is, it holds the vectors of all tokens, and each attends to all before it.  Equation (online-softmax).
    """
    tokens, rows = validate_inputs(tokens, rows, config)
    unique_rows, inverse = np.unique(rows, return_inverse=True)
    model = StreamingModel(tokens[:unique_rows[-1] + 1], weights.text, config.text, ops)
    y = ops.rms_norm(model.last_layer(unique_rows), weights.text.norm, config.text.norm_eps)
    return ops.linear(y, weights.text.output)[ops.asarray(inverse)]


def validate_inputs(tokens, rows, config):
    """Return both as arrays, without copying the tokens.  Raises ValueError if they are invalid."""
    tokens, rows, V = np.asarray(tokens), np.asarray(rows), config.text.vocab_size
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not tokens.size:
        raise ValueError("tokens must be one row of ids, and at least one")
    if tokens.min() < 0 or tokens.max() >= V:
        raise ValueError(f"token ids from {tokens.min()} to {tokens.max()}, but the vocabulary has {V}")
    if config.vision is not None and (tokens == config.patch_id).any():
        raise ValueError("there are patch tokens among the tokens, but no image can be given here")
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not rows.size or rows.min() < 0 or rows.max() >= len(tokens):
        raise ValueError(f"the positions asked for must be numbers from 0 to {len(tokens) - 1}, and at least one")
    return tokens, rows.astype(np.int64)


class StreamingModel:
    """Streams a text through the layers of a text model before the first global one, or before the last."""

    def __init__(self, tokens, w, config, ops):
        self.tokens, self.w, self.config, self.ops = tokens, w, config, ops
        self.last = len(config.layers) - 1
        self.n_streamed = next((n for n, layer in enumerate(config.layers[:-1]) if not layer.chunked), self.last)
        self.hidden_before_last = None      # (T, D), only if a layer before the last is global
        if self.n_streamed < self.last:
            self.hidden_before_last = self.compute_hidden_before_last()

    def iter_chunks(self, chunks=None):
        """Yield the inputs of the last layer; while hidden_before_last is computed, of the first that is not streamed.

        chunks (n,) int: which chunks of the text, in order; None for all  ->  yields positions (n,) int64, x (n, D)
        """
        c, T = self.config.chunk_size, len(self.tokens)
        chunks = np.arange(-(-T // c)) if chunks is None else chunks
        full, tail, n = chunks[chunks < T // c], chunks[chunks == T // c], max(1, TOKENS_AT_ONCE // c)
        groups = [full[begin:begin + n] for begin in range(0, len(full), n)] + ([tail] if len(tail) else [])
        for group in track(groups, "Reading"):
            positions = group[:, None] * c + np.arange(min(c, T - group[-1] * c))
            if self.hidden_before_last is None:
                yield positions.ravel(), self.stream(positions)
            else:
                yield positions.ravel(), self.hidden_before_last[self.ops.asarray(positions.ravel())]

    def stream(self, positions):
        """Run a batch of chunks through the streamed layers.  positions (n, t) int64  ->  (n * t, D)."""
        c, ops = self.config, self.ops
        table = self.w.embedding
        x = ops.embed(ops.asarray(self.tokens[positions].astype(np.int64)), table, np.result_type(table, np.float32))
        tables = position_tables_at(positions, c, x.dtype, ops)
        for layer, weights in zip(c.layers[:self.n_streamed], self.w.blocks, strict=False):
            x = attention_block(x, weights, layer, tables, c, None, ops)
            x = feed_forward_block(x, weights, c, ops)
        return x.reshape(-1, c.dim)

    def compute_hidden_before_last(self):
        """Run all tokens up to the last layer  ->  (T, D)."""
        c, ops = self.config, self.ops
        x = np.concatenate([x for _, x in self.iter_chunks()])[None]
        tables = position_tables(0, x.shape[1], c, x.dtype, ops)
        middle = list(zip(c.layers, self.w.blocks, strict=True))[self.n_streamed:self.last]
        for layer, weights in track(middle, "Layers"):
            x = attention_block(x, weights, layer, tables, c, None, ops)
            for begin in range(0, x.shape[1], TOKENS_AT_ONCE):
                rows = np.s_[:, begin:begin + TOKENS_AT_ONCE]
                x[rows] = feed_forward_block(x[rows], weights, c, ops)
        return x[0]

    def last_layer(self, rows):
        """Run the last layer at the positions `rows` (R,) int64, sorted and distinct  ->  (R, D)."""
        c, ops, layer, w = self.config, self.ops, self.config.layers[-1], self.w.blocks[-1]
        own_chunks = np.unique(rows // c.chunk_size)
        x = np.concatenate([x[ops.asarray(np.searchsorted(positions, rows_in_range(rows, positions)))]
                            for positions, x in self.iter_chunks(own_chunks)])
        tables = position_tables_at(rows, c, x.dtype, ops)
        q = rotate_and_norm(self.project_heads(x, w.attention.w_q), layer, tables, c, ops)
        y = self.attend(scale_queries(q, layer, tables)[0], rows, own_chunks if layer.chunked else None)
        x = x + ops.linear(y.reshape(len(rows), -1), w.attention.w_o)
        return feed_forward_block(x[None], w, c, ops)[0]

    def project_heads(self, x, matrix):
        """Norm and projection: x (n, D), a matrix of the last layer (D, heads * d)  ->  (1, n, heads, d)."""
        normed = self.ops.rms_norm(x, self.w.blocks[-1].attention_norm, self.config.norm_eps)
        return self.ops.linear(normed, matrix).reshape(1, len(x), -1, self.config.head_dim)

    def attend(self, q, rows, chunks):
        """Attention of queries to all keys that they may see.

        q (R, H, d) at positions rows (R,), chunks: those with the keys, or None for all  ->  (R, H, d)
        """
        c, ops, layer, w = self.config, self.ops, self.config.layers[-1], self.w.blocks[-1].attention
        (R, H, d), K = q.shape, c.n_kv_heads
        q = q.reshape(R, K, H // K, d).transpose(1, 2, 0, 3) * (1 / math.sqrt(d))
        state = init_softmax(q)
        for positions, x in self.iter_chunks(chunks):
            tables = position_tables_at(positions, c, x.dtype, ops) if layer.rope else None
            k = rotate_and_norm(self.project_heads(x, w.w_k), layer, tables, c, ops)[0]
            v = self.project_heads(x, w.w_v)[0]
            step = max(1, SCORES_AT_ONCE // (H * len(positions)))
            for begin in range(np.searchsorted(rows, positions[0]), R, step):   # earlier queries see none of these keys
                block = np.s_[:, :, begin:begin + step]
                mask = rows[begin:begin + step, None] >= positions
                if layer.chunked:
                    mask &= rows[begin:begin + step, None] // c.chunk_size == positions // c.chunk_size
                mask = None if mask.all() else ops.asarray(mask)
                updated = update_softmax(SoftmaxState(*(a[block] for a in state)), q[block], k, v, mask, ops)
                for old, new in zip(state, updated, strict=True):
                    old[block] = new
        y = (state.weighted_sum / state.row_sum[..., None]).astype(q.dtype)
        return y.transpose(2, 0, 1, 3).reshape(R, H, d)


def rows_in_range(rows, positions):
    """Return the rows from the first to the last of some positions."""
    return rows[(rows >= positions[0]) & (rows <= positions[-1])]


class SoftmaxState(NamedTuple):
    """Running softmax of queries over the keys so far: m, l and O of the FlashAttention papers."""

    row_max: Any        # (K, G, R): the largest score
    row_sum: Any        # (K, G, R) float64: the sum of exp(score - row_max)
    weighted_sum: Any   # (K, G, R, d) float64: the sum of exp(score - row_max) times the value


def init_softmax(q):
    """Initial state of queries (K, G, R, d); its very low maximum is replaced by the first key's score."""
    zeros = q.astype(np.float64) * 0
    return SoftmaxState(q[..., 0] * 0 + np.finfo(q.dtype).min, zeros[..., 0].copy(), zeros)


def update_softmax(state, q, k, v, mask, ops=reference):
    """Add a block of keys; a larger maximum scales down the sums so far, equation (online-softmax).

    state SoftmaxState, q (K, G, R, d) divided by the root of d, k and v (S, K, d), mask (R, S) bool or None
    ->  SoftmaxState
    """
    K, G, R, d = q.shape
    weights = np.stack([ops.linear(q[n].reshape(G * R, d), k[:, n].T) for n in range(K)]).reshape(K, G, R, -1)
    if mask is not None:
        np.copyto(weights, -np.inf, where=~mask)
    row_max = np.maximum(state.row_max, weights.max(-1))
    weights -= row_max[..., None]
    np.exp(weights, out=weights)
    rescale = np.exp(state.row_max - row_max)
    values = np.stack([ops.linear(weights[n].reshape(G * R, -1), v[:, n]) for n in range(K)]).reshape(K, G, R, d)
    return SoftmaxState(row_max, state.row_sum * rescale + weights.sum(-1),
                        state.weighted_sum * rescale[..., None] + values)
