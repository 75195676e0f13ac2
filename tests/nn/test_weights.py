"""The tree of weights: shapes, random starts, and the exact numbers of parameters of Scout and Maverick."""
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyscout.config import MAVERICK, SCOUT, layer_plan, tiny_config
from tinyscout.nn.weights import (
    FeedForward,
    MoE,
    abstract_weights,
    build,
    check_shapes,
    count_parameters,
    init_weights,
    named_arrays,
    to_file_layout,
    tree_map,
)


def size(tree):
    return sum(array.size for _, array in named_arrays(tree))


def test_scout_counts():
    counts = count_parameters(SCOUT)
    assert counts.text == 107_769_861_120
    assert counts.vision == 850_960_896
    assert counts.projector == 20_971_520
    assert counts.total == 108_641_793_536
    assert counts.routed == 96_636_764_160
    assert counts.active == 17_172_894_720


def test_maverick_counts():
    counts = count_parameters(MAVERICK)
    assert counts.text == 400_711_848_960
    assert (counts.vision, counts.projector) == (850_960_896, 20_971_520)
    assert counts.total == 401_583_781_376
    assert counts.routed == 386_547_056_640
    assert counts.active == 17_184_691_200


def test_scout_and_maverick_layer_by_layer():
    scout, maverick = abstract_weights(SCOUT), abstract_weights(MAVERICK)
    layer, dense = scout.text.blocks[0], maverick.text.blocks[0]
    assert size(layer.attention) == 62_914_560
    assert size(layer.feed_forward.shared) == size(layer.feed_forward.experts) // 16 == 125_829_120
    assert size(layer.feed_forward.w_router) == 16 * 5120
    assert layer.attention_norm.size + layer.feed_forward_norm.size == 10_240
    assert size(dense.feed_forward) == 251_658_240
    assert scout.text.embedding.size == scout.text.output.size == 1_034_485_760
    assert isinstance(dense.feed_forward, FeedForward)
    assert isinstance(maverick.text.blocks[1].feed_forward, MoE)
    assert maverick.text.blocks[1].feed_forward.experts.w_gate.shape == (128, 5120, 8192)
    assert scout.vision.position_embedding.shape == (577, 1408)
    assert scout.vision.w_patch.shape == (588, 1408)
    assert scout.w_projector.shape == (4096, 5120)


@st.composite
def configs(draw):
    K, small = draw(st.integers(1, 2)), st.integers(1, 9)
    n, E = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    return tiny_config(vision=draw(st.booleans()), dim=draw(small), n_heads=K * draw(st.integers(1, 2)), n_kv_heads=K,
                       head_dim=2 * draw(small), n_experts=E, top_k=draw(st.integers(1, E)), hidden_dim=draw(small),
                       dense_dim=draw(small), layers=layer_plan(n, moe_every=draw(st.integers(1, 3))),
                       tie_embeddings=draw(st.booleans()))


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(configs())
def test_count_is_the_size_of_the_tree(config):
    weights, counts = init_weights(config), count_parameters(config)
    own = size(weights) - (weights.text.output.size if config.text.tie_embeddings
                           else 0)     # tied: the embedding, seen again
    assert counts.total == own == counts.text + counts.vision + counts.projector
    experts = [b.feed_forward.experts for b in weights.text.blocks if isinstance(b.feed_forward, MoE)]
    assert counts.routed == sum(map(size, experts))
    met = sum(matrix.size // config.text.n_experts * config.text.top_k for e in experts for matrix in e)
    assert counts.active == counts.text - counts.routed + met
    check_shapes(weights, config)
    assert weights.text.output.base is weights.text.embedding if config.text.tie_embeddings else True


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_init(dtype):
    config = tiny_config(dim=128)
    weights = init_weights(config, seed=3, dtype=dtype)
    for (path, array), (_, again) in zip(named_arrays(weights), named_arrays(init_weights(config, 3, dtype)),
                                         strict=True):
        assert array.dtype == dtype, path
        assert np.isfinite(array.astype(np.float32)).all(), path
        np.testing.assert_array_equal(array, again)
        assert to_file_layout(path, array).flags.c_contiguous, path
    q = weights.text.blocks[0].attention.w_q.astype(np.float64)
    assert abs(q.std() * 128 ** 0.5 - 1) < 0.05
    down = weights.text.blocks[0].feed_forward.experts.w_down.astype(np.float64)
    assert abs(down.std() * config.text.hidden_dim ** 0.5 - 1) < 0.05
    assert (weights.text.norm == 1).all()
    assert (weights.vision.norm_pre.bias == 0).all()
    assert (weights.vision.blocks[1].mlp.b_1 == 0).all()
    assert np.asarray(weights.vision.class_embedding, np.float32).std() > 0
    assert not np.array_equal(weights.text.embedding, init_weights(config, 4, dtype).text.embedding)


def test_hollow_weighs_nothing():
    assert all(array.strides == (0,) * array.ndim for _, array in named_arrays(abstract_weights(SCOUT)))
    check_shapes(abstract_weights(MAVERICK), MAVERICK)


def test_names_are_those_of_build():
    for config in (tiny_config(), tiny_config(vision=False), tiny_config(layers=layer_plan(3, moe_every=2))):
        paths = build(config, lambda path, shape: np.array(path))
        assert all(path == str(array) for path, array in named_arrays(paths))
        assert [path for path, _ in named_arrays(paths)] == [path for path, _ in named_arrays(abstract_weights(config))]


def test_tree_map():
    config = tiny_config(vision=False, layers=layer_plan(2, moe_every=2))
    weights = init_weights(config)
    twice = tree_map(lambda a, b: a + b, weights, weights)
    assert type(twice) is type(weights)
    assert type(twice.text.blocks) is list
    assert twice.vision is None
    for (path, a), (where, b) in zip(named_arrays(weights), named_arrays(twice), strict=True):
        assert path == where
        np.testing.assert_array_equal(2 * a, b)
    with pytest.raises(ValueError, match="argument"):
        tree_map(lambda a, b: a, [1, 2], [1])


def test_check_shapes():
    config = tiny_config()
    weights = init_weights(config)
    for wrong, path in [(weights._replace(w_projector=None), "w_projector"),
                        (init_weights(tiny_config(vocab_size=9)), "embedding"),
                        (weights._replace(text=weights.text._replace(blocks=weights.text.blocks[:3])), r"blocks\.3")]:
        with pytest.raises(ValueError, match=path):
            check_shapes(wrong, config)
    with pytest.raises(ValueError, match=r"vision|w_projector"):
        check_shapes(weights, tiny_config(vision=False))
