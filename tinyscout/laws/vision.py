"""Laws of the vision tower, on every backend."""
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tinyscout.config import VisionConfig, tiny_config
from tinyscout.laws.draw import random_normal, rngs, seeds, small_sizes
from tinyscout.laws.universal import assert_close, compute_expected
from tinyscout.nn.vision import vision_model
from tinyscout.nn.weights import init_weights, tree_map


@st.composite
def tower_inputs(draw):
    """A small tower whose weights are far from zero, and some tiles of noise."""
    config = VisionConfig(dim=16, n_heads=draw(st.sampled_from([1, 2])), n_layers=draw(st.integers(1, 2)),
                          hidden_dim=64, adapter_dim=12, tile_size=28, patch_size=draw(st.sampled_from([7, 14])))
    rng = draw(rngs())
    weights = init_weights(replace(tiny_config(), vision=config), draw(seeds)).vision
    weights = tree_map(lambda a: (a + 0.1 * rng.standard_normal(a.shape)).astype(np.float32), weights)
    return config, weights, random_normal(rng, draw(small_sizes), 3, 28, 28)


def expected_features(config, weights, tiles):
    return compute_expected(lambda weights, tiles: vision_model(tiles, weights, config), weights, tiles)


def tiles_do_not_see_each_other(ops, config, weights, tiles):
    """A tile alone gives the same result as among others, so several images can be computed together."""
    truth = expected_features(config, weights, tiles)
    for n in range(len(tiles)):
        assert_close(vision_model(tiles[n:n + 1], weights, config, ops), truth[n:n + 1])


def the_tower_is_the_references(ops, config, weights, tiles):
    truth = expected_features(config, weights, tiles)
    assert truth.value.shape == (len(tiles), config.tokens_per_tile, config.adapter_dim)
    assert_close(vision_model(tiles, weights, config, ops), truth)


def every_patch_reaches_every_token(ops, config, weights, tiles):
    """The encoder attends in all directions: a change in the last patch changes the first token."""
    changed = tiles[:1].copy()
    changed[..., -1, -1] += 1
    first_tokens = [vision_model(t, weights, config, ops)[0, 0] for t in (tiles[:1], changed)]
    assert not np.array_equal(*first_tokens)


INPUTS: dict = {}
LAWS = {
    tiles_do_not_see_each_other: tower_inputs(),
    the_tower_is_the_references: tower_inputs(),
    every_patch_reaches_every_token: tower_inputs(),
}
