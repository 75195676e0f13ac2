"""Scout: image vectors replace patch tokens (early fusion), and the text model runs over the whole sequence."""
from contextlib import nullcontext

import numpy as np

from tinyscout import reference
from tinyscout.nn.text import in_order, text_model
from tinyscout.nn.vision import vision_model

TILES_AT_ONCE = 4       # bounds memory; tiles do not attend to each other, so the grouping does not change the result


def validate_tokens(tokens, config):
    """Check token ids and return them as an array.

    tokens: 1-D sequence of ints from 0 to V - 1, not empty  ->  (T,) int64.  Raises ValueError.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 1 or ids.size == 0:
        raise ValueError("no tokens: a prompt needs at least one" if ids.size == 0
                         else f"tokens must be one row of ids, not an array of shape {ids.shape}")
    if ids.dtype.kind not in "iu":
        raise ValueError(f"token ids are integers, not {ids.dtype}")
    wrong = ids[(ids < 0) | (ids >= config.text.vocab_size)]
    if wrong.size:
        raise ValueError(f"token id {wrong[0]} is outside the vocabulary of {config.text.vocab_size}")
    return ids.astype(np.int64)


def validate_images(images, config):
    """Check images and return each as float32 tiles.

    images: sequence of arrays (tiles, C, h, w)  ->  list of the same as float32.  Raises ValueError.
    """
    if len(images) and config.vision is None:
        raise ValueError("images were given, but this model has no vision tower")
    tiles = []
    for n, image in enumerate(images, 1):
        c = config.vision
        image = np.asarray(image, np.float32)
        if image.ndim != 4 or image.shape[1:] != (c.channels, c.tile_size, c.tile_size) or not len(image):
            raise ValueError(f"image {n} must be tiles of shape (tiles, {c.channels}, {c.tile_size}, {c.tile_size}), "
                             f"not {image.shape}")
        if not np.isfinite(image).all():
            raise ValueError(f"image {n} has pixels that are not finite numbers")
        tiles.append(image)
    return tiles


def check_image_tokens(tokens, images, config, pending_features=0, exact=True):
    """Raise ValueError unless every patch token has a vector and, if `exact`, every vector a patch token.

    tokens (T,) int, images from validate_images, pending_features int: vectors from earlier calls
    """
    if config.vision is None:
        return
    patch_tokens = int((tokens == config.patch_id).sum())
    image_vectors = pending_features + sum(len(image) for image in images) * config.vision.tokens_per_tile
    if patch_tokens > image_vectors or (exact and patch_tokens < image_vectors):
        raise ValueError(f"{patch_tokens} patch tokens in the prompt, but the images make {image_vectors}: "
                         "they must be equal")


def image_features(images, w, config, ops=reference, iterate=in_order):
    """Encode images as the vectors that replace their patch tokens, in order of the tiles, equation (image-features).

    images from validate_images, w Scout, iterate as in `text_model`  ->  (tiles * tokens_per_tile, D of the text)
    """
    groups = [image[n:n + TILES_AT_ONCE] for image in images for n in range(0, len(image), TILES_AT_ONCE)]
    rows = []
    for tiles in iterate(groups, "image"):
        y = ops.linear(vision_model(ops.asarray(tiles), w.vision, config.vision, ops), w.w_projector)
        rows.append(y.reshape(-1, y.shape[-1]))
    return np.concatenate(rows)


def embed_inputs(tokens, images, w, config, cache=None, ops=reference, iterate=in_order):
    """Embed tokens and images as one sequence of vectors, equation (fuse).

    tokens (T,) int, images (tiles, C, h, w) each, w Scout, config ScoutConfig, cache Cache or None, iterate as in
    `text_model`  ->  (T, D)

    Image vectors replace the patch tokens in order.  With a cache, they may come before their tokens: the vectors that
    are left over in this call are kept in the cache for the next one, so a prompt can be split anywhere.
    Raises ValueError if there are more patch tokens than vectors or, without a cache, fewer.
    """
    tokens, images = validate_tokens(tokens, config), validate_images(images, config)
    features = None if cache is None else cache.features
    check_image_tokens(tokens, images, config, 0 if features is None else len(features), exact=cache is None)
    x = ops.embed(ops.asarray(tokens), w.text.embedding)
    if images:
        new = image_features(images, w, config, ops, iterate)
        features = new if features is None else np.concatenate([features, new])
    if features is None:
        return x
    patches = tokens == config.patch_id
    n = int(patches.sum())
    if cache is not None:
        cache.features = features[n:] if n < len(features) else None
    return ops.fuse(x, ops.asarray(patches), features[:n])


def forward(tokens, images, w, config, cache=None, ops=reference, iterate=in_order):
    """Logits of the next token at every position.

    Arguments as in `embed_inputs`  ->  logits (T, V)
    """
    with nullcontext() if cache is None else cache.transaction():
        x = embed_inputs(tokens, images, w, config, cache, ops, iterate)
        return ops.linear(text_model(x[None], w.text, config.text, cache, ops, iterate)[0], w.text.output)
