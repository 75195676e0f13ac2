"""Images to tiles: the known sizes, the laws, and every way in which an image can be bad."""
import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from tinyscout.config import VisionConfig
from tinyscout.inputs import image
from tinyscout.inputs.image import (
    canvas_shapes,
    choose_canvas,
    count_tokens,
    open_image,
    resize_target,
    split_into_tiles,
    tile_layout,
)
from tinyscout.laws.image import CONFIG, LAWS

SCOUT = VisionConfig()


def encode_image(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that claims its size and holds next to nothing: a decompression bomb in 60 bytes."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law, examples):
    @settings(max_examples=4 * examples, deadline=None, database=None, derandomize=True)
    @given(LAWS[law])
    def law_holds(drawn):
        law(*drawn)

    law_holds()


@pytest.mark.parametrize(("size", "canvas", "resized", "tiles", "tokens"), [
    ((100, 100), (1, 1), (336, 336), 1, 147),
    ((336, 336), (1, 1), (336, 336), 1, 147),
    ((200, 300), (1, 1), (224, 336), 1, 147),
    ((336, 337), (1, 2), (336, 337), 3, 437),
    ((400, 400), (2, 2), (400, 400), 5, 727),
    ((480, 640), (2, 2), (480, 640), 5, 727),
    ((300, 800), (1, 3), (300, 800), 4, 582),
    ((720, 1280), (3, 4), (720, 1280), 13, 1887),
    ((1080, 1920), (3, 5), (945, 1680), 16, 2322),
    ((100, 2000), (1, 6), (100, 2000), 7, 1017),
    ((4032, 3024), (4, 3), (1344, 1008), 13, 1887),
    ((1344, 1344), (4, 4), (1344, 1344), 17, 2467),
    ((3000, 3000), (4, 4), (1344, 1344), 17, 2467),
])
def test_known_sizes(size, canvas, resized, tiles, tokens):
    assert choose_canvas(*size) == canvas
    assert resize_target(*size, *canvas) == resized
    assert count_tokens(*canvas, SCOUT) == tokens == len(tile_layout(*canvas, SCOUT))
    rows, cols = canvas
    assert rows * cols + (rows * cols > 1) == tiles


def test_sixteen_tiles_are_laid_in_fifty_ways():
    assert len(canvas_shapes(16)) == 50
    assert max(count_tokens(rows, cols, SCOUT) for rows, cols in canvas_shapes(16)) == 2467


def test_the_cap_holds_where_counting_tiles_would_not():
    """ceil(h / 336) * ceil(w / 336) is 81 for this one; another project shipped that."""
    assert choose_canvas(3000, 3000) == (4, 4)
    assert choose_canvas(900, 1700) == (3, 5)       # ceil would give 3 by 6


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 20_000)])
def test_thin_images(size):
    tiles = split_into_tiles(np.full((*size, 3), 200, np.uint8), CONFIG)
    assert tiles.rows * tiles.cols <= 16
    np.testing.assert_allclose(tiles.pixels[-1].max(), 200 / 127.5 - 1, atol=1e-6)


def test_channels_and_their_scale():
    tiles = split_into_tiles(np.full((28, 28, 3), (0, 51, 255), np.uint8), CONFIG)
    np.testing.assert_allclose(tiles.pixels[0, :, 5, 7], [-1, -0.6, 1], atol=1e-6)


def test_max_tiles():
    assert split_into_tiles(PHOTO, CONFIG, max_tiles=1).pixels.shape == (1, 3, 28, 28)
    assert split_into_tiles(PHOTO, CONFIG, max_tiles=2)[1:] == (2, 1)
    assert split_into_tiles(PHOTO, replace(CONFIG, max_tiles=2))[1:] == (2, 1)


# ---- every form an image comes in

def test_every_source_opens_alike(tmp_path):
    path = tmp_path / "photo.png"
    PHOTO.save(path)
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), PHOTO, np.array(PHOTO)):
        opened = open_image(source)
        assert opened.mode == "RGB"
        np.testing.assert_array_equal(opened, PHOTO)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(open_image(file), PHOTO)
        assert not file.closed


def test_a_transparent_image_is_put_on_white():
    for mode, ink in (("RGBA", (0, 0, 0, 0)), ("LA", (0, 0)), ("RGBA", (255, 255, 255, 128))):
        opened = open_image(Image.new(mode, (4, 3), ink))
        assert np.asarray(opened).min() == 255
    half = open_image(np.full((3, 4, 4), (0, 0, 0, 51), np.uint8))
    assert np.asarray(half).tolist() == [[[204] * 3] * 4] * 3
    palette = Image.new("P", (2, 2), 7)
    palette.info["transparency"] = 7
    assert np.asarray(open_image(palette)).min() == 255


def test_grey_black_and_white_and_print_colours():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for source in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(open_image(source), np.repeat(grey[..., None], 3, axis=2))
    assert np.asarray(open_image(Image.new("1", (2, 2), 1))).min() == 255
    assert np.asarray(open_image(Image.new("CMYK", (2, 2)))).min() == 255


def test_a_file_is_turned_upright_and_a_pil_image_is_not():
    exif = Image.Exif()
    exif[0x0112] = 6        # "turn me clockwise"
    data = encode_image(PHOTO, exif=exif)
    np.testing.assert_array_equal(open_image(data), np.rot90(np.asarray(PHOTO), -1))
    np.testing.assert_array_equal(open_image(Image.open(io.BytesIO(data))), PHOTO)


def test_the_input_is_not_touched():
    before = np.array(PHOTO)
    split_into_tiles(PHOTO, CONFIG)
    np.testing.assert_array_equal(PHOTO, before)


# ---- and every form in which it is bad: one clear line

@pytest.mark.parametrize(("source", "message"), [
    (b"", "is not an image"),
    (b"these bytes are words", "is not an image"),
    (encode_image(PHOTO)[:2000], "cannot be read as an image: .*truncated"),
    (encode_image(PHOTO, "JPEG")[:1500], "cannot be read as an image: .*truncated"),
    (encode_image(PHOTO)[:40], "cannot be read as an image|is not an image"),
    (png_header(100_000, 100_000), "exceeds limit"),
    (png_header(10_000, 10_000), "exceeds limit"),
    (png_header(70_000, 2), "is too large: 2 by 70,000"),
    (png_header(8, 8), "cannot be read as an image"),
    (np.zeros((0, 4, 3), np.uint8), "is empty: 0 by 4"),
    (Image.new("RGB", (0, 5)), "is empty: 5 by 0"),
    (np.zeros((4, 4, 3), np.float32), r"not float32 \(4, 4, 3\)"),
    (np.zeros((4, 4, 2), np.uint8), r"not uint8 \(4, 4, 2\)"),
    (np.zeros((2, 4, 4, 3), np.uint8), r"not uint8 \(2, 4, 4, 3\)"),
    (np.zeros(4, np.uint8), r"not uint8 \(4,\)"),
    (np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "is too large: 20,000 by 20,000"),
    (Image.new("I;16", (2, 2)), "more than 8 bits per level"),
    (Image.new("F", (2, 2)), "more than 8 bits per level"),
    (17, "not int"),
    (None, "not NoneType"),
    (io.StringIO("text"), "cannot be read as an image|is not an image"),
])
def test_bad_images(source, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_image(source)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_that_somebody_else_has_opened():
    with pytest.raises(ValueError, match="truncated"):
        open_image(Image.open(io.BytesIO(encode_image(PHOTO, "JPEG")[:1500])))


def test_gigantic_even_where_pillow_is_told_not_to_mind(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ValueError, match="is too large: 60,000 by 60,000"):
        open_image(png_header(60_000, 60_000))


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_image(tmp_path / "nowhere.png")
    with pytest.raises(OSError, match=str(tmp_path)):
        open_image(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"notes\.txt' is not an image"):
        open_image(tmp_path / "notes.txt")


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (5, 5, 0), (5, 5, 336, 0)])
def test_no_canvas(sizes):
    with pytest.raises(ValueError, match="no canvas"):
        choose_canvas(*sizes)


def test_the_limits_leave_room_for_every_camera():
    assert image.MAX_PIXELS > 8000 * 11_000
