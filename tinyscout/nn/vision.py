"""The vision tower, from an image's tiles to the text model's tokens: patches, encoder, pixel shuffle, adapter."""
import numpy as np

from tinyscout import reference


def embed_patches(tiles, w, config, ops=reference):
    """Embed all patches, append the class token and add position embeddings, equation (patch-embedding).

    tiles (B, C, h, w), w Vision  ->  (B, P + 1, D)
    """
    patches = ops.linear(ops.patchify(tiles, config.patch_size), w.w_patch)
    B, _, D = patches.shape
    class_token = np.broadcast_to(w.class_embedding.astype(patches.dtype), (B, 1, D))
    return np.concatenate([patches, class_token], axis=1) + w.position_embedding.astype(patches.dtype)


def vision_attention(x, w, cos, sin, config, ops=reference):
    """Attention of all patches of a tile to each other: no mask, and 2-D RoPE in every layer.

    x (B, P + 1, D), w VisionAttention, cos and sin (P + 1, d/2)  ->  (B, P + 1, D)
    """
    heads = (*x.shape[:2], config.n_heads, config.head_dim)
    q = ops.apply_rope(ops.linear(x, w.w_q, w.b_q).reshape(heads), cos, sin)
    k = ops.apply_rope(ops.linear(x, w.w_k, w.b_k).reshape(heads), cos, sin)
    v = ops.linear(x, w.w_v, w.b_v).reshape(heads)
    y = ops.grouped_query_attention(q, k, v, False)
    return ops.linear(y.reshape(x.shape), w.w_o, w.b_o)


def vision_block(x, w, cos, sin, config, ops=reference):
    """One encoder layer, equation (vision-block).  x (B, P + 1, D), w VisionBlock  ->  (B, P + 1, D)."""
    normed = ops.layer_norm(x, *w.attention_norm, config.norm_eps)
    x = x + vision_attention(normed, w.attention, cos, sin, config, ops)
    normed = ops.layer_norm(x, *w.mlp_norm, config.norm_eps)
    return x + ops.linear(ops.gelu(ops.linear(normed, w.mlp.w_1, w.mlp.b_1)), w.mlp.w_2, w.mlp.b_2)


def adapter(x, w, config, ops=reference):
    """Merge four patches into one token, then apply two layers with a GELU after *each*, equation (adapter).

    x (B, P, D), w Adapter  ->  (B, P / pixel_shuffle_factor**2, A)
    """
    tokens = ops.pixel_shuffle(x, config.pixel_shuffle_factor)
    return ops.gelu(ops.linear(ops.gelu(ops.linear(tokens, w.w_1)), w.w_2))


def rope_tables(config, dtype, ops=reference):
    """Tables of 2-D RoPE for every patch and the class token  ->  cos and sin (P + 1, d/2) of that dtype."""
    tables = ops.rope_angles_2d(config.grid, config.head_dim, config.rope_theta)
    return [ops.asarray(a.astype(dtype)) for a in tables]


def vision_encoder(tiles, w, config, ops=reference, save=None):
    """Run all layers of the encoder.  Tiles do not attend to each other.

    tiles (B, C, h, w) normalised pixels, w Vision, config VisionConfig  ->  (B, P + 1, D)

    save: a list to which the input of each layer and then the result are appended, or None
    """
    x = ops.layer_norm(embed_patches(tiles, w, config, ops), *w.norm_pre, config.norm_eps)
    cos, sin = rope_tables(config, x.dtype, ops)
    for weights in w.blocks:
        if save is not None:
            save.append(x)
        x = vision_block(x, weights, cos, sin, config, ops)
    if save is not None:
        save.append(x)
    return x


def project_to_text(x, w, config, ops=reference):
    """Final norm and adapter: the encoder's output x (B, P + 1, D)  ->  (B, tokens_per_tile, A)."""
    x = ops.layer_norm(x, *w.norm_post, config.norm_eps)
    return adapter(x[:, :-1], w.adapter, config, ops)               # without the class token


def vision_model(tiles, w, config, ops=reference):
    """Encode each tile as tokens_per_tile vectors, which the projector then maps to the text model.

    tiles (B, C, h, w) normalised pixels, w Vision, config VisionConfig  ->  (B, tokens_per_tile, A)
    """
    return project_to_text(vision_encoder(tiles, w, config, ops), w, config, ops)
