"""The text model, written once for every backend: `ops`, the reference or a module that replaces some of its names."""
from typing import Any, NamedTuple

import numpy as np

from tinyscout import reference
from tinyscout.nn.weights import MoE


class Positions(NamedTuple):
    """Position-dependent inputs of the layers for T tokens, computed once for all layers."""

    start: int              # position of the first token
    cos: Any                # (T, d/2), for RoPE layers
    sin: Any                # (T, d/2)
    temperature: Any        # (T, 1, 1) or (B, T, 1, 1), for NoPE layers, or None if it is off


def in_order(items, name):
    """The default `iterate`: the layers or the images in order, without showing progress."""
    return iter(items)


def position_tables(start, T, config, dtype, ops=reference):
    """RoPE tables and temperatures of the positions start .. start + T - 1.

    start, T int, config TextConfig, dtype of cos, sin and temperature  ->  Positions
    """
    return position_tables_at(np.arange(start, start + T), config, dtype, ops)


def position_tables_at(positions, config, dtype, ops=reference):
    """Like `position_tables`, for positions with gaps.

    positions (T,) int, or (B, T) for a batch of whole chunks: RoPE depends only on differences, and uses the first row
    """
    row = positions if positions.ndim == 1 else positions[0]
    angles = ops.rope_angles(row, config.head_dim, config.rope_theta, config.rope_scaling)
    cos, sin = (ops.asarray(a.astype(dtype)) for a in angles)
    if not config.attn_temperature:
        return Positions(int(row[0]), cos, sin, None)
    t = ops.attention_temperature(positions, config.attn_temperature_floor, config.attn_temperature_scale)
    return Positions(int(row[0]), cos, sin, ops.asarray(t.astype(dtype)[..., None, None]))


def project_qkv(x, w, config, ops=reference):
    """x (B, T, D), w Attention  ->  queries (B, T, H, d), keys and values (B, T, K, d)."""
    B, T, _ = x.shape
    return [ops.linear(x, matrix).reshape(B, T, -1, config.head_dim) for matrix in (w.w_q, w.w_k, w.w_v)]


def rotate_and_norm(x, layer, positions, config, ops=reference):
    """Apply RoPE and QK norm to queries or keys, if the layer has them.

    x (B, T, heads, d), layer Layer, positions Positions  ->  (B, T, heads, d)
    """
    if layer.rope:
        x = ops.apply_rope(x, positions.cos, positions.sin)
    if uses_qk_norm(layer, config):
        x = ops.rms_norm(x, None, config.norm_eps)  # per head and without weights
    return x


def uses_qk_norm(layer, config):
    """True if a layer normalises its queries and keys."""
    return config.qk_norm if layer.rope else config.qk_norm_nope


def scale_queries(q, layer, positions):
    """Scale a NoPE layer's queries by the temperature of their positions; cached keys stay valid.

    q (B, T, H, d), positions Positions  ->  (B, T, H, d), equation (temperature)
    """
    return q if layer.rope or positions.temperature is None else q * positions.temperature


def encode_positions(q, k, layer, positions, config, ops=reference):
    """Apply RoPE, QK norm and temperature to a layer's queries and keys.

    q (B, T, H, d), k (B, T, K, d), positions Positions  ->  q, k of the same shapes
    """
    q, k = (rotate_and_norm(x, layer, positions, config, ops) for x in (q, k))
    return scale_queries(q, layer, positions), k


def attention(x, w, layer, positions, config, cache=None, ops=reference):
    """Attention of both kinds of layer: RoPE in chunks, or NoPE with scaled queries, equation (attention-block).

    x (B, T, D), w Attention, layer Layer, positions Positions, cache LayerCache or None  ->  (B, T, D)
    """
    B, T, _ = x.shape
    q, k, v = project_qkv(x, w, config, ops)
    q, k = encode_positions(q, k, layer, positions, config, ops)
    kv_start = positions.start
    if cache is not None:
        k, v, kv_start = cache.append(positions.start, k, v)
    y = ops.grouped_query_attention(q, k, v, True, config.chunk_size if layer.chunked else None, kv_start)
    return ops.linear(y.reshape(B, T, -1), w.w_o)


def feed_forward(x, w, ops=reference):
    """SwiGLU network: x (N, D), w FeedForward  ->  (N, D), equation (feed-forward)."""
    return ops.linear(ops.swiglu(ops.linear(x, w.w_gate), ops.linear(x, w.w_up)), w.w_down)


def moe(x, w, top_k, ops=reference):
    """Shared expert on x plus the chosen experts on gated x, equation (moe).

    x (N, D), w MoE, top_k int  ->  (N, D)
    """
    expert, gate = ops.router(x, w.w_router, top_k)
    return feed_forward(x, w.shared, ops) + ops.experts(x, expert, gate, *w.experts)


def attention_block(x, w, layer, positions, config, cache=None, ops=reference):
    """First half of a decoder layer: x + attention(norm(x)), equation (block).

    x (B, T, D), w Block, the rest as in `attention`  ->  (B, T, D)
    """
    normed = ops.rms_norm(x, w.attention_norm, config.norm_eps)
    return x + attention(normed, w.attention, layer, positions, config, cache, ops)


def feed_forward_block(x, w, config, ops=reference):
    """Second half of a decoder layer: x + moe(norm(x)), or a dense network; per token, equation (block).

    x (B, T, D), w Block  ->  (B, T, D)
    """
    rows = ops.rms_norm(x, w.feed_forward_norm, config.norm_eps).reshape(-1, x.shape[-1])
    if isinstance(w.feed_forward, MoE):
        y = moe(rows, w.feed_forward, config.top_k, ops)
    else:
        y = feed_forward(rows, w.feed_forward, ops)
    return x + y.reshape(x.shape)


def text_model(x, w, config, cache=None, ops=reference, iterate=in_order):
    """Run all layers, then the final norm.

    x (B, T, D) embedded tokens, w Text, config TextConfig, cache Cache or None  ->  (B, T, D) hidden states

    With a cache, the tokens follow the cached ones and are added to it.  `iterate(blocks, "layers")` yields the
    blocks in order: the caller may read ahead from disk there, or show progress (tinyscout.inference.prefetch).
    """
    T, decode = x.shape[1], getattr(ops, "decode", None)
    if decode is not None and T == 1 and (y := decode(x, w, config, cache, iterate)) is not None:
        cache.advance(1)                            # a backend may run all layers for one token in one call
        return y
    positions = position_tables(0 if cache is None else cache.length, T, config, x.dtype, ops)
    for n, (layer, weights) in enumerate(zip(config.layers, iterate(w.blocks, "layers"), strict=True)):
        x = attention_block(x, weights, layer, positions, config, None if cache is None else cache.layers[n], ops)
        x = feed_forward_block(x, weights, config, ops)
    if cache is not None:
        cache.advance(T)
    return ops.rms_norm(x, w.norm, config.norm_eps)
