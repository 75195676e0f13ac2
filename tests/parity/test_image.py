"""Tiles against transformers' own image processor, run live.

How near must the pixels be?  Exact resizing, equation (antialias), gives a real number per level.  Pillow rounds it
after each axis, so it stays within 1/2 + 1/2 of the truth, as tinyscout/laws/image.py holds.  torchvision rounds
once, or, where the processor has AVX2, after each axis with weights of 15 bits where Pillow has 22.  In the first
case two whole numbers differ by less than 2, so by at most 1; in the second they mostly round alike.  One level is
1/255, and never more was seen.
"""
import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tinyscout.config import VisionConfig
from tinyscout.inputs.image import (
    canvas_shapes,
    choose_canvas,
    count_tokens,
    denormalize,
    open_image,
    resize_target,
    split_into_tiles,
    tile_layout,
)

from .torchvision_on_cpu import import_torchvision

import_torchvision()

import torch  # noqa: E402
from transformers import image_transforms, image_utils  # noqa: E402
from transformers.models.llama4 import image_processing_llama4  # noqa: E402
from transformers.models.llama4.processing_llama4 import Llama4Processor  # noqa: E402

SCOUT = VisionConfig()
SIZES = [(1, 1), (5, 5), (3, 700), (17, 3001), (33, 2000), (100, 100), (200, 300), (337, 335), (336, 337), (480, 640),
         (300, 800), (720, 1280), (1080, 1920), (1344, 1344), (1501, 1499), (2000, 33)]


def noise(height, width):
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def black_and_white(height, width):
    return noise(height, width) // 128 * 255


def photo(height, width):
    return np.asarray(Image.fromarray(noise(height, width)).filter(ImageFilter.GaussianBlur(3)))


@pytest.fixture(scope="module")
def processor():
    return image_processing_llama4.Llama4ImageProcessor()


def hf_layout(rows, cols):
    """transformers' prompt for an image, as a list of names."""
    string = Llama4Processor._prompt_split_image(None, (rows, cols), SCOUT.tokens_per_tile)
    return ["<|" + name for name in string.split("<|")[1:]]


def test_ten_thousand_sizes():
    """The same canvas, the same size on it, the same number of tiles and of tokens; not one exception."""
    rng = np.random.default_rng(4)
    sizes = np.concatenate([rng.integers(1, 5000, (5000, 2)), np.exp(rng.uniform(0, np.log(60_000), (4000, 2))),
                            336 * rng.integers(1, 17, (1000, 2)) + rng.integers(-1, 2, (1000, 2))]).astype(int)
    tile_size = image_utils.SizeDict(height=336, width=336)
    resolutions = torch.tensor(image_processing_llama4.find_supported_resolutions(16, tile_size))
    lengths = {(rows, cols): len(hf_layout(rows, cols)) for rows, cols in canvas_shapes(16).tolist()}
    assert len(sizes) == 10_000
    for height, width in sizes.tolist():
        canvas = image_processing_llama4.get_best_fit((height, width), resolutions).tolist()
        rows, cols = choose_canvas(height, width)
        assert [336 * rows, 336 * cols] == canvas, (height, width)
        limits = tuple(min(max(size, 336), max_size) for size, max_size in zip((height, width), canvas, strict=True))
        target = image_processing_llama4.get_max_res_without_distortion((height, width), limits)
        assert resize_target(height, width, rows, cols) == tuple(max(n, 1) for n in target), (height, width)
        assert count_tokens(rows, cols, SCOUT) == lengths[rows, cols]


@pytest.mark.parametrize("canvas", canvas_shapes(16).tolist(), ids=lambda canvas: "{}x{}".format(*canvas))
def test_the_same_layout(canvas):
    assert tile_layout(*canvas, SCOUT) == hf_layout(*canvas)


@pytest.mark.parametrize("draw", [noise, black_and_white, photo])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
def test_pixels_within_one_level(processor, size, draw):
    image = Image.fromarray(draw(*size))
    tiles = split_into_tiles(image, SCOUT)
    result = processor(image, do_rescale=False, do_normalize=False, return_tensors="pt")
    hf_levels = result["pixel_values"].numpy().astype(int)
    assert result["aspect_ratios"].tolist() == [[tiles.rows, tiles.cols]]
    assert hf_levels.shape == tiles.pixels.shape
    difference = denormalize(tiles.pixels) - hf_levels
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.25        # rounding is hardly biased; truncation is, by half a level


@pytest.mark.parametrize("size", [(480, 640), (1344, 1344), (200, 300)])
def test_what_reaches_the_model_after_equal_rounding(processor, size):
    """transformers normalizes in bfloat16, tinyscout in float32: bfloat16 applied to our levels gives their pixels."""
    image = Image.fromarray(photo(*size))
    pixels = split_into_tiles(image, SCOUT).pixels
    result = processor(image, return_tensors="pt")["pixel_values"]
    rounded = processor.rescale_and_normalize(
        torch.from_numpy(denormalize(pixels)), True, processor.rescale_factor, True, processor.image_mean,
        processor.image_std)
    assert result.dtype == rounded.dtype == torch.bfloat16
    # [-1, 1] is two wide, so half of a difference is a difference in units of 0..1; bfloat16's own step here is 1/256
    assert (result.float() - rounded.float()).abs().max() / 2 <= 1 / 255 + 1 / 256
    assert (result == rounded).float().mean() > 0.7     # where the levels are equal, so is every bit
    assert np.abs(rounded.float().numpy() - pixels).max() < 1 / 255


def test_a_batch_of_several_images(processor):
    images = [Image.fromarray(photo(*size)) for size in [(480, 640), (100, 100), (300, 800), (480, 640)]]
    hf_batch = processor(images, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"]
    pixels = np.concatenate([split_into_tiles(image, SCOUT).pixels for image in images])
    assert hf_batch.shape == pixels.shape
    assert np.abs(denormalize(pixels) - hf_batch.numpy().astype(int)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "PA", "1", "CMYK"])
def test_the_same_colours(mode):
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 4), dtype=np.uint8))
    intermediate = {"PA": "LA", "RGBA": "RGBA", "LA": "LA"}.get(mode, "RGB")
    image = colours.convert(intermediate).convert(mode)
    np.testing.assert_array_equal(open_image(image), image_transforms.convert_to_rgb(image, return_numpy=True))


def test_the_same_transparency_in_a_palette():
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 50)).convert("P").save(buffer, "PNG", transparency=17)
    image = Image.open(buffer)
    assert "transparency" in image.info
    np.testing.assert_array_equal(open_image(image), image_transforms.convert_to_rgb(image, return_numpy=True))


def test_the_same_orientation(tmp_path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer, path = io.BytesIO(), tmp_path / f"{orientation}.png"
        Image.fromarray(noise(30, 50)).save(buffer, "PNG", exif=exif)
        path.write_bytes(buffer.getvalue())
        np.testing.assert_array_equal(open_image(path), image_utils.load_image(str(path)))
