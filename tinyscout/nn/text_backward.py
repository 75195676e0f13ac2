"""Gradients of the text model: f_backward for each function f of text.py.

Each half of a layer is recomputed from its input, so that training keeps only two arrays per layer.
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
    """Gradient of `text.encode_positions`: dq, dk and its arguments  ->  the gradients of q and k."""
    dq = scale_queries(dq, layer, positions)            # the gradient is scaled by the same factor
    return (rotate_and_norm_backward(dq, q, layer, positions, config, ops),
            rotate_and_norm_backward(dk, k, layer, positions, config, ops))


def rotate_and_norm_backward(dy, x, layer, positions, config, ops=reference):
    """Gradient of `text.rotate_and_norm`: dy and x (B, T, heads, d)  ->  dx."""
    if uses_qk_norm(layer, config):
        rotated = ops.apply_rope(x, positions.cos, positions.sin) if layer.rope else x
        dy, _ = ops.rms_norm_backward(dy, rotated, None, config.norm_eps)
    return ops.apply_rope_backward(dy, x, positions.cos, positions.sin) if layer.rope else dy


def attention_backward(dy, x, w, layer, positions, config, ops=reference):
    """Gradient of `text.attention` without a cache, equation (attention-block-backward).

    dy and x (B, T, D), the rest as there  ->  dx (B, T, D), Attention of gradients
    """
    q, k, v = project_qkv(x, w, config, ops)
    qk = encode_positions(q, k, layer, positions, config, ops)
    mask_args = True, config.chunk_size if layer.chunked else None, positions.start
    y = ops.grouped_query_attention(*qk, v, *mask_args).reshape(*x.shape[:2], -1)
    d_attn, dw_o, _ = ops.linear_backward(dy, y, w.w_o)
    *d_qk, dv = ops.grouped_query_attention_backward(d_attn.reshape(q.shape), *qk, v, *mask_args)
    dq, dk = encode_positions_backward(d_qk[0], d_qk[1], q, k, layer, positions, config, ops)
    gradients = [ops.linear_backward(d.reshape(*x.shape[:2], -1), x, matrix)
                 for d, matrix in zip((dq, dk, dv), w[:3], strict=True)]
    dw_q, dw_k, dw_v = (dw for _, dw, _ in gradients)
    return sum(dx for dx, _, _ in gradients), Attention(dw_q, dw_k, dw_v, dw_o)


def feed_forward_backward(dy, x, w, ops=reference):
    """Gradient of `text.feed_forward`: dy and x (N, D), w FeedForward  ->  dx (N, D), FeedForward of gradients."""
    gate, up = ops.linear(x, w.w_gate), ops.linear(x, w.w_up)
    d_hidden, dw_down, _ = ops.linear_backward(dy, ops.swiglu(gate, up), w.w_down)
    d_gate, d_up = ops.swiglu_backward(d_hidden, gate, up)
    dx_gate, dw_gate, _ = ops.linear_backward(d_gate, x, w.w_gate)
    dx_up, dw_up, _ = ops.linear_backward(d_up, x, w.w_up)
    return dx_gate + dx_up, FeedForward(dw_gate, dw_up, dw_down)


def moe_backward(dy, x, w, top_k, aux_loss_coef=0.0, ops=reference):
    """Gradient of `text.moe`, equation (moe-backward).

    dy and x (N, D), w MoE, aux_loss_coef float: the coefficient of `load_balance` in the loss
    ->  dx (N, D), MoE of gradients
    """
    expert, gate = ops.router(x, w.w_router, top_k)
    dx, d_shared = feed_forward_backward(dy, x, w.shared, ops)
    dx_experts, d_gate, *d_experts = ops.experts_backward(dy, x, expert, gate, *w.experts)
    dx_router, dw_router = ops.router_backward(d_gate, x, w.w_router, top_k)
    dx += dx_experts
    dx += dx_router
    if aux_loss_coef:
        dx_balance, dw_balance = ops.load_balance_backward(aux_loss_coef, x, w.w_router, top_k)
        dx += dx_balance
        dw_router = dw_router + dw_balance
    return dx, MoE(dw_router, d_shared, FeedForward(*d_experts))


def attention_block_backward(dy, x, w, layer, positions, config, ops=reference):
    """Gradient of `text.attention_block`: dy and x (B, T, D)  ->  dx, (dattention_norm, Attention of gradients)."""
    normed = ops.rms_norm(x, w.attention_norm, config.norm_eps)
    d_normed, d_attention = attention_backward(dy, normed, w.attention, layer, positions, config, ops)
    dx, d_norm = ops.rms_norm_backward(d_normed, x, w.attention_norm, config.norm_eps)
    return dy + dx, (d_norm, d_attention)


def feed_forward_block_backward(dy, x, w, config, aux_loss_coef=0.0, ops=reference):
    """Gradient of `text.feed_forward_block`: dy and x (B, T, D)  ->  dx, (dfeed_forward_norm, MoE or FeedForward)."""
    normed = ops.rms_norm(x, w.feed_forward_norm, config.norm_eps)
    rows, dy_rows = normed.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    if isinstance(w.feed_forward, MoE):
        d_rows, d_inner = moe_backward(dy_rows, rows, w.feed_forward, config.top_k, aux_loss_coef, ops)
    else:
        d_rows, d_inner = feed_forward_backward(dy_rows, rows, w.feed_forward, ops)
    dx, d_norm = ops.rms_norm_backward(d_rows.reshape(x.shape), x, w.feed_forward_norm, config.norm_eps)
    return dy + dx, (d_norm, d_inner)


def text_activations(x, w, config, ops=reference):
    """Activations for the backward pass: the input of each half of each layer, and the output of the last.

    x (B, T, D) embedded tokens, w Text, config TextConfig  ->  list of 2 L + 1 arrays (B, T, D)
    """
    positions, activations = position_tables(0, x.shape[1], config, x.dtype, ops), [x]
    for layer, weights in zip(config.layers, w.blocks, strict=True):
        activations.append(attention_block(activations[-1], weights, layer, positions, config, None, ops))
        activations.append(feed_forward_block(activations[-1], weights, config, ops))
    return activations


def text_model_backward(dy, activations, w, config, aux_loss_coef=0.0, ops=reference):
    """Backpropagate from the gradient of the final norm's output to the token embeddings and all weights.

    dy (B, T, D), activations from `text_activations`, w Text, aux_loss_coef float as in `moe_backward`
    ->  dx (B, T, D), Text of gradients, in which those of the embedding and of the output matrix are None
    """
    positions = position_tables(0, dy.shape[1], config, dy.dtype, ops)
    dx, d_norm = ops.rms_norm_backward(dy, activations[-1], w.norm, config.norm_eps)
    blocks = []
    for n, (layer, weights) in reversed(list(enumerate(zip(config.layers, w.blocks, strict=True)))):
        dx, ffn_grads = feed_forward_block_backward(dx, activations[2 * n + 1], weights, config, aux_loss_coef, ops)
        dx, attn_grads = attention_block_backward(dx, activations[2 * n], weights, layer, positions, config, ops)
        blocks.append(Block(*attn_grads, *ffn_grads))
    return dx, Text(None, blocks[::-1], d_norm, None)


def expert_loads(activations, w, config, ops=reference):
    """Fraction of the tokens that is routed to each expert of each layer.

    activations from `text_activations`, w Text, config TextConfig  ->  (layers with experts, E), rows sum to 1
    """
    loads = []
    for n, weights in enumerate(w.blocks):
        if isinstance(weights.feed_forward, MoE):
            x = activations[2 * n + 1]
            rows = ops.rms_norm(x, weights.feed_forward_norm, config.norm_eps).reshape(-1, x.shape[-1])
            expert, _ = ops.router(rows, weights.feed_forward.w_router, config.top_k)
            loads.append(np.bincount(ops.asnumpy(expert).reshape(-1), minlength=config.n_experts) / expert.size)
    return np.array(loads)
