"""Split an image into tiles: squares of one size, and one small copy of the whole image.

The steps: open (RGB, 0..255) -> choose a canvas of rows × cols tiles -> resize -> pad -> cut -> normalize.
docs/tiles.md explains them with numbers.
"""
import io
import math
import os
import warnings
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from tinyscout.config import VisionConfig

MAX_TILES = 16              # of one image, excluding the global tile
MAX_PIXELS = 89_478_485     # a quarter of a gigabyte in 24 bits; above it, Pillow warns of an attack too
MAX_SIDE = 65_535           # the longest side of a JPEG; Pillow's intermediate images of thin strips are wide

IMAGE_START, IMAGE_END, IMAGE, PATCH = "<|image_start|>", "<|image_end|>", "<|image|>", "<|patch|>"
TILE_X, TILE_Y = "<|tile_x_separator|>", "<|tile_y_separator|>"

ImageSource = str | os.PathLike | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray


class Tiles(NamedTuple):
    """An image as the vision encoder reads it."""

    pixels: np.ndarray      # (tiles, 3, h, w) float32 in [-1, 1]: row by row, then the global tile if there are several
    rows: int               # of tiles on the canvas
    cols: int


def open_image(source: ImageSource) -> Image.Image:
    """Open an image from any source as RGB, with transparent pixels composited onto white.

    source: a path, the bytes of a file, a file object, a PIL image, or a uint8 array (h, w), (h, w, 1 | 3 | 4).
    Returns a PIL image in RGB.  Files are rotated according to their EXIF orientation; images and arrays are not.
    Raises OSError if a path cannot be opened, and ValueError if a file is damaged or not an image, if the image is
    empty or too large, or if its levels are not 8-bit.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return _decode(file, repr(os.fspath(source)))
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), "the data")
    if isinstance(source, np.ndarray):
        return _flatten_alpha(_from_array(source), "the array")
    if isinstance(source, Image.Image):
        return _flatten_alpha(source, "the image")
    if hasattr(source, "read"):
        return _decode(source, repr(getattr(source, "name", "the file")))
    raise ValueError(f"an image is a path, bytes, a file, a PIL image or a uint8 array, not {type(source).__name__}")


def _decode(file, name):
    with _decode_errors(name):
        image = Image.open(file)        # reads only the header: the size is checked before any pixel is decoded
    _check_size(image.height, image.width, name)
    with _decode_errors(name):
        ImageOps.exif_transpose(image, in_place=True)
    return _flatten_alpha(image, name)


@contextmanager
def _decode_errors(name):
    """Turn all errors of Pillow's decoders (SyntaxError, EOFError, ...) into a ValueError with a one-line message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except Image.UnidentifiedImageError:
        raise ValueError(f"{name} is not an image, or is in a format that Pillow does not support") from None
    except Exception as error:
        raise ValueError(f"{name} cannot be read as an image: {str(error) or type(error).__name__}") from error


def _check_size(height, width, name):
    if height < 1 or width < 1:
        raise ValueError(f"{name} is empty: {height} by {width} pixels")
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise ValueError(f"{name} is too large: {height:,} by {width:,} pixels; the limits are {MAX_PIXELS:,} in all "
                         f"and {MAX_SIDE:,} on a side")


def _from_array(array):
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(f"an image array must be uint8 of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), "
                         f"not {array.dtype} {array.shape}")
    _check_size(array.shape[0], array.shape[1], "the array")
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _flatten_alpha(image, name):
    """Convert an image to RGB, with transparent pixels composited onto white."""
    _check_size(image.height, image.width, name)
    if image.mode[0] in "IF":           # Pillow would clip 0..65535 at 255: nearly everything white
        raise ValueError(f"{name} has more than 8 bits per level (mode {image.mode}): scale it to 0..255 first")
    with _decode_errors(name):
        image.load()
        if image.has_transparency_data:
            background = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(background, image.convert("RGBA"))
        return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache
def canvas_shapes(max_tiles: int = MAX_TILES) -> np.ndarray:
    """All canvases of at most `max_tiles` tiles: (n, 2) int of rows and cols; there are 50 for 16 tiles."""
    return np.array([(rows, cols) for rows in range(1, max_tiles + 1) for cols in range(1, max_tiles // rows + 1)])


def choose_canvas(height: int, width: int, tile_size: int = 336, max_tiles: int = MAX_TILES) -> tuple[int, int]:
    """Choose the canvas: the tightest that holds the image unscaled, or else the one that shrinks it least.

    height, width, tile_size in pixels.  Returns (rows, cols) in tiles.  Equation (tiling).

    A canvas allows the scale min(canvas side / image side) over both axes.  Several canvases may allow the same scale;
    the smallest of them is unique, because if two allow a scale, so does the canvas with the smaller of their rows and
    the smaller of their cols.  Raises ValueError for a size below one.
    """
    if min(height, width, tile_size, max_tiles) < 1:
        raise ValueError(f"no canvas for {height} by {width} pixels in at most {max_tiles} tiles of {tile_size}")
    canvases = canvas_shapes(max_tiles)
    # float32, as in the model's original preprocessing: a quotient that rounds to 1 counts as 1
    scale = ((canvases * tile_size).astype(np.float32) / np.array([height, width], np.float32)).min(axis=1)
    enlarging = scale[scale >= 1]
    best = canvases[scale == (enlarging.min() if enlarging.size else scale.max())]
    rows, cols = best[best.prod(axis=1).argmin()]
    return int(rows), int(cols)


def resize_target(height: int, width: int, rows: int, cols: int, tile_size: int = 336) -> tuple[int, int]:
    """Size of the image on its canvas, keeping the aspect ratio; only an image smaller than a tile is enlarged.

    All in pixels except rows and cols.  Returns (height, width).  Equation (tile-fit).
    """
    max_height = min(max(height, tile_size), rows * tile_size)
    max_width = min(max(width, tile_size), cols * tile_size)
    scale_y, scale_x = max_height / height, max_width / width
    if scale_x < scale_y:
        return max(1, min(math.floor(height * scale_x), max_height)), max_width
    return max_height, max(1, min(math.floor(width * scale_y), max_width))


def split_into_tiles(source: ImageSource, config: VisionConfig, max_tiles: int | None = None) -> Tiles:
    """Split an image into the tiles that the vision encoder reads.

    source: anything that open_image takes.  config: a VisionConfig, of which tile_size and max_tiles are used.
    max_tiles: the largest number of tiles, excluding the global tile; None for the config's max_tiles.
    A canvas of several tiles is followed by a global tile: the whole image resized to one square, regardless of its
    aspect ratio.  Raises what open_image raises.
    """
    image, size = open_image(source), config.tile_size
    rows, cols = choose_canvas(image.height, image.width, size, max_tiles or config.max_tiles)
    height, width = resize_target(image.height, image.width, rows, cols, size)
    canvas = np.zeros((rows * size, cols * size, 3), np.uint8)      # black, to the right and below
    canvas[:height, :width] = resize(image, height, width)
    levels = canvas.reshape(rows, size, cols, size, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, size, size)
    if rows * cols > 1:
        levels = np.concatenate([levels, resize(image, size, size).transpose(2, 0, 1)[None]])
    return Tiles(normalize(levels), rows, cols)


def assemble_tiles(tiles: Tiles) -> np.ndarray:
    """The inverse of split_into_tiles, without the global tile.

    Returns the canvas, (rows * h, cols * w, 3) uint8, padding included.
    """
    pixels, rows, cols = tiles
    _, channels, height, width = pixels.shape
    grid = denormalize(pixels[:rows * cols]).reshape(rows, cols, channels, height, width)
    return grid.transpose(0, 3, 1, 4, 2).reshape(rows * height, cols * width, channels)


def resize(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Resize bilinearly, with a filter that widens as the image shrinks ("antialias"), equation (antialias).

    Returns (height, width, 3) uint8.
    """
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def normalize(levels: np.ndarray) -> np.ndarray:
    """Map levels 0..255 to float32 in [-1, 1], as the encoder was trained: mean 0.5, standard deviation 0.5."""
    half = np.float32(0.5)
    return (levels.astype(np.float32) / np.float32(255) - half) / half


def denormalize(pixels: np.ndarray) -> np.ndarray:
    """The inverse of normalize: uint8."""
    return np.rint((pixels * 0.5 + 0.5) * 255).astype(np.uint8)


def tile_layout(rows: int, cols: int, config: VisionConfig) -> list[str]:
    """Names of the special tokens of an image in the text, in order.

    Row by row, a separator after every tile (x within the row, y at its end); then `<|image|>` and the global tile.
    A single tile is its own global tile.  Equation (tile-tokens).
    """
    tile = [PATCH] * config.tokens_per_tile
    names = [IMAGE_START]
    if rows * cols > 1:
        for _ in range(rows):
            for col in range(cols):
                names += [*tile, TILE_X if col < cols - 1 else TILE_Y]
    return [*names, IMAGE, *tile, IMAGE_END]


def count_tokens(rows: int, cols: int, config: VisionConfig) -> int:
    """Number of tokens of an image of rows × cols tiles: the length of its layout.  Equation (tile-tokens)."""
    n = rows * cols
    local = n * (config.tokens_per_tile + 1) if n > 1 else 0
    return local + config.tokens_per_tile + 3
