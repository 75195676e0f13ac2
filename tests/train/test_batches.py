"""What a training reads: text with needles, conversations, and the names that picture tokens learn to say."""
import re
from dataclasses import replace

import numpy as np
import pytest

from tinyscout.config import ScoutConfig, TextConfig, VisionConfig, layer_plan
from tinyscout.data.corpus import Corpus
from tinyscout.data.dialogs import random_dialog
from tinyscout.data.patch_labels import common_properties, patch_labels
from tinyscout.data.scenes import GRID_POSITIONS
from tinyscout.train import Recipe
from tinyscout.train.batches import IGNORE_INDEX, BatchSource, assistant_mask, train_tokenizer
from tinyscout.train.recipe import N_SPECIAL, with_special_ids

LINES = "def f(x):\n    return x + 1\n\n\nclass Twice:\n    def __call__(self, x):\n        return 2 * x\n\n\n" * 40
CORPUS = Corpus([("a.py", LINES)], [("b.py", LINES[:2000])])
RECIPE = Recipe(steps=6, text_tokens_per_step=192, row_length=((0.5, 64), (1.0, 96)), needles=((1.0, 2),), warmup=2)


def small(vision):
    text = TextConfig(dim=32, n_heads=2, n_kv_heads=1, head_dim=16, n_experts=4, hidden_dim=24, dense_dim=40,
                      layers=layer_plan(4), rope_scaling=None, chunk_size=32)
    eye = VisionConfig(dim=16, n_heads=2, n_layers=1, hidden_dim=64, adapter_dim=16, tile_size=64, patch_size=8)
    return with_special_ids(ScoutConfig(text, eye if vision else None), 256 + N_SPECIAL)


def taught(dialogs):
    """A school for a model that sees four by four squares, and its config."""
    config, recipe = small(vision=True), replace(RECIPE, dialogs=dialogs, dialog_length=600)
    return BatchSource(train_tokenizer(config, CORPUS, recipe), config, recipe, CORPUS), config


def test_lessons_depend_on_the_step_alone():
    school, _ = taught(2)
    first, again, other = (school.batches(step) for step in (3, 3, 4))
    for kind, [batch] in first.items():
        np.testing.assert_array_equal(batch.tokens, again[kind][0].tokens)
        assert not np.array_equal(batch.tokens.ravel()[:50], other[kind][0].tokens.ravel()[:50]) or kind == "pictures"
    [text], [pictures] = first["text"], first["pictures"]
    learned = text.targets >= 0
    np.testing.assert_array_equal(text.targets[:, :-1][learned[:, :-1]], text.tokens[:, 1:][learned[:, :-1]])
    said = pictures.targets >= 0
    np.testing.assert_array_equal(pictures.targets[:, :-1][said[:, :-1]], pictures.tokens[:, 1:][said[:, :-1]])
    assert not (learned & (text.aux_targets >= 0)).any()


def test_words_are_compared_in_place_of_text():
    """From the step that the recipe names, never in a step's first row, and only verdicts are to be said."""
    recipe = replace(RECIPE, text=384, needles=(), comparison_part=((0.5, 0.0), (1.0, 0.5)))
    school, plain = (BatchSource(train_tokenizer(small(vision=False), CORPUS, r), small(vision=False), r, CORPUS)
                     for r in (recipe, replace(recipe, comparison_part=((1.0, 0.0),))))
    compared, decode = 0, school.tokenizer.decode
    for step in range(1, 7):
        [batch], [other] = school.batches(step)["text"], plain.batches(step)["text"]
        if step <= 3:
            np.testing.assert_array_equal(batch.tokens, other.tokens)
        rows = np.flatnonzero((batch.targets < 0).all(1))
        assert 0 not in rows
        assert len(rows) == 0 or step > 3
        for n in rows:
            said = batch.aux_targets[n, :-1] >= 0
            np.testing.assert_array_equal(batch.aux_targets[n, :-1][said], batch.tokens[n, 1:][said])
            lines = decode(list(batch.tokens[n][1:])).split("\n")[:-1]
            found = [re.fullmatch(r"first (\w+), second (\w+): (yes|no)", line).groups() for line in lines]
            assert all((one == two) == (verdict == "yes") for one, two, verdict in found)
            verdicts = decode([id for id in batch.aux_targets[n] if id >= 0]).split("\n")
            assert [" " + verdict for *_, verdict in found] == verdicts[:len(found)]
            compared += len(found)
    assert compared > 5
    rng, other = np.random.default_rng(2), np.random.default_rng(2)
    plain.text_batch(rng, plain.train_tokens, 1)
    other.integers(0, len(plain.train_tokens) - 64, 6)
    assert rng.random() == other.random()               # where there are none, none is drawn for


def test_only_replies_are_learned():
    tokenizer = train_tokenizer(small(vision=False), CORPUS, RECIPE)
    parts = [("<|begin_of_text|><|header_start|>user<|header_end|>\n\nassistant?<|eot|>", False),
             ("<|header_start|>assistant<|header_end|>\n\n", False), ("yes.<|eot|>", True),
             ("<|header_start|>user<|header_end|>\n\nno<|eot|><|header_start|>assistant<|header_end|>\n\n", False),
             ("<|eot|>", True), ("<|finetune_right_pad|>", False)]
    ids = [tokenizer.encode(text, special=True) for text, _ in parts]
    expected = np.concatenate([np.full(len(part), said) for part, (_, said) in zip(ids, parts, strict=True)])
    np.testing.assert_array_equal(assistant_mask(np.concatenate(ids), tokenizer), expected)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_picture_tokens_learn_names_and_the_last_how_many(stage):
    """Of what stands at their own place, and nothing where nothing does or no picture is."""
    school, config = taught(1)
    rng, heard = np.random.default_rng(1), set()
    for _ in range(40):
        messages = random_dialog(rng, turns=1)
        scenes = [part["scene"] for part in messages[0]["content"] if part["type"] == "image"]
        picture = [1, *[config.patch_id] * 16, config.image_end_id, 2]
        tokens = np.array([picture * len(scenes)])
        answers = school.patch_label_targets(rng, tokens, [messages], stage)
        for scene, ids in zip(scenes, answers.reshape(len(scenes), 19), strict=True):
            assert ids[0] == ids[18] == IGNORE_INDEX
            for names, id in zip(patch_labels(scene, 4, stage), ids[1:17], strict=True):
                assert (id == IGNORE_INDEX) == (not names)
                places = [n for n, name in enumerate(names) if id in school.tokenizer.encode(name)]
                assert places or not names
                heard |= {(scene.kind, n) for n in places}
                heard |= {"later" for n in places if id not in (school.tokenizer.encode(name)[0] for name in names)}
            many, common = len(scene.objects
                               or scene.bars), common_properties(*scenes) if stage and len(scenes) == 2 else []
            alone = (*scene.objects[0][:3], GRID_POSITIONS[scene.objects[0].cell]) if stage >= 2 and many == 1 else ()
            told = [id for name in [*common, *alone, str(many)] for id in school.tokenizer.encode(name)]
            assert ids[17] in told if many else ids[17] == IGNORE_INDEX
    assert heard >= {("objects", 0), ("objects", 1), ("objects", 3), ("chart", 0), ("chart", 1), ("word", 0), "later"}


def test_a_stage_begins_where_the_recipe_says():
    """And until there everything is as if it had only one."""
    config, recipe = small(vision=True), replace(RECIPE, text=0, dialogs=3, dialog_length=600)
    staged = replace(recipe, stages=((0.5, 0), (1.0, 1)))
    plain, later = (BatchSource(train_tokenizer(config, None, r), config, r) for r in (recipe, staged))
    for step in range(1, 7):
        [one], [other] = plain.batches(step)["pictures"], later.batches(step)["pictures"]
        assert np.array_equal(one.tokens, other.tokens) == np.array_equal(one.aux_targets,
                                                                          other.aux_targets) == (step <= 3)
