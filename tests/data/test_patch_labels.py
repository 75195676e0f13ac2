"""Labels of patches: they name what is drawn there, and the targets are chosen from them."""
from collections import Counter

import numpy as np
import pytest

from tinyscout.data import scenes
from tinyscout.data.patch_labels import common_properties, patch_labels, patch_targets
from tinyscout.data.scenes import render


def make_rng(seed=0):
    return np.random.default_rng(seed)


def pixels(scene, size=64):
    return np.asarray(render(scene, size)).astype(int)


def test_labels_name_what_is_drawn_in_their_patch():
    """If a patch has labels, the image is not bare background there; if it has none, most of it is."""
    rng = make_rng(5)
    for kind in scenes.KINDS:
        for _ in range(20):
            scene = scenes.random_scene(rng, kind)
            is_bare = np.abs(pixels(scene) - scenes.BACKGROUNDS[scene.background]).sum(-1) < 30
            for n, labels in enumerate(patch_labels(scene, 4)):
                row, col = divmod(n, 4)
                bare_share = is_bare[16 * row:16 * row + 16, 16 * col:16 * col + 16].mean()
                is_text = scene.kind in ("number", "word")          # a 7 leaves most of its box empty
                assert bare_share < 1 or is_text if labels else bare_share > 0.5, (scene, n, labels)


def test_labels_of_known_scenes():
    star = scenes.SceneObject("star", "red", "large", 0)
    scene = scenes.Scene("objects", "white", (star, star._replace(cell=8)))
    labels = ("star", "red", "large")
    assert patch_labels(scene, 3) == [(*labels, "top left"), *[()] * 7, (*labels, "bottom right")]
    chart = scenes.Scene("chart", "black", bars=(("red", 6), ("blue", 1)))
    assert patch_labels(chart, 4)[:4] == [(), ("red", "6"), (), ()]
    word = scenes.Scene("word", "grey", text="BAD", colour="pink")
    assert patch_labels(word, 3)[3:6] == [("B", "pink"), ("A", "pink"), ("D", "pink")]
    seven = scenes.Scene("number", "grey", text="7", colour="pink")
    assert {labels for labels in patch_labels(seven, 4) if labels} == {("7", "pink")}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_first_label_is_the_target_mostly_and_the_count_at_the_end(stage):
    rng, star = make_rng(6), scenes.SceneObject("star", "red", "large", 0)
    scene = scenes.Scene("objects", "white", (star, star._replace(cell=8, colour="blue")))
    targets = [patch_targets(rng, [scene], 3, stage) for _ in range(400)]
    assert {tuple(labels[1:8]) for labels in targets} == {("",) * 7}
    assert {labels[9] for labels in targets} == {"2"}
    counts = Counter(labels[0] for labels in targets)
    assert set(counts) == {"star", "red", "large", "top left", *(("1", "2") if stage else ())}
    first = counts.pop("star")
    assert abs(first - (300, 240, 160, 160)[stage]) < 40
    assert all(abs(n - (400 - first) / len(counts)) < 25 for n in counts.values())
    assert patch_targets(rng, [scenes.Scene("word", "grey", text="BAD", colour="pink")], 3, stage)[-1] == ""
    chart = scenes.Scene("chart", "black", bars=(("red", 6), ("blue", 1), ("pink", 2)))
    assert patch_targets(rng, [chart], 3, stage)[-1] == "3"


def test_a_second_image_is_also_asked_what_both_share():
    star = scenes.SceneObject("star", "red", "large", 0)
    one, other, two = (scenes.Scene("objects", "white", objects) for objects in (
        (star,), (star._replace(cell=3, size="small"),), (star, star._replace(cell=8))))
    assert common_properties(one, other) == ["shape", "colour"]
    assert common_properties(one, one) == ["shape", "colour", "size", "position"]
    assert common_properties(one, two) == []
    assert common_properties(two, two) == ["number"]
    rng = make_rng(7)
    targets = [patch_targets(rng, [one, other], 3, 1) for _ in range(400)]
    assert {labels[9] for labels in targets} == {"1"}
    counts = Counter(labels[19] for labels in targets)
    assert set(counts) == {"1", "shape", "colour"}
    assert 160 < counts["1"] < 240
    assert {labels[19] for labels in (patch_targets(rng, [one, other], 3) for _ in range(50))} == {"1"}
    for stage in (2, 3):
        assert {labels[9] for labels in (patch_targets(rng, [one, other], 3, stage) for _ in range(99))} == {
            "1", "star", "red", "large", "top left"}
    assert {labels[19] for labels in (patch_targets(rng, [one, two], 3, 1) for _ in range(50))} == {"2"}
