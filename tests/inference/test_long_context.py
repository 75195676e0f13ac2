"""A few rows of a long text are those of the whole, whatever the layers; and memory does not grow with it."""
import tracemalloc

import numpy as np
import pytest

from tinyscout.config import Layer, layer_plan, tiny_config
from tinyscout.inference import long_context
from tinyscout.inference.long_context import logits_at
from tinyscout.model import map_arrays, random_model
from tinyscout.nn import scout
from tinyscout.nn.text import text_model
from tinyscout.nn.weights import init_weights, tree_map

NOPE, ROPE, LOCAL, LOST = Layer(False, False, False), Layer(True, False, False), Layer(True, True, False), Layer(
    False, True, True)
PLANS = {
    "the laboratory's": layer_plan(4, moe_every=5), "Scout's": layer_plan(8), "rope everywhere": (ROPE,) * 3,
    "unchunked": (ROPE, ROPE, NOPE), "global with rope": (LOCAL, LOCAL, ROPE), "chunks only": (LOCAL, LOST),
    "the last is local": (NOPE, LOCAL), "chunks without rope": (LOST, NOPE), "one": (NOPE,)}
LENGTHS = (1, 7, 8, 9, 61, 64, 203)         # chunks of 8, and pieces of 24


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(long_context, "TOKENS_AT_ONCE", 24)
    monkeypatch.setattr(long_context, "SCORES_AT_ONCE", 300)


def small(layers, dtype=np.float64, **changes):
    """A config, and weights in which no two scores are nearly equal."""
    config = tiny_config(vision=False, layers=layers, **changes)
    return config, tree_map(lambda w: w.astype(dtype), init_weights(config, 1))


def drawn(T):
    """A text, and some places in it out of order and one of them twice."""
    rng = np.random.default_rng(T)
    rows = rng.permutation(T)[:9]
    return rng.integers(0, 500, T).astype(np.uint16), np.append(rows, rows[:1])


def whole(tokens, weights, config):
    """All scores in the weights' own precision."""
    w = weights.text
    return (text_model(w.embedding[tokens][None], w, config.text) @ w.output)[0]


@pytest.mark.parametrize("changes", [{}, {"qk_norm_nope": True}, {"attn_temperature": False}], ids=str)
@pytest.mark.parametrize("name", PLANS)
def test_rows_are_those_of_the_whole(name, changes):
    """In float64: some hundred operations in a row, each off by an eps at most."""
    config, weights = small(PLANS[name], **changes)
    for T in LENGTHS:
        tokens, rows = drawn(T)
        truth = whole(tokens, weights, config)
        error = np.abs(logits_at(tokens, rows, weights, config) - truth[rows]).max()
        assert error <= 200 * np.finfo(np.float64).eps * np.abs(truth).max(), T


@pytest.mark.parametrize("name", PLANS)
def test_rows_are_those_of_the_whole_in_float32(name, ops):
    """As close to the truth as the whole text at once is, twice over."""
    config, weights = small(PLANS[name])
    tokens, rows = drawn(61)
    single = tree_map(lambda w: w.astype(np.float32), weights)
    truth = whole(tokens, tree_map(lambda w: w.astype(np.float64), single), config)[rows]
    usual = np.abs(scout.forward(tokens, (), single, config)[rows] - truth).max()
    got = ops.asnumpy(logits_at(tokens, rows, map_arrays(single, ops.asarray), config, ops))
    assert got.dtype == np.float32
    assert np.abs(got - truth).max() <= 2 * usual + 4 * np.finfo(np.float32).eps * np.abs(truth).max()


def test_weights_in_bfloat16():
    model = random_model(tiny_config(vision=False))
    weights = tree_map(lambda w: w.astype("bfloat16"), model.weights)
    tokens, rows = drawn(61)
    expected = scout.forward(tokens, (), weights, model.config)
    np.testing.assert_allclose(logits_at(tokens, rows, weights, model.config), expected[rows], atol=1e-4)


def test_memory_does_not_grow_with_the_text(monkeypatch):
    """Beyond the tokens themselves, sixteen times the text takes what the text took, but for some numbers of chunks."""
    monkeypatch.setattr(long_context, "TOKENS_AT_ONCE", 256)
    config, weights = small(layer_plan(4, moe_every=5), np.float32)

    def peak(T):
        tokens = np.random.default_rng(0).integers(0, 500, T).astype(np.uint16)
        tracemalloc.start()
        logits_at(tokens, np.arange(T - 20, T), weights, config)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(1000)
    short, long = peak(1 << 11), peak(1 << 15)
    chunks = (1 << 15) // config.text.chunk_size
    assert long - short < 64 * chunks               # numbers of chunks; a vector of each token would be 2048 a chunk
    assert short < 4_000_000


@pytest.mark.parametrize(("tokens", "rows", "says"), [
    ([], [0], "one row"), ([[1]], [0], "one row"), ([1.5], [0], "one row"), ([600], [0], "vocabulary"),
    ([-1], [0], "vocabulary"), ([1, 2], [2], "0 to 1"), ([1, 2], [-1], "0 to 1"), ([1], [], "0 to 0"),
    ([1], [0.5], "0 to 0"), ([511], [0], "patch")])
def test_what_cannot_be_read(tokens, rows, says):
    config = tiny_config()
    with pytest.raises(ValueError, match=says):
        logits_at(tokens, rows, init_weights(config), config)


def test_a_normed_query_has_no_length():
    """Three times the query matrix of a NoPE layer makes no difference where it is normed, and one where it is not."""
    for normed in (False, True):
        config, weights = small((NOPE,), qk_norm_nope=normed, norm_eps=1e-30)
        [block] = weights.text.blocks
        louder = block._replace(attention=block.attention._replace(w_q=3 * block.attention.w_q))
        longer = weights._replace(text=weights.text._replace(blocks=[louder]))
        one, other = (whole(np.arange(30), w, config) for w in (weights, longer))
        assert (np.abs(one - other).max() < 1e-12) == normed


def test_nothing_behind_the_last_row_is_read():
    config, weights = small(layer_plan(4))
    tokens = np.arange(60)
    changed = np.where(tokens > 40, 3, tokens)
    np.testing.assert_array_equal(*(logits_at(t, [40, 3], weights, config) for t in (tokens, changed)))
