"""Mistakes with images and with quantized weights: where every shape is right and the order of the numbers is not."""
import math

import numpy as np

from tinyscout.laws.mistakes.registry import in_images, in_operation, in_weights

# patches


@in_operation("patches", "patchify")
def channels_last(ops, tiles, patch):
    """The pixels of a patch are read with the channel fastest, instead of slowest."""
    patches = ops.patchify(tiles, patch)
    B, P, _ = patches.shape
    return patches.reshape(B, P, tiles.shape[1], -1).swapaxes(2, 3).reshape(patches.shape)


@in_operation("patches", "pixel_shuffle")
def column_by_column(ops, x, side):
    """The tokens of a tile come column by column, instead of row by row."""
    y = ops.pixel_shuffle(x, side)
    n = math.isqrt(y.shape[1])
    return y.reshape(y.shape[0], n, n, -1).swapaxes(1, 2).reshape(y.shape)


# vision


@in_operation("vision", "rope_angles_2d")
def rows_first(ops, grid, head_dim, theta):
    """The first half of the pairs turns with the row, instead of the column."""
    return tuple(np.roll(a, a.shape[1] // 2, axis=1) for a in ops.rope_angles_2d(grid, head_dim, theta))


@in_operation("vision", "rope_angles_2d")
def count_from_zero(ops, grid, head_dim, theta):
    """Rows and columns count from zero, so that the first patch is not rotated, like the class token."""
    frequency = ops.rope_frequencies(head_dim // 2, theta)
    row, column = np.divmod(np.arange(grid * grid), grid)
    angle = np.concatenate([np.outer(column, frequency), np.outer(row, frequency)], axis=1)
    angle = np.concatenate([angle, np.zeros_like(angle[:1])])
    return np.cos(angle), np.sin(angle)


@in_weights("vision", "vision.position_embedding")
def class_token_first(weights):
    """The first position embedding goes to the class token, and every patch gets that of the next."""
    vision = weights.vision
    return weights._replace(vision=vision._replace(position_embedding=np.roll(vision.position_embedding, -1, axis=0)))


@in_operation("vision", "gelu")
def tanh_gelu(ops, x):
    """GELU is the approximation by tanh, instead of the exact one."""
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2


# tiles and fusion


@in_images("tiles")
def overview_first(images):
    """The small copy of the whole image comes before its tiles, instead of after them."""
    return [np.roll(tiles, 1, axis=0) for tiles in images]


@in_images("tiles")
def transposed_tiles(images):
    """The tiles of an image come column by column, instead of row by row: here, of a square canvas."""
    def transpose(tiles):
        n = math.isqrt(len(tiles) - 1)
        order = np.arange(n * n).reshape(n, n).T.reshape(-1)
        return tiles[[*order, *range(n * n, len(tiles))]]
    return [transpose(tiles) for tiles in images]


@in_operation("fusion", "fuse")
def features_added(ops, x, mask, features):
    """An image's features are added to the embedding of the patch token, instead of replacing it."""
    y = x.copy()
    y[mask] += features
    return y


@in_images("fusion")
def images_exchanged(images):
    """The images of a prompt are given in another order than that of their tokens."""
    return images[::-1]


# quantization


@in_operation("quantization", "dequantize")
def high_half_first(ops, w, dtype=np.float32):
    """The even inputs are read from the high half of a byte, instead of the low half."""
    if w.values.dtype == np.uint8:
        w = w._replace(values=w.values << 4 | w.values >> 4)
    return ops.dequantize(w, dtype)


@in_operation("quantization", "dequantize")
def no_sign(ops, w, dtype=np.float32):
    """Four bits are read as a number from 0 to 15, instead of from -8 to 7."""
    if w.values.dtype != np.uint8:
        return ops.dequantize(w, dtype)
    size = ops.dequantize(w._replace(scales=np.ones_like(w.scales)), dtype)          # integers
    scale = ops.dequantize(w._replace(values=np.full_like(w.values, 0x11)), dtype)   # every integer is one
    return np.where(size < 0, size + 16, size) * scale
