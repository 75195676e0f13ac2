"""Gradients of the vision tower: f_backward for each function f of vision.py."""
import numpy as np

from tinyscout import reference
from tinyscout.nn.vision import embed_patches, rope_tables, vision_attention, vision_encoder
from tinyscout.nn.weights import MLP, Adapter, LayerNorm, Vision, VisionAttention, VisionBlock


def embed_patches_backward(dy, tiles, w, config, ops=reference):
    """Gradient of `vision.embed_patches` with respect to its weights.

    dy (B, P + 1, D), tiles (B, C, h, w)  ->  dw_patch, dclass_embedding, dposition_embedding
    """
    _, dw_patch, _ = ops.linear_backward(dy[:, :-1], ops.patchify(tiles, config.patch_size), w.w_patch)
    return dw_patch, dy[:, -1].sum(0), dy.sum(0)


def vision_attention_backward(dy, x, w, cos, sin, config, ops=reference):
    """Gradient of `vision.vision_attention`: dy and x (B, P + 1, D)  ->  dx, VisionAttention of gradients."""
    heads = (*x.shape[:2], config.n_heads, config.head_dim)
    q, k, v = (ops.linear(x, *pair).reshape(heads) for pair in (w[0:2], w[2:4], w[4:6]))
    rotated = ops.apply_rope(q, cos, sin), ops.apply_rope(k, cos, sin)
    y = ops.grouped_query_attention(*rotated, v, False).reshape(x.shape)
    d_attn, *d_o = ops.linear_backward(dy, y, w.w_o, w.b_o)
    *d_rotated, dv = ops.grouped_query_attention_backward(d_attn.reshape(heads), *rotated, v, False)
    dq, dk = (ops.apply_rope_backward(d, a, cos, sin) for d, a in zip(d_rotated, (q, k), strict=True))
    dx, gradients = 0, []
    for d, pair in zip((dq, dk, dv), (w[0:2], w[2:4], w[4:6]), strict=True):
        d_input, *d_pair = ops.linear_backward(d.reshape(x.shape), x, *pair)
        dx = dx + d_input
        gradients += d_pair
    return dx, VisionAttention(*gradients, *d_o)


def vision_block_backward(dy, x, w, cos, sin, config, ops=reference):
    """Gradient of `vision.vision_block`, equation (vision-block-backward).

    dy and x (B, P + 1, D), the rest as there  ->  dx, VisionBlock of gradients
    """
    normed = ops.layer_norm(x, *w.attention_norm, config.norm_eps)
    middle = x + vision_attention(normed, w.attention, cos, sin, config, ops)
    normed_2 = ops.layer_norm(middle, *w.mlp_norm, config.norm_eps)
    hidden = ops.linear(normed_2, w.mlp.w_1, w.mlp.b_1)
    d_hidden, *d_2 = ops.linear_backward(dy, ops.gelu(hidden), w.mlp.w_2, w.mlp.b_2)
    d_normed, *d_1 = ops.linear_backward(ops.gelu_backward(d_hidden, hidden), normed_2, w.mlp.w_1, w.mlp.b_1)
    dx, *d_mlp_norm = ops.layer_norm_backward(d_normed, middle, *w.mlp_norm, config.norm_eps)
    dy = dy + dx
    d_normed, d_attention = vision_attention_backward(dy, normed, w.attention, cos, sin, config, ops)
    dx, *d_attention_norm = ops.layer_norm_backward(d_normed, x, *w.attention_norm, config.norm_eps)
    return dy + dx, VisionBlock(LayerNorm(*d_attention_norm), d_attention, LayerNorm(*d_mlp_norm), MLP(*d_1, *d_2))


def adapter_backward(dy, x, w, config, ops=reference):
    """Gradient of `vision.adapter`: dy (B, tokens_per_tile, A), x (B, P, D)  ->  dx (B, P, D), Adapter of gradients."""
    tokens = ops.pixel_shuffle(x, config.pixel_shuffle_factor)
    hidden = ops.linear(tokens, w.w_1)
    second = ops.linear(ops.gelu(hidden), w.w_2)
    d_hidden, dw_2, _ = ops.linear_backward(ops.gelu_backward(dy, second), ops.gelu(hidden), w.w_2)
    d_tokens, dw_1, _ = ops.linear_backward(ops.gelu_backward(d_hidden, hidden), tokens, w.w_1)
    return ops.pixel_shuffle_backward(d_tokens, x, config.pixel_shuffle_factor), Adapter(dw_1, dw_2)


def vision_activations(tiles, w, config, ops=reference):
    """Activations for the backward pass: the input of each encoder layer, and the output of the last.

    Arguments as in `vision.vision_encoder`  ->  list of L + 1 arrays (B, P + 1, D)
    """
    activations: list = []
    vision_encoder(tiles, w, config, ops, activations)
    return activations


def vision_model_backward(dy, tiles, activations, w, config, ops=reference):
    """Backpropagate from the gradient of the image tokens to all weights of the tower.

    dy (B, tokens_per_tile, A), tiles (B, C, h, w), activations from `vision_activations`  ->  Vision of gradients
    """
    normed = ops.layer_norm(activations[-1], *w.norm_post, config.norm_eps)
    d_patches, d_adapter = adapter_backward(dy, normed[:, :-1], w.adapter, config, ops)
    d_normed = np.concatenate([d_patches, np.zeros_like(normed[:, -1:])], axis=1)       # the class token is not read
    dx, *d_post = ops.layer_norm_backward(d_normed, activations[-1], *w.norm_post, config.norm_eps)
    cos, sin = rope_tables(config, dx.dtype, ops)
    blocks = []
    for x, weights in zip(activations[-2::-1], w.blocks[::-1], strict=True):
        dx, gradients = vision_block_backward(dx, x, weights, cos, sin, config, ops)
        blocks.append(gradients)
    d_embedded, *d_pre = ops.layer_norm_backward(dx, embed_patches(tiles, w, config, ops), *w.norm_pre, config.norm_eps)
    dw_patch, d_class, d_position = embed_patches_backward(d_embedded, tiles, w, config, ops)
    return Vision(dw_patch, d_class, d_position, LayerNorm(*d_pre), blocks[::-1], LayerNorm(*d_post), d_adapter)
