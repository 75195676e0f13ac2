"""The text model, written once.  `ops` is any backend: the reference or a module that replaces some of its names."""
from typing import Any, NamedTuple

import numpy as np

from tinyscout import reference
from tinyscout.nn.weights import MoE


class Positions(NamedTuple):
    """What the layers need to know of the positions of T tokens, computed once for all of them."""

    start: int              # position of the first token
    cos: Any                # (T, d/2), for RoPE layers
    sin: Any                # (T, d/2)
    temperature: Any        # (T, 1, 1) or (B, T, 1, 1), for NoPE layers, or None if it is off


def in_order(items, name):
    """The default way through the layers or the images: one after the other, and nobody is told."""
    return iter(items)


def position_tables(start, T, config, dtype, ops=reference):
    """The positions start .. start + T - 1 as every layer wants them.

    start, T int, config TextConfig, dtype of cos, sin and temperature  ->  Positions
    """
    return position_tables_at(np.arange(start, start + T), config, dtype, ops)


def position_tables_at(positions, config, dtype, ops=reference):
    """Any positions as every layer wants them: `position_tables` for positions with gaps.

    positions (T,) int, or (B, T) of whole chunks side by side: RoPE sees differences only, and gets those of the first
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
    """RoPE and the QK norm, for queries and keys alike, as far as the layer has them.

    x (B, T, heads, d), layer Layer, positions Positions  ->  (B, T, heads, d)
    """
    if layer.rope:
        x = ops.apply_rope(x, positions.cos, positions.sin)
    if uses_qk_norm(layer, config):
        x = ops.rms_norm(x, None, config.norm_eps)  # per head and without weights
    return x


def uses_qk_norm(layer, config):
    """Does a layer norm its queries and keys?"""
    return config.qk_norm if layer.rope else config.qk_norm_nope


def scale_queries(q, layer, positions):
    """A NoPE layer's queries times the temperature of their positions; the keys in a cache stay valid.

    q (B, T, H, d), positions Positions  ->  (B, T, H, d), equation (temperature)
    """
    return q if layer.rope or positions.temperature is None else q * positions.temperature


def encode_positions(q, k, layer, positions, config, ops=reference):
    """Everything that makes a layer's queries and keys depend on their positions.

    q (B, T, H, d), k (B, T, K, d), positions Positions  ->  q, k of the same shapes
    """
    q, k = (rotate_and_norm(x, layer, positions, config, ops) for x in (q, k))
    return scale_queries(q, layer, positions), k


def attention(x, w, layer, positions, config, cache=None, ops=reference):
    """Both kinds of layer: RoPE inside chunks, or no positions and scaled queries; equation (attention-block).

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
    """x (N, D), w FeedForward  ->  (N, D), equation (feed-forward)."""
    return ops.linear(ops.swiglu(ops.linear(x, w.w_gate), ops.linear(x, w.w_up)), w.w_down)


def moe(x, w, top_k, ops=reference):
    """The shared expert on x plus the chosen ones on gated x, equation (moe).

    x (N, D), w MoE, top_k int  ->  (N, D)
    """
    expert, gate = ops.router(x, w.w_router, top_k)
    return feed_forward(x, w.shared, ops) + ops.experts(x, expert, gate, *w.experts)


def attention_block(x, w, layer, positions, config, cache=None, ops=reference):
    """The first half of a decoder layer: x + attention(norm(x)), equation (block).

    x (B, T, D), w Block, the rest as in `attention`  ->  (B, T, D)
    """
    normed = ops.rms_norm(x, w.attention_norm, config.norm_eps)
    return x + attention(normed, w.attention, layer, positions, config, cache, ops)


def feed_forward_block(x, w, config, ops=reference):
    """The second half: x + experts(norm(x)), or a dense network; each token for itself, equation (block).

    x (B, T, D), w Block  ->  (B, T, D)
    """
    rows = ops.rms_norm(x, w.feed_forward_norm, config.norm_eps).reshape(-1, x.shape[-1])
    if isinstance(w.feed_forward, MoE):
        y = moe(rows, w.feed_forward, config.top_k, ops)
    else:
        y = feed_forward(rows, w.feed_forward, ops)
    return x + y.reshape(x.shape)


def text_model(x, w, config, cache=None, ops=reference, iterate=in_order):
    """All layers of the plan, then the last norm.

    x (B, T, D) embedded tokens, w Text, config TextConfig, cache Cache or None  ->  (B, T, D) hidden states

    With a cache the tokens follow those that it holds, and it takes them in.  `iterate(blocks, "layers")` yields the
    blocks in order: the caller may read ahead from disk there, or show progress (tinyscout.inference.prefetch).
    """
    T, decode = x.shape[1], getattr(ops, "decode", None)
    if decode is not None and T == 1 and (y := decode(x, w, config, cache, iterate)) is not None:
        cache.advance(1)                            # a backend may take a token through all layers in one call
        return y
    positions = position_tables(0 if cache is None else cache.length, T, config, x.dtype, ops)
    for n, (layer, weights) in enumerate(zip(config.layers, iterate(w.blocks, "layers"), strict=True)):
        x = attention_block(x, weights, layer, positions, config, None if cache is None else cache.layers[n], ops)
        x = feed_forward_block(x, weights, config, ops)
    if cache is not None:
        cache.advance(T)
    return ops.rms_norm(x, w.norm, config.norm_eps)
