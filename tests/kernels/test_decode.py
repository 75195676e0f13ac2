"""A token in one call of C is a token op by op: with every format of weights and cache, and any number of threads."""
from dataclasses import replace
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from tinyscout.checkpoint.quantize import quantize_weights
from tinyscout.config import layer_plan, tiny_config
from tinyscout.model import random_model
from tinyscout.nn import scout
from tinyscout.nn.cache import KV_DTYPES, Cache
from tinyscout.nn.text import text_model
from tinyscout.nn.weights import tree_map

c = pytest.importorskip("tinyscout.kernels.c", reason="the C extension is not built")
OP_BY_OP = SimpleNamespace(**{name: getattr(c, name) for name in dir(c) if name != "decode"})
CONFIG = tiny_config(vision=False, dim=64, n_heads=4, n_kv_heads=2, head_dim=32, hidden_dim=96, dense_dim=160, top_k=2,
                     layers=layer_plan(5, moe_every=2), chunk_size=70, attn_temperature_floor=16.0)
FORMATS = {
    "float32": lambda w: w,
    "bfloat16": lambda w: tree_map(lambda a: a.astype(ml_dtypes.bfloat16), w),
    "float16": lambda w: tree_map(lambda a: a.astype(np.float16), w),
    "row by row": lambda w: tree_map(np.ascontiguousarray, w),
    "int8": lambda w: quantize_weights(w, 8, 32),
    "int4": lambda w: quantize_weights(w, 4, 32),
}
TOKENS = np.random.default_rng(0).integers(0, 500, 90)       # beyond a chunk, and over tiles of keys


def run_tokens(w, kv_dtype, ops, start=64, tokens=TOKENS):
    """The logits after every token from `start` on, each in a call of its own, and the cache."""
    cache, logits = Cache(CONFIG.text, kv_dtype), []
    scout.forward(tokens[:start], (), w, CONFIG, cache, OP_BY_OP)
    for token in tokens[start:]:
        logits.append(scout.forward([token], (), w, CONFIG, cache, ops)[0])
    return np.array(logits), cache


@pytest.fixture(scope="module")
def weights():
    return random_model(CONFIG).weights


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("weight_format", FORMATS)
def test_one_call_is_the_operations(weights, weight_format, kv_dtype):
    """Up to the order of float32 sums.  If keys or rows of x become integers, a number between two may be rounded
    either way, and a router may then choose another expert: so then four of five tokens have to agree.
    """
    w = FORMATS[weight_format](weights)
    fast, cache = run_tokens(w, kv_dtype, c)
    slow, _ = run_tokens(w, kv_dtype, OP_BY_OP)
    assert cache.backend_state is not None, "the one call was not taken"
    off = np.abs(fast - slow).max(axis=1) / np.abs(slow).max()
    if kv_dtype == "float32" and not weight_format.startswith("int"):
        assert off.max() < 1e-5
    else:
        assert np.quantile(off, 0.8) < 0.02


@pytest.mark.parametrize("kv_dtype", ["bfloat16", "int8", "int4"])
def test_what_is_kept_is_what_the_cache_would_keep(weights, kv_dtype):
    """The first layer's keys and values, bit for bit: nothing came before that could round otherwise."""
    fast, slow = (run_tokens(weights, kv_dtype, ops, start=1, tokens=TOKENS[:12])[1].layers[0] for ops in (c, OP_BY_OP))
    for pair in [(fast.keys, slow.keys), (fast.values, slow.values)]:
        for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in pair), strict=True):
            equal = (a[:, :12].view(np.uint8) == b[:, :12].view(np.uint8)).mean()
            assert equal > 0.99         # a number between two may be rounded either way


def test_global_layers_keep_integers(weights):
    """The last layer of four is global: C writes its integers as quantize_rows makes them."""
    fast, slow = (run_tokens(weights, "int8", ops, start=1, tokens=TOKENS[:12])[1].layers[3] for ops in (c, OP_BY_OP))
    assert not fast.chunk_size
    np.testing.assert_allclose(fast.keys.scales[:, :12].astype(np.float32), slow.keys.scales[:, :12].astype(np.float32),
                               rtol=0.01)
    off = np.abs(fast.keys.values[:, :12].astype(int) - slow.keys.values[:, :12])
    assert off.max() <= 2
    assert off.mean() < 0.1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_matter(weights, threads):
    w = FORMATS["int4"](weights)
    expected, _ = run_tokens(w, "float32", c)
    before = c.set_threads(threads)
    try:
        logits, _ = run_tokens(w, "float32", c)
    finally:
        c.set_threads(before)
    assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_row_of_nan_stays_one(weights):
    """NaN stays NaN, whatever the format of the weights, and nothing is read out of bounds."""
    for weight_format in "float32", "int4":
        w = FORMATS[weight_format](weights)
        embedding = w.text.embedding.copy()
        embedding[7] = np.nan
        w = w._replace(text=w.text._replace(embedding=embedding))
        logits, _ = run_tokens(w, "float32", c, start=8, tokens=np.array([1, 2, 3, 4, 5, 6, 8, 9, 7]))
        assert np.isnan(logits[-1]).all()


def test_a_norm_in_nope_layers_is_not_for_one_call(weights):
    """C does not know it: such a model goes op by op, and token by token is the whole text at once."""
    config = replace(CONFIG, text=replace(CONFIG.text, qk_norm_nope=True))
    cache, at_once = Cache(config.text), scout.forward(TOKENS, (), weights, config, ops=c)
    scout.forward(TOKENS[:64], (), weights, config, cache, c)
    logits = [scout.forward([token], (), weights, config, cache, c)[0] for token in TOKENS[64:]]
    assert cache.backend_state is None
    assert np.abs(logits - at_once[64:]).max() < 1e-5 * np.abs(at_once).max()


def test_other_weights_with_the_same_cache(weights):
    """What was prepared for one model is not used for another."""
    other = random_model(CONFIG, seed=1).weights
    cache = Cache(CONFIG.text)
    scout.forward(TOKENS[:5], (), weights, CONFIG, cache, c)
    scout.forward([3], (), weights, CONFIG, cache, c)
    decoder = cache.backend_state
    scout.forward([3], (), other, CONFIG, cache, c)
    assert cache.backend_state is not decoder


def test_what_c_cannot_read_goes_op_by_op(weights):
    doubles = tree_map(lambda a: a.astype(np.float64), weights)
    logits, cache = run_tokens(doubles, "float32", c)
    assert cache.backend_state is None
    expected, _ = run_tokens(weights, "float32", c)
    assert np.abs(logits - expected).max() < 1e-4


def test_a_chunk_that_has_ended_is_not_seen_though_it_is_still_there(weights):
    """`text_model` by itself trims nothing: the old chunk's keys are before those that the token may see."""
    fast, slow = Cache(CONFIG.text), Cache(CONFIG.text)
    for cache, ops in (fast, c), (slow, OP_BY_OP):
        x = scout.embed_inputs(TOKENS[:75], (), weights, CONFIG, ops=ops)
        text_model(x[None], weights.text, CONFIG.text, cache, ops)
    x = scout.embed_inputs(TOKENS[75:76], (), weights, CONFIG)[None]
    actual, expected = (text_model(x, weights.text, CONFIG.text, cache, ops)
                        for cache, ops in [(fast, c), (slow, OP_BY_OP)])
    assert fast.layers[0].start == 0
    assert fast.backend_state is not None
    assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()
