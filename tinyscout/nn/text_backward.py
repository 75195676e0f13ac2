"""The text model backwards: under the name of each composition of text.py its gradient, from last to first.

Each half of a layer is computed again from what it was given, so that training keeps two arrays a layer and no more.
"""
import numpy as np

from tinyscout import reference
from tinyscout.nn.text import (
    attention_block,
    encode_positions,
    feed_forward_block,
    position_tables,
    project_qkv,
    scale_queries,
    uses_qk_norm,
)
from tinyscout.nn.weights import Attention, Block, FeedForward, MoE, Text


def encode_positions_backward(dq, dk, q, k, layer, positions, config, ops=reference):
    """q and k as `encode_positions` was given them  ->  their gradients"""
    dq = scale_queries(dq, layer, positions)                # a factor is a factor both ways
    return tuple(rotate_and_norm_backward(dy, x, layer, positions, config, ops) for dy,
                 x in zip((dq, dk), (q, k), strict=True))


def rotate_and_norm_backward(dy, x, layer, positions, config, ops=reference):
    """dy and x (B, T, heads, d), the rest as in `text.turned`  ->  dx"""
    if uses_qk_norm(layer, config):
        given = ops.apply_rope(x, positions.cos, positions.sin) if layer.rope else x
        dy, _ = ops.rms_norm_backward(dy, given, None, config.norm_eps)
    return ops.apply_rope_backward(dy, x, positions.cos, positions.sin) if layer.rope else dy


def attention_backward(dy, x, w, layer, positions, config, ops=reference):
    """dy and x (B, T, D), the rest as in `text.attention` without a cache  ->  dx (B, T, D), Attention of gradients

    Equation (attention-block-backward).
    """
    q, k, v = project_qkv(x, w, config, ops)
    qk = encode_positions(q, k, layer, positions, config, ops)
    mask_args = True, config.chunk_size if layer.chunked else None, positions.start
    y = ops.grouped_query_attention(*qk, v, *mask_args).reshape(*x.shape[:2], -1)
    d_attn, dw_o, _ = ops.linear_backward(dy, y, w.w_o)
    *d_qk, dv = ops.grouped_query_attention_backward(d_attn.reshape(q.shape), *qk, v, *mask_args)
    dq, dk = encode_positions_backward(d_qk[0], d_qk[1], q, k, layer, positions, config, ops)
    parts = [ops.linear_backward(d.reshape(*x.shape[:2], -1), x, matrix)
             for d, matrix in zip((dq, dk, dv), w[:3], strict=True)]
    dw_q, dw_k, dw_v = (dw for _, dw, _ in parts)
    return sum(dx for dx, _, _ in parts), Attention(dw_q, dw_k, dw_v, dw_o)


def feed_forward_backward(dy, x, w, ops=reference):
    """dy and x (N, D), w FeedForward  ->  dx (N, D), FeedForward of gradients"""
    gate, up = ops.linear(x, w.w_gate), ops.linear(x, w.w_up)
    d_hidden, dw_down, _ = ops.linear_backward(dy, ops.swiglu(gate, up), w.w_down)
    d_gate, d_up = ops.swiglu_backward(d_hidden, gate, up)
    by_gate, dw_gate, _ = ops.linear_backward(d_gate, x, w.w_gate)
    by_up, dw_up, _ = ops.linear_backward(d_up, x, w.w_up)
    return by_gate + by_up, FeedForward(dw_gate, dw_up, dw_down)


def moe_backward(dy, x, w, top_k, aux_loss_coef=0.0, ops=reference):
    """Through the experts to their gates to the router, and past them; equation (moe-backward).

    dy and x (N, D), w MoE, balance float: what the loss counts `load_balance` with  ->  dx (N, D), MoE of gradients
    """
    expert, gate = ops.router(x, w.w_router, top_k)
    dx, d_shared = feed_forward_backward(dy, x, w.shared, ops)
    by_experts, d_gate, *d_experts = ops.experts_backward(dy, x, expert, gate, *w.experts)
    by_router, dw_router = ops.router_backward(d_gate, x, w.w_router, top_k)
    dx += by_experts
    dx += by_router
    if aux_loss_coef:
        by_balance, dw_balance = ops.load_balance_backward(aux_loss_coef, x, w.w_router, top_k)
        dx += by_balance
        dw_router = dw_router + dw_balance
    return dx, MoE(dw_router, d_shared, FeedForward(*d_experts))


def attention_block_backward(dy, x, w, layer, positions, config, ops=reference):
    """dy and x (B, T, D), the rest as in `text.attend`  ->  dx, (dattention_norm, Attention of gradients)"""
    normal = ops.rms_norm(x, w.attention_norm, config.norm_eps)
    d_normal, d_attention = attention_backward(dy, normal, w.attention, layer, positions, config, ops)
    dx, d_norm = ops.rms_norm_backward(d_normal, x, w.attention_norm, config.norm_eps)
    return dy + dx, (d_norm, d_attention)


def feed_forward_block_backward(dy, x, w, config, aux_loss_coef=0.0, ops=reference):
    """dy and x (B, T, D), the rest as in `text.think`  ->  dx, (dfeed_forward_norm, gradients of the feed-forward)"""
    normal = ops.rms_norm(x, w.feed_forward_norm, config.norm_eps)
    rows, dy_rows = normal.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    if isinstance(w.feed_forward, MoE):
        d_rows, d_inner = moe_backward(dy_rows, rows, w.feed_forward, config.top_k, aux_loss_coef, ops)
    else:
        d_rows, d_inner = feed_forward_backward(dy_rows, rows, w.feed_forward, ops)
    dx, d_norm = ops.rms_norm_backward(d_rows.reshape(x.shape), x, w.feed_forward_norm, config.norm_eps)
    return dy + dx, (d_norm, d_inner)


def text_activations(x, w, config, ops=reference):
    """What each half of each layer is given, and what the last one makes: all that the way back needs.

    x (B, T, D) embedded tokens, w Text, config TextConfig  ->  list of 2 L + 1 arrays (B, T, D)
    """
    positions, states = position_tables(0, x.shape[1], config, x, ops), [x]
    for layer, weights in zip(config.layers, w.blocks, strict=True):
        states.append(attention_block(states[-1], weights, layer, positions, config, None, ops))
        states.append(feed_forward_block(states[-1], weights, config, ops))
    return states


def text_model_backward(dy, states, w, config, aux_loss_coef=0.0, ops=reference):
    """From what comes down to the last norm's result to the embedded tokens.

    dy (B, T, D), states as from `text_activations`, w Text, balance float as in `moe_backward`
    ->  dx (B, T, D), Text of gradients, in which those of the embedding and of the output matrix are None
    """
    positions = position_tables(0, dy.shape[1], config, dy, ops)
    dx, d_norm = ops.rms_norm_backward(dy, states[-1], w.norm, config.norm_eps)
    blocks = []
    for n, (layer, weights) in reversed(list(enumerate(zip(config.layers, w.blocks, strict=True)))):
        dx, ffn_grads = feed_forward_block_backward(dx, states[2 * n + 1], weights, config, aux_loss_coef, ops)
        dx, attn_grads = attention_block_backward(dx, states[2 * n], weights, layer, positions, config, ops)
        blocks.append(Block(*attn_grads, *ffn_grads))
    return dx, Text(None, blocks[::-1], d_norm, None)


def expert_loads(states, w, config, ops=reference):
    """How each layer spreads its tokens.  Arguments as above  ->  (layers with experts, E), rows sum to 1"""
    loads = []
    for n, weights in enumerate(w.blocks):
        if isinstance(weights.feed_forward, MoE):
            x = states[2 * n + 1]
            rows = ops.rms_norm(x, weights.feed_forward_norm, config.norm_eps).reshape(-1, x.shape[-1])
            expert, _ = ops.router(rows, weights.feed_forward.w_router, config.top_k)
            loads.append(np.bincount(ops.asnumpy(expert).reshape(-1), minlength=config.n_experts) / expert.size)
    return np.array(loads)
