"""Scores at a few places of a very long text, in memory that does not grow with it.

A chunked layer never looks out of its chunk, so chunks can be read side by side and forgotten.  What must be known of
all tokens are the keys and values of a global layer; and where only the last one is global, only the tokens that are
asked for look at them.  So the text streams by, and each asked token keeps a running softmax of what it has seen.
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

TOKENS_AT_ONCE = 1 << 11        # in whole chunks, at least one: what streams by should stay in the cache
SCORES_AT_ONCE = 1 << 21        # asked tokens x heads x keys: 8 MB of float32


def logits_at(tokens, rows, weights, config, ops=reference):
    """Next-token scores at some tokens of a text: those rows of what `scout.forward` gives, without all the others.

    tokens (T,) of any integer type, rows (R,) int positions in any order, weights Scout, config ScoutConfig
    ->  (R, V).  Raises ValueError for ids outside the vocabulary, patch tokens, or positions that are not there.

    Where only the last layer is global, memory is that of `tokens` and of a few thousand tokens' activations.  Where an
    earlier one is, the vectors of all tokens are kept, and each looks at all before it.  Equation (online-softmax).
    """
    tokens, rows = validate_inputs(tokens, rows, config)
    wanted, back = np.unique(rows, return_inverse=True)
    reader = StreamingModel(tokens[:wanted[-1] + 1], weights.text, config.text, ops)
    y = ops.rms_norm(reader.last_layer(wanted), weights.text.norm, config.text.norm_eps)
    return ops.linear(y, weights.text.output)[ops.asarray(back)]


def validate_inputs(tokens, rows, config):
    """Both as arrays, the tokens not copied.  Raises ValueError."""
    tokens, rows, V = np.asarray(tokens), np.asarray(rows), config.text.vocab_size
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not tokens.size:
        raise ValueError("tokens must be one row of ids, and at least one")
    if tokens.min() < 0 or tokens.max() >= V:
        raise ValueError(f"token ids from {tokens.min()} to {tokens.max()}, but the vocabulary has {V}")
    if config.vision is not None and (tokens == config.patch_id).any():
        raise ValueError("there are patch tokens among the tokens, but no picture can be given here")
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not rows.size or rows.min() < 0 or rows.max() >= len(tokens):
        raise ValueError(f"the positions asked for must be numbers from 0 to {len(tokens) - 1}, and at least one")
    return tokens, rows.astype(np.int64)


class StreamingModel:
    """A text on its way through a model: the layers before the first global one, or before the last, stream."""

    def __init__(self, tokens, w, config, ops):
        self.tokens, self.w, self.config, self.ops = tokens, w, config, ops
        self.last = len(config.layers) - 1
        self.n_streamed = next((n for n, layer in enumerate(config.layers[:-1]) if not layer.chunked), self.last)
        self.hidden_before_last = None                   # (T, D) before the last layer, where it cannot be streamed
        if self.n_streamed < self.last:
            self.hidden_before_last = self.read_whole()

    def iter_chunks(self, chunks=None):
        """What goes into the last layer, or with `whole` yet to be made into the first that does not stream.

        chunks (n,) int which of the text, in order; None for all  ->  yields positions (n,) int64, x (n, D)
        """
        c, T = self.config.chunk_size, len(self.tokens)
        chunks = np.arange(-(-T // c)) if chunks is None else chunks
        full, tail, n = chunks[chunks < T // c], chunks[chunks == T // c], max(1, TOKENS_AT_ONCE // c)
        groups = [full[at:at + n] for at in range(0, len(full), n)] + ([tail] if len(tail) else [])
        for group in track(groups, "Reading"):
            positions = group[:, None] * c + np.arange(min(c, T - group[-1] * c))
            x = self.stream(positions) if self.hidden_before_last is None else self.hidden_before_last[self.ops.asarray(positions.ravel())]
            yield positions.ravel(), x

    def stream(self, positions):
        """Chunks side by side through the chunked layers.  positions (n, t) int64  ->  (n * t, D)"""
        c, ops, D = self.config, self.ops, self.config.dim
        table = self.w.embedding
        x = ops.embed(ops.asarray(self.tokens[positions].astype(np.int64)), table, np.result_type(table, np.float32))
        where = position_tables_at(positions, c, x, ops)
        for layer, weights in zip(c.layers[:self.n_streamed], self.w.blocks, strict=False):
            x = feed_forward_block(attention_block(x, weights, layer, where, c, None, ops), weights, c, ops)
        return x.reshape(-1, D)

    def read_whole(self):
        """All tokens up to the last layer.  (T, D)"""
        c, ops = self.config, self.ops
        x = np.concatenate([x for _, x in self.iter_chunks()])[None]
        where = position_tables(0, x.shape[1], c, x, ops)
        middle = list(zip(c.layers, self.w.blocks, strict=True))[self.n_streamed:self.last]
        for layer, weights in track(middle, "Layers"):
            x = attention_block(x, weights, layer, where, c, None, ops)
            for at in range(0, x.shape[1], TOKENS_AT_ONCE):
                x[:, at:at + TOKENS_AT_ONCE] = feed_forward_block(x[:, at:at + TOKENS_AT_ONCE], weights, c, ops)
        return x[0]

    def last_layer(self, rows):
        """The last layer at the positions `rows` (R,) int64, in order and all different  ->  (R, D)"""
        c, ops, layer, w = self.config, self.ops, self.config.layers[-1], self.w.blocks[-1]
        near = np.unique(rows // c.chunk_size)
        x = np.concatenate([x[ops.asarray(np.searchsorted(positions, rows_in_range(rows, positions)))]
                            for positions, x in self.iter_chunks(near)])
        where = position_tables_at(rows, c, x, ops)
        q = scale_queries(rotate_and_norm(self.project_heads(x, w.attention.w_q), layer, where, c, ops), layer,
                          where)[0]
        y = self.attend(q, rows, near if layer.chunked else None)
        x = x + ops.linear(y.reshape(len(rows), -1), w.attention.w_o)
        return feed_forward_block(x[None], w, c, ops)[0]

    def project_heads(self, x, matrix):
        """x (n, D), a matrix of the last layer (D, heads * d)  ->  (1, n, heads, d)"""
        normal = self.ops.rms_norm(x, self.w.blocks[-1].attention_norm, self.config.norm_eps)
        return self.ops.linear(normal, matrix).reshape(1, len(x), -1, self.config.head_dim)

    def attend(self, q, rows, chunks):
        """What queries read of all keys that they may see.

        q (R, H, d) at positions rows (R,), chunks: where the keys are, or None for everywhere  ->  (R, H, d)
        """
        c, ops, layer, w = self.config, self.ops, self.config.layers[-1], self.w.blocks[-1].attention
        (R, H, d), K = q.shape, c.n_kv_heads
        q = q.reshape(R, K, H // K, d).transpose(1, 2, 0, 3) * (1 / math.sqrt(d))
        seen = initial_state(q)
        for positions, x in self.iter_chunks(chunks):
            where = position_tables_at(positions, c, x, ops) if layer.rope else None
            k, v = rotate_and_norm(self.project_heads(x, w.w_k), layer, where, c, ops)[0], self.project_heads(x,
                                                                                                              w.w_v)[0]
            step = max(1, SCORES_AT_ONCE // (H * len(positions)))
            for at in range(np.searchsorted(rows, positions[0]), R, step):      # those before look at none of these
                mine = np.s_[:, :, at:at + step]
                mask = rows[at:at + step, None] >= positions
                if layer.chunked:
                    mask &= rows[at:at + step, None] // c.chunk_size == positions // c.chunk_size
                before = SoftmaxState(*(a[mine] for a in seen))
                mask = None if mask.all() else ops.asarray(mask)
                for old, new in zip(seen, update(before, q[mine], k, v, mask, ops), strict=True):
                    old[mine] = new
        y = (seen.read / seen.total[..., None]).astype(q.dtype)
        return y.transpose(2, 0, 1, 3).reshape(R, H, d)


def rows_in_range(rows, positions):
    """Those of the rows that lie between the first and the last of some positions."""
    return rows[(rows >= positions[0]) & (rows <= positions[-1])]


class SoftmaxState(NamedTuple):
    """What queries remember of the keys so far."""

    most: Any       # (K, G, R): the largest score
    total: Any      # (K, G, R) float64: the sum of exp(score - most)
    read: Any       # (K, G, R, d) float64: the sum of exp(score - most) times the value


def initial_state(q):
    """The memory of queries (K, G, R, d) that have seen no key; so low a score is forgotten at the first."""
    wide = q.astype(np.float64) * 0
    return SoftmaxState(q[..., 0] * 0 + np.finfo(q.dtype).min, wide[..., 0].copy(), wide)


def update(seen, q, k, v, mask, ops=reference):
    """Some more keys, equation (online-softmax): what was remembered is scaled down where a larger score has come.

    seen Seen, q (K, G, R, d) divided by the root of d, k and v (S, K, d), mask (R, S) bool or None  ->  Seen
    """
    K, G, R, d = q.shape
    weights = np.stack([ops.linear(q[n].reshape(G * R, d), k[:, n].T) for n in range(K)]).reshape(K, G, R, -1)
    if mask is not None:
        np.copyto(weights, -np.inf, where=~mask)
    most = np.maximum(seen.most, weights.max(-1))
    weights -= most[..., None]
    np.exp(weights, out=weights)
    less = np.exp(seen.most - most)
    read = np.stack([ops.linear(weights[n].reshape(G * R, -1), v[:, n]) for n in range(K)]).reshape(K, G, R, d)
    return SoftmaxState(most, seen.total * less + weights.sum(-1), seen.read * less[..., None] + read)
