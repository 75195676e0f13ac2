"""Scenes: everything is drawn, each in its own way, and the same ones are held out everywhere."""
import numpy as np
import pytest

from tinyscout.data import scenes
from tinyscout.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    MAX_BAR_HEIGHT,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    render,
)

HELD_OUT_NUMBERS = [1, 13, 45, 65, 75, 86, 102, 144, 149, 165]


def make_rng(seed=0):
    return np.random.default_rng(seed)


def pixels(scene, size=64):
    return np.asarray(render(scene, size)).astype(int)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_scenes(kind):
    one, other = ([scenes.random_scene(rng, kind) for _ in range(20)] for rng in (make_rng(3), make_rng(3)))
    assert one == other
    assert len(set(one)) > 10
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(one, other, strict=True))


def test_all_that_there_is_is_drawn():
    rng = make_rng(14)
    grids, texts, charts = ([scenes.random_scene(rng, kind) for _ in range(400)]
                            for kind in ("objects", "number", "chart"))
    for n, values in enumerate([SHAPES, COLOURS, SIZES, range(9)]):
        assert {obj[n] for scene in grids for obj in scene.objects} == set(values)
    assert {len(scene.objects) for scene in grids} == set(range(1, scenes.MAX_OBJECTS + 1))
    assert {scene.background for scene in grids} == set(BACKGROUNDS)
    assert {len(scene.text) for scene in texts} == {1, 2, 3}
    assert {len(scene.bars) for scene in charts} == set(scenes.BAR_COUNTS)
    assert {height for scene in charts for _, height in scene.bars} == set(range(1, MAX_BAR_HEIGHT + 1))


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="'cat'"):
        scenes.random_scene(make_rng(), "cat")


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_an_object_stays_in_its_cell_and_has_its_colour(background):
    rng = make_rng(1)
    for shape in SHAPES:
        for colour in COLOURS:
            obj = scenes.random_object(rng, int(rng.integers(9)), shape, colour)
            image = pixels(Scene("objects", background, (obj,)), 96)
            drawn = (image != BACKGROUNDS[background]).any(2)
            row, col = divmod(obj.cell, 3)
            inside = drawn[row * 32:row * 32 + 32, col * 32:col * 32 + 32]
            assert inside.sum() == drawn.sum() > 20
            full = (image == COLOURS[colour]).all(2)
            assert full.sum() > 0.4 * drawn.sum()


def test_all_that_differs_in_the_key_differs_in_the_image():
    """Every change of one attribute of an object is seen, and by far, and so is every background."""
    first = SceneObject("circle", "red", "small", 4)
    images = [pixels(Scene("objects", "white", (first._replace(**{field: value}),)))
              for field, values in [("shape", SHAPES[1:]), ("colour", [*COLOURS][1:]), ("size", ["large"]),
                                    ("cell", [0, 1, 2, 3, 5, 6, 7, 8])] for value in values]
    images += [pixels(Scene("objects", background, (first,))) for background in BACKGROUNDS]
    images.append(pixels(Scene("objects", "white")))
    for n, one in enumerate(images):
        for other in images[:n]:
            assert (abs(one - other).max(2) > 60).sum() >= 8


@pytest.mark.parametrize("kind", ["number", "word"])
def test_every_text_differs_and_stays_inside(kind):
    texts = [str(n) for n in range(1000)] if kind == "number" else [
        a + b + c for a in scenes.FIRST_LETTERS for b in scenes.VOWELS for c in scenes.LAST_LETTERS]
    seen = set()
    for text in texts:
        image = pixels(Scene(kind, "white", text=text, colour="blue", shift=(-0.03, 0.03)))
        assert (image[[0, -1]] == 255).all()
        assert (image[:, [0, -1]] == 255).all()
        seen.add(image.tobytes())
    assert len(seen) == len(texts)


def test_bars_have_their_heights_and_colours():
    rng = make_rng(2)
    for _ in range(50):
        scene = scenes.random_scene(rng, "chart")
        image = pixels(scene, 128)
        tall = [(image == COLOURS[colour]).all(2).sum(0).max() for colour, _ in scene.bars]
        left = [(image == COLOURS[colour]).all(2).any(0).argmax() for colour, _ in scene.bars]
        assert left == sorted(left)
        assert np.allclose(np.array(tall) / [height for _, height in scene.bars], 0.84 * 128 / MAX_BAR_HEIGHT, atol=1.5)


def test_a_scene_is_held_out_by_what_is_seen():
    rng = make_rng(4)
    for kind in KINDS:
        drawn = [scenes.random_scene(rng, kind) for _ in range(1000)]
        assert 20 < sum(map(scenes.is_held_out, drawn)) < 120
    obj = SceneObject("star", "pink", "large", 3)
    jittered = {scenes.is_held_out(Scene("objects", "grey", (obj._replace(dx=dx),))) for dx in np.linspace(0, 0.02, 60)}
    assert len(jittered) == 1
    numbers = {scenes.is_held_out(Scene("number", background, text="42", colour=colour))
               for background in BACKGROUNDS for colour in COLOURS}
    assert len(numbers) == 1
    assert [n for n in range(200) if scenes.is_held_out(Scene("number", "white", text=str(n)))] == HELD_OUT_NUMBERS


def test_what_is_hashed_of_a_scene_stays():
    """Every other string would deal the scenes anew, and a trained model would be tested on what it has seen."""
    obj = SceneObject("star", "pink", "large", 3, 0.01, -0.01)
    assert scenes.scene_key(Scene("objects", "grey", (obj,))) == "things: ['grey', ('star', 'pink', 'large', 3)]"
    assert scenes.scene_key(Scene("chart", "black", bars=(("red", 6),))) == "chart: ['black', ('red', 6)]"
    assert scenes.scene_key(Scene("number", "white", text="42", colour="red")) == "number: ['42']"
