"""Numbers of the real Llama 4, worked out elsewhere: the constants that no law can know."""
from dataclasses import replace

import numpy as np
import pytest

from tinyscout import reference
from tinyscout.config import MAVERICK, SCOUT
from tinyscout.nn.text import position_tables
from tinyscout.nn.vision import vision_model
from tinyscout.nn.weights import ParameterCount, abstract_weights, count_parameters, init_weights

TEXT = SCOUT.text


def test_rms_norm_of_three_and_four():
    np.testing.assert_allclose(reference.rms_norm(np.array([3.0, 4.0])), [0.8485278, 1.1313704], rtol=1e-7)


def test_the_norms_default_epsilon_is_llama_4s():
    small = np.array([1e-3, -1e-3])
    np.testing.assert_allclose(reference.rms_norm(small), small / np.sqrt(1e-6 + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(reference.layer_norm(small, np.ones(2), np.zeros(2)), small / np.sqrt(1e-6 + 1e-5))


def test_scouts_frequencies():
    """Without scaling, and with it: 35 of 64 pairs stay and 29 turn sixteen times slower."""
    plain = reference.rope_frequencies(128, 500_000.0)
    scaled = reference.rope_frequencies(128, TEXT.rope_theta, TEXT.rope_scaling)
    expected = {1: 0.81461722, 16: 3.7606031e-2, 34: 9.3847385e-4, 35: 7.6449703e-4, 48: 5.3182965e-5, 63: 2.4551407e-6}
    np.testing.assert_allclose([plain[i] for i in expected], list(expected.values()), rtol=1e-6)
    np.testing.assert_array_equal(scaled[:35], plain[:35])
    np.testing.assert_allclose(scaled[35:], plain[35:] / 16, rtol=1e-12)
    np.testing.assert_allclose(scaled[[35, 48, 63]], [4.7781065e-5, 3.3239353e-6, 1.5344629e-7], rtol=1e-6)


def test_the_visions_frequencies():
    frequency = reference.rope_frequencies(44, 10_000.0)
    np.testing.assert_allclose(frequency[[1, 21]], [0.65793318, 1.5199113e-4], rtol=1e-6)
    cos, _ = reference.rope_angles_2d(24, 88, 10_000.0)
    assert cos.shape == (577, 44)
    np.testing.assert_allclose(cos[25, [0, 22]], np.cos([2.0, 2.0]))        # row 1, column 1, counted from one


def test_temperature():
    expected = {8190: 1.0, 8191: 1.0693147, 16383: 1.1098612, 32767: 1.1609438, 131071: 1.2833213, 262143: 1.3496508,
                1048575: 1.4859812, 10485759: 1.7155396}
    t = reference.attention_temperature(np.array(list(expected)), TEXT.attn_temperature_floor,
                                        TEXT.attn_temperature_scale)
    np.testing.assert_allclose(t, list(expected.values()), rtol=1e-7)


def test_parameters():
    assert count_parameters(SCOUT) == ParameterCount(text=107_769_861_120, vision=850_960_896, projector=20_971_520,
                                                     total=108_641_793_536, routed=96_636_764_160,
                                                     active=17_172_894_720)
    assert count_parameters(MAVERICK) == ParameterCount(text=400_711_848_960, vision=850_960_896, projector=20_971_520,
                                                        total=401_583_781_376, routed=386_547_056_640,
                                                        active=17_184_691_200)


def test_the_plan():
    assert [n for n, layer in enumerate(TEXT.layers) if not layer.rope] == list(range(3, 48, 4))
    assert all(layer.rope == layer.chunked for layer in TEXT.layers)
    assert all(layer.moe for layer in TEXT.layers)
    assert [n for n, layer in enumerate(MAVERICK.text.layers) if layer.moe] == list(range(1, 48, 2))
    assert not MAVERICK.text.qk_norm


def test_a_tile_is_144_tokens():
    assert (SCOUT.vision.grid, SCOUT.vision.tokens_per_tile, SCOUT.vision.head_dim) == (24, 144, 88)


def test_the_real_shapes():
    """The whole of Scout, with every array's shape and none of its memory."""
    scout = abstract_weights(SCOUT)
    assert scout.text.blocks[0].feed_forward.experts.w_gate.shape == (16, 5120, 8192)
    assert scout.text.blocks[47].attention.w_k.shape == (5120, 1024)
    assert scout.vision.w_patch.shape == (588, 1408)
    assert scout.vision.adapter.w_1.shape == (5632, 4096)
    assert scout.text.output.shape == (5120, 202_048)


@pytest.mark.parametrize("position", [0, 8191, 8192, 10_485_759])
def test_angles_far_out_are_exact(position):
    """cos and sin as float32, at ten million as at zero: against Python's own floats."""
    tables = position_tables(position, 1, TEXT, np.float32)
    angle = position * reference.rope_frequencies(128, TEXT.rope_theta, TEXT.rope_scaling)
    np.testing.assert_allclose(tables.cos[0], np.cos(angle), atol=1e-7)
    np.testing.assert_allclose(tables.sin[0], np.sin(angle), atol=1e-7)


def test_one_real_tile_through_a_thin_slice_of_the_real_tower():
    """Scout's own tile, patches and heads with two of its layers: shapes meet, numbers stay finite."""
    config = replace(SCOUT, vision=replace(SCOUT.vision, n_layers=2),
                     text=replace(TEXT, layers=TEXT.layers[:1], vocab_size=8, n_experts=1, hidden_dim=8))
    tower = init_weights(config).vision
    tile = np.random.default_rng(0).standard_normal((1, 3, 336, 336)).astype(np.float32)
    seen = vision_model(tile, tower, config.vision)
    assert seen.shape == (1, 144, 4096)
    assert np.isfinite(seen).all()
