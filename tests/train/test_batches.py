"""What a training reads: text with needles, conversations, and the labels that patch tokens learn."""
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


def small_config(vision):
    text = TextConfig(dim=32, n_heads=2, n_kv_heads=1, head_dim=16, n_experts=4, hidden_dim=24, dense_dim=40,
                      layers=layer_plan(4), rope_scaling=None, chunk_size=32)
    tower = VisionConfig(dim=16, n_heads=2, n_layers=1, hidden_dim=64, adapter_dim=16, tile_size=64, patch_size=8)
    return with_special_ids(ScoutConfig(text, tower if vision else None), 256 + N_SPECIAL)


def make_source(recipe, corpus=CORPUS, vision=False):
    config = small_config(vision)
    return BatchSource(train_tokenizer(config, corpus, recipe), config, recipe, corpus)


def make_image_source(dialogs):
    """A BatchSource for a model that sees four by four patches."""
    return make_source(replace(RECIPE, dialogs=dialogs, dialog_length=600), vision=True)


def assert_targets_follow(tokens, targets):
    """Each target that counts is the next token."""
    counts = targets[:, :-1] >= 0
    np.testing.assert_array_equal(targets[:, :-1][counts], tokens[:, 1:][counts])


def test_batches_depend_on_the_step_alone():
    source = make_image_source(2)
    first, again, other = (source.batches(step) for step in (3, 3, 4))
    for kind, [batch] in first.items():
        np.testing.assert_array_equal(batch.tokens, again[kind][0].tokens)
        assert not np.array_equal(batch.tokens.ravel()[:50], other[kind][0].tokens.ravel()[:50]) or kind == "images"
    [text], [images] = first["text"], first["images"]
    assert_targets_follow(text.tokens, text.targets)
    assert_targets_follow(images.tokens, images.targets)
    assert not ((text.targets >= 0) & (text.aux_targets >= 0)).any()


def test_words_are_compared_in_rows_of_text():
    """From the step that the recipe names, never in a step's first row, and only the answers are targets."""
    recipe = replace(RECIPE, text_tokens_per_step=384, needles=(), comparison_part=((0.5, 0.0), (1.0, 0.5)))
    source, plain = (make_source(r) for r in (recipe, replace(recipe, comparison_part=((1.0, 0.0),))))
    n_compared, decode = 0, source.tokenizer.decode
    for step in range(1, 7):
        [batch], [plain_batch] = source.batches(step)["text"], plain.batches(step)["text"]
        if step <= 3:
            np.testing.assert_array_equal(batch.tokens, plain_batch.tokens)
        rows = np.flatnonzero((batch.targets < 0).all(1))
        assert 0 not in rows
        assert len(rows) == 0 or step > 3
        for n in rows:
            assert_targets_follow(batch.tokens[n:n + 1], batch.aux_targets[n:n + 1])
            lines = decode(list(batch.tokens[n][1:])).split("\n")[:-1]
            comparisons = [re.fullmatch(r"first (\w+), second (\w+): (yes|no)", line).groups() for line in lines]
            assert all((one == two) == (answer == "yes") for one, two, answer in comparisons)
            answers = decode([id for id in batch.aux_targets[n] if id >= 0]).split("\n")
            assert [" " + answer for *_, answer in comparisons] == answers[:len(comparisons)]
            n_compared += len(comparisons)
    assert n_compared > 5
    rng, other = np.random.default_rng(2), np.random.default_rng(2)
    plain.text_batch(rng, plain.train_tokens, 1)
    other.integers(0, len(plain.train_tokens) - 64, 6)
    assert rng.random() == other.random()               # without comparisons none is drawn for


def test_only_replies_are_learned():
    tokenizer = train_tokenizer(small_config(vision=False), CORPUS, RECIPE)
    parts = [("<|begin_of_text|><|header_start|>user<|header_end|>\n\nassistant?<|eot|>", False),
             ("<|header_start|>assistant<|header_end|>\n\n", False), ("yes.<|eot|>", True),
             ("<|header_start|>user<|header_end|>\n\nno<|eot|><|header_start|>assistant<|header_end|>\n\n", False),
             ("<|eot|>", True), ("<|finetune_right_pad|>", False)]
    ids = [tokenizer.encode(text, special=True) for text, _ in parts]
    expected = np.concatenate([np.full(len(part), is_reply) for part, (_, is_reply) in zip(ids, parts, strict=True)])
    np.testing.assert_array_equal(assistant_mask(np.concatenate(ids), tokenizer), expected)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_patch_tokens_learn_labels_and_the_last_a_count(stage):
    """Of what their own patch shows, and nothing if it shows nothing or there is no image."""
    source = make_image_source(1)
    encode, config = source.tokenizer.encode, source.config
    rng, seen = np.random.default_rng(1), set()
    for _ in range(40):
        messages = random_dialog(rng, turns=1)
        scenes = [part["scene"] for part in messages[0]["content"] if part["type"] == "image"]
        image_tokens = [1, *[config.patch_id] * 16, config.image_end_id, 2]
        tokens = np.array([image_tokens * len(scenes)])
        targets = source.patch_label_targets(rng, tokens, [messages], stage)
        for scene, ids in zip(scenes, targets.reshape(len(scenes), 19), strict=True):
            assert ids[0] == ids[18] == IGNORE_INDEX
            for labels, id in zip(patch_labels(scene, 4, stage), ids[1:17], strict=True):
                assert (id == IGNORE_INDEX) == (not labels)
                matches = [n for n, label in enumerate(labels) if id in encode(label)]
                assert matches or not labels
                seen |= {(scene.kind, n) for n in matches}
                if matches and id not in (encode(label)[0] for label in labels):
                    seen.add("later token")
            count = len(scene.objects or scene.bars)
            end_labels = [str(count)]
            if stage and len(scenes) == 2:
                end_labels += common_properties(*scenes)
            if stage >= 2 and len(scene.objects) == 1:
                [obj] = scene.objects
                end_labels += [obj.shape, obj.colour, obj.size, GRID_POSITIONS[obj.cell]]
            end_ids = {id for label in end_labels for id in encode(label)}
            assert ids[17] in end_ids if count else ids[17] == IGNORE_INDEX
    assert seen >= {("objects", 0), ("objects", 1), ("objects", 3), ("chart", 0), ("chart", 1), ("word", 0),
                    "later token"}


def test_a_stage_begins_where_the_recipe_says():
    """And until there everything is as if it had only one."""
    recipe = replace(RECIPE, text_tokens_per_step=0, dialogs=3, dialog_length=600)
    staged = replace(recipe, stages=((0.5, 0), (1.0, 1)))
    plain, later = (make_source(r, corpus=None, vision=True) for r in (recipe, staged))
    for step in range(1, 7):
        [one], [other] = plain.batches(step)["images"], later.batches(step)["images"]
        assert np.array_equal(one.tokens, other.tokens) == (step <= 3)
        assert np.array_equal(one.aux_targets, other.aux_targets) == (step <= 3)
