"""Laws of splitting an image into tiles.

LAWS maps every law to the strategy that draws its arguments: `law(*drawn)` must not raise.
"""
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tinyscout.config import VisionConfig
from tinyscout.inputs.image import (
    IMAGE,
    PATCH,
    TILE_X,
    TILE_Y,
    assemble_tiles,
    choose_canvas,
    count_tokens,
    denormalize,
    normalize,
    resize_target,
    split_into_tiles,
    tile_layout,
)
from tinyscout.laws.draw import seeds

TILE = 28       # pixels: two patches of 7 on a side for each of 2 tokens on a side
CONFIG = VisionConfig(dim=32, n_heads=2, n_layers=2, hidden_dim=128, adapter_dim=48, tile_size=TILE, patch_size=7)


def random_image(height, width, seed):
    """An image of noise, in which no two squares are equal.  Levels from 1: only padding is black."""
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def triangle_weights(length, target):
    """Matrix that resizes one axis, (target, length) float64: equation (antialias) as written."""
    scale = max(length / target, 1.0)
    centre = (np.arange(target)[:, None] + 0.5) * length / target
    weight = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centre) / scale)
    return weight / weight.sum(axis=1, keepdims=True)


def resize_by_definition(levels, height, width):
    """The resized image in float64, unrounded."""
    narrow = triangle_weights(levels.shape[1], width) @ levels.astype(np.float64)           # (h, width, 3)
    return np.tensordot(triangle_weights(levels.shape[0], height), narrow, axes=1)


def canvas_is_the_best(height, width, tile, max_tiles):
    """In exact arithmetic, no canvas fits better, up to float32 rounding, and no smaller one fits equally well."""
    def fit(rows, cols):
        return min(Fraction(rows * tile, height), Fraction(cols * tile, width))

    rows, cols = choose_canvas(height, width, tile, max_tiles)
    assert min(rows, cols) >= 1
    assert rows * cols <= max_tiles
    fits = {(r, c): fit(r, c) for r in range(1, max_tiles + 1) for c in range(1, max_tiles // r + 1)}
    large_enough = [f for f in fits.values() if f >= 1]
    best = min(large_enough) if large_enough else max(fits.values())
    assert abs(fits[rows, cols] / best - 1) < Fraction(1, 2**22)
    assert not any(f == fits[rows, cols] for (r, c), f in fits.items() if r * c < rows * cols)


def canvas_turns_with_the_picture(height, width, tile, max_tiles):
    assert choose_canvas(width, height, tile, max_tiles) == choose_canvas(height, width, tile, max_tiles)[::-1]


def picture_fits_and_keeps_its_shape(height, width, tile, max_tiles):
    """The image fits the canvas, keeps its proportions to a pixel, grows only to a tile, and stays if it fits."""
    rows, cols = choose_canvas(height, width, tile, max_tiles)
    h, w = resize_target(height, width, rows, cols, tile)
    max_h, max_w = min(rows * tile, max(height, tile)), min(cols * tile, max(width, tile))
    assert 1 <= h <= max_h
    assert 1 <= w <= max_w
    off_h, off_w = Fraction(w * height, width) - h, Fraction(h * width, height) - w
    assert (w == max_w and (0 <= off_h <= 1 or h == 1)) or (h == max_h and (0 <= off_w <= 1 or w == 1))
    if tile <= height <= rows * tile and tile <= width <= cols * tile:
        assert (h, w) == (height, width)


def tiles_lie_row_by_row(height, width, seed):
    """Tile row * cols + col is the square at (row, col) of the canvas; padding is black, to the right and below."""
    tiles = split_into_tiles(random_image(height, width, seed), CONFIG)
    h, w = resize_target(height, width, tiles.rows, tiles.cols, TILE)
    canvas = assemble_tiles(tiles)
    assert canvas.shape == (tiles.rows * TILE, tiles.cols * TILE, 3)
    for number, tile in enumerate(tiles.pixels[:tiles.rows * tiles.cols]):
        row, col = divmod(number, tiles.cols)
        square = canvas[row * TILE:(row + 1) * TILE, col * TILE:(col + 1) * TILE]
        np.testing.assert_array_equal(normalize(square).transpose(2, 0, 1), tile)
    assert (canvas[:h, :w] > 0).all()
    assert not canvas[h:].any()
    assert not canvas[:, w:].any()


def cut_then_join_is_the_picture(height, width, seed):
    """An image that needs no resizing is restored exactly."""
    levels = random_image(height, width, seed)
    tiles = split_into_tiles(levels, CONFIG)
    assert tiles.pixels.dtype == np.float32
    np.testing.assert_array_equal(assemble_tiles(tiles)[:height, :width], levels)


def resizing_is_a_triangle_filter(height, width, seed):
    """Pillow rounds after each axis, by half a level at most, so it is within one level of the unrounded truth."""
    levels = random_image(height, width, seed)
    tiles = split_into_tiles(levels, CONFIG)
    h, w = resize_target(height, width, tiles.rows, tiles.cols, TILE)
    difference = assemble_tiles(tiles)[:h, :w] - resize_by_definition(levels, h, w)
    assert np.abs(difference).max() <= 1.01                             # Pillow's weights have 22 bits
    if tiles.rows * tiles.cols > 1:
        global_tile = denormalize(tiles.pixels[-1]).transpose(1, 2, 0)
        assert np.abs(global_tile - resize_by_definition(levels, TILE, TILE)).max() <= 1.01


def there_is_one_global_tile(height, width, seed):
    """The last of several tiles is the complete image in one square, without padding."""
    tiles = split_into_tiles(random_image(height, width, seed), CONFIG)
    n = tiles.rows * tiles.cols
    assert len(tiles.pixels) == n + (n > 1)
    assert n == 1 or denormalize(tiles.pixels[-1]).min() > 0


def layout_tells_the_tiles(rows, cols, config):
    """The separators determine rows and cols, and there is a patch token for every row of the encoder's output."""
    names = tile_layout(rows, cols, config)
    n = rows * cols
    assert len(names) == count_tokens(rows, cols, config)
    assert names.count(PATCH) == (n + (n > 1)) * config.tokens_per_tile
    assert names.count(IMAGE) == 1
    if n > 1:
        per_row = [line.count(TILE_X) + 1 for line in "".join(names[:names.index(IMAGE)]).split(TILE_Y)[:-1]]
        assert per_row == [cols] * rows


def every_level_comes_back(levels):
    pixels = normalize(levels)
    assert pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (-1, 1)
    np.testing.assert_array_equal(denormalize(pixels), levels)


def arrays_and_pictures_are_cut_alike(height, width, seed):
    levels = random_image(height, width, seed)
    original = levels.copy()
    a, b = split_into_tiles(levels, CONFIG), split_into_tiles(Image.fromarray(levels), CONFIG)
    np.testing.assert_array_equal(a.pixels, b.pixels)
    np.testing.assert_array_equal(levels, original)


def sizes_near_edges(tile):
    """Sizes near multiples of a tile, any others, and tiny ones."""
    edges = [n * tile + d for n in (1, 2, 3, 4, 16) for d in (-1, 0, 1) if n * tile + d > 0]
    return st.sampled_from(edges) | st.integers(1, 20 * tile) | st.integers(1, 3)


def image_sizes(tile):
    return st.tuples(sizes_near_edges(tile), sizes_near_edges(tile), st.just(tile), st.sampled_from([1, 2, 3, 7, 16]))


any_size = st.sampled_from([336, 56, 1]).flatmap(image_sizes)
images = st.tuples(sizes_near_edges(TILE), sizes_near_edges(TILE), seeds)
unresized = st.tuples(st.integers(TILE, 4 * TILE), st.integers(TILE, 4 * TILE), seeds)
grids = st.tuples(st.integers(1, 16), st.integers(1, 16), st.sampled_from([CONFIG, VisionConfig()])).filter(
    lambda grid: grid[0] * grid[1] <= 16)

LAWS = {
    canvas_is_the_best: any_size,
    canvas_turns_with_the_picture: any_size,
    picture_fits_and_keeps_its_shape: any_size,
    tiles_lie_row_by_row: images,
    cut_then_join_is_the_picture: unresized,
    resizing_is_a_triangle_filter: images,
    there_is_one_global_tile: images,
    layout_tells_the_tiles: grids,
    every_level_comes_back: st.tuples(st.just(np.arange(256, dtype=np.uint8))),
    arrays_and_pictures_are_cut_alike: images,
}
