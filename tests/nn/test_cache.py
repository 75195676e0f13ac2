"""The cache: any cut of the same tokens gives the same numbers, and a chunked layer's memory goes up and down."""
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.config import Layer, layer_plan, tiny_config
from tinyscout.nn import scout
from tinyscout.nn.cache import KV_DTYPES, Cache, LayerCache
from tinyscout.nn.text import text_model
from tinyscout.nn.weights import init_weights, tree_map

CONFIG = tiny_config()


def keys(length, T, K=2, d=4):
    """Keys that say where they stand."""
    positions = np.arange(length, length + T, dtype=np.float64)
    return np.broadcast_to(positions[None, :, None, None], (1, T, K, d)).copy()


class Overlay:
    """The reference with one name replaced by a function that fails at its n-th call."""

    def __init__(self, name, n):
        self.name, self.left = name, n

    def __getattr__(self, name):
        op = getattr(reference, name)
        if name != self.name:
            return op

        def fails(*args, **kwargs):
            self.left -= 1
            if self.left < 0:
                raise ValueError("this operation fails")
            return op(*args, **kwargs)
        return fails


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.none() | st.integers(1, 9), st.lists(st.integers(1, 25), min_size=1, max_size=12))
def test_a_layer_hands_out_every_key_that_a_new_token_sees(chunk, pieces):
    layer, length = LayerCache(chunk), 0
    for T in pieces:
        k, v, first = layer.append(length, keys(length, T), -keys(length, T))
        assert first == (0 if chunk is None else length // chunk * chunk)
        assert k.shape == (1, length + T - first, 2, 4)
        np.testing.assert_array_equal(k[0, :, 0, 0], np.arange(first, length + T))
        np.testing.assert_array_equal(v, -k)
        length += T
        assert layer.keys.shape[1] <= max(2 * length if chunk is None else chunk, k.shape[1])
        layer.trim(length)
        assert layer.start == (0 if chunk is None else length // chunk * chunk)


def test_memory_of_a_chunked_layer_is_a_sawtooth():
    chunked, everything, sizes = LayerCache(8), LayerCache(None), []
    for n in range(200):
        chunked.append(n, keys(n, 1), keys(n, 1))
        everything.append(n, keys(n, 1), keys(n, 1))
        sizes.append(chunked.keys.shape[1])
        chunked.trim(n + 1)
        everything.trim(n + 1)
    assert sizes[:24] == [1, 2, 4, 4, 8, 8, 8, 8] * 3
    assert max(sizes) == 8
    assert 200 <= everything.keys.shape[1] < 400
    assert chunked.nbytes == 0


def test_memory_of_a_model():
    """Three layers of four stop growing at a chunk; the fourth does not.  That is what iRoPE is for."""
    config = tiny_config(vision=False).text
    weights, cache, ends = init_weights(tiny_config(vision=False)).text, Cache(config), {}
    assert cache.nbytes == 0
    for n in range(1, 129):
        with cache.transaction():
            text_model(np.zeros((1, 1, config.dim), np.float32), weights, config, cache)
            ends[n] = [layer.nbytes for layer in cache.layers]
    slot = 2 * config.n_kv_heads * config.head_dim * 4
    assert [most // slot for most in map(max, zip(*ends.values(), strict=True))] == [8, 8, 8, 128]
    assert ends[64][:3] == ends[128][:3]
    assert [layer.nbytes for layer in cache.layers] == [0, 0, 0, ends[128][3]]     # a chunk has just ended
    assert cache.nbytes == ends[128][3]
    assert cache.length == 128


@st.composite
def decoders(draw):
    """A float64 text model with a small chunk, embedded tokens, and places to cut them."""
    layers = draw(st.one_of(st.just(layer_plan(4)),
                            st.lists(st.builds(Layer, st.booleans(), st.booleans(), st.booleans()),
                                     min_size=1, max_size=4).map(tuple)))
    config = tiny_config(vision=False, dim=16, head_dim=4, hidden_dim=12, dense_dim=12, layers=layers, vocab_size=16,
                         chunk_size=draw(st.integers(1, 9)), attn_temperature_floor=draw(st.integers(1, 5)),
                         qk_norm=draw(st.booleans()))
    T, B, seed = draw(st.integers(1, 30)), draw(st.integers(1, 2)), draw(st.integers(0, 99))
    x = np.random.default_rng(seed).standard_normal((B, T, 16))
    weights = tree_map(lambda a: a.astype(np.float64), init_weights(config, seed)).text
    return config.text, weights, x, sorted(draw(st.sets(st.integers(1, max(T - 1, 1)), max_size=5)))


def in_pieces(config, weights, x, cuts):
    cache = Cache(config)
    edges = [0, *(cut for cut in cuts if cut < x.shape[1]), x.shape[1]]
    parts = []
    for a, b in pairwise(edges):
        with cache.transaction():
            parts.append(text_model(x[:, a:b], weights, config, cache))
    return np.concatenate(parts, axis=1)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(decoders())
def test_in_pieces_whole_and_token_by_token(drawn):
    config, weights, x, cuts = drawn
    whole = text_model(x, weights, config)
    assert whole.dtype == np.float64
    for edges in ([], cuts, range(1, x.shape[1])):
        np.testing.assert_allclose(in_pieces(config, weights, x, edges), whole, rtol=0, atol=1e-9)


def prompt(config, tiles):
    """Two images among words  ->  tokens, images."""
    N = config.vision.tokens_per_tile
    patches = [[config.patch_id] * n * N for n in tiles]
    tokens = np.concatenate([[5, 6], patches[0], [7], patches[1], [8, 9]]).astype(int)
    rng = np.random.default_rng(1)
    return tokens, [rng.standard_normal((n, 3, 56, 56)).astype(np.float32) for n in tiles]


@pytest.fixture(scope="module")
def with_images():
    """A model, a prompt with images, its logits, and how far float32 may be from them: twice its own error."""
    weights = init_weights(CONFIG, 2)
    tokens, images = prompt(CONFIG, (1, 2))
    logits = scout.forward(tokens, images, weights, CONFIG)
    wide = tree_map(lambda a: a.astype(np.float64), weights)
    x = scout.embed_inputs(tokens, images, weights, CONFIG).astype(np.float64)
    truth = text_model(x[None], wide.text, CONFIG.text)[0] @ wide.text.output
    bound = 2 * np.abs(logits - truth).max() + 4 * np.finfo(np.float32).eps * np.abs(truth).max()
    return weights, tokens, images, truth, bound


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(cuts=st.sets(st.integers(1, 16), max_size=6))
def test_images_wait_in_the_cache(with_images, cuts):
    weights, tokens, images, truth, bound = with_images
    cache, parts, edges = Cache(CONFIG.text), [], [0, *sorted(cuts), len(tokens)]
    for a, b in pairwise(edges):
        parts.append(scout.forward(tokens[a:b], images if a == 0 else (), weights, CONFIG, cache))
        left = int((tokens[b:] == CONFIG.patch_id).sum())
        assert (0 if cache.features is None else len(cache.features)) == left
    assert np.abs(np.concatenate(parts) - truth).max() <= bound
    assert cache.length == len(tokens)


def test_images_one_by_one(with_images):
    """The second image may come with a later call than the first."""
    weights, tokens, images, truth, bound = with_images
    cache, half = Cache(CONFIG.text), 7
    parts = [scout.forward(tokens[:half], images[:1], weights, CONFIG, cache),
             scout.forward(tokens[half:], images[1:], weights, CONFIG, cache)]
    assert np.abs(np.concatenate(parts) - truth).max() <= bound
    assert cache.features is None


def test_more_patch_tokens_than_wait(with_images):
    weights, tokens, images, _, _ = with_images
    cache = Cache(CONFIG.text)
    scout.forward(tokens[:3], images[:1], weights, CONFIG, cache)
    waiting = cache.features
    with pytest.raises(ValueError, match="patch tokens"):
        scout.forward(tokens[3:], (), weights, CONFIG, cache)
    assert cache.length == 3
    assert cache.features is waiting


def counted(name, weights, tokens, cache):
    """How often one call of the model uses an operation."""
    ops = Overlay(name, 10 ** 9)
    scout.forward(tokens, (), weights, CONFIG, cache, ops)
    return 10 ** 9 - ops.left


@pytest.mark.parametrize("name", ["rope_angles", "rms_norm", "linear", "grouped_query_attention", "router", "experts",
                                  "embed", "fuse", "attention_temperature"])
def test_a_call_that_fails_leaves_the_cache_as_it_was(with_images, name):
    """Whichever use of whichever operation fails, the same call can be made again and gives what it should."""
    weights, tokens, images, truth, bound = with_images
    first, second = 6, 15
    spare = Cache(CONFIG.text)
    scout.forward(tokens[:first], images, weights, CONFIG, spare)
    uses = counted(name, weights, tokens[first:second], spare)
    assert uses > 0
    cache = Cache(CONFIG.text)
    scout.forward(tokens[:first], images, weights, CONFIG, cache)
    for n in range(uses):
        waiting = cache.features
        with pytest.raises(ValueError, match="this operation fails"):
            scout.forward(tokens[first:second], (), weights, CONFIG, cache, Overlay(name, n))
        assert (cache.length, cache.features is waiting) == (first, True), f"{name} fails at use {n} of {uses}"
    again = scout.forward(tokens[first:second], (), weights, CONFIG, cache)
    last = scout.forward(tokens[second:], (), weights, CONFIG, cache)
    assert np.abs(np.concatenate([again, last]) - truth[first:]).max() <= bound


def test_all_or_nothing():
    cache = Cache(tiny_config(chunk_size=100).text)
    cache.advance(3)

    def interrupted():
        with cache.transaction():
            cache.advance(5)
            cache.features = "lost"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (cache.length, cache.features) == (3, None)
    with cache.transaction():
        cache.advance(5)
    assert cache.length == 8


@pytest.mark.parametrize("kv", KV_DTYPES)
@pytest.mark.parametrize("chunk", [None, 4])
def test_a_layer_keeps_what_it_was_given_in_its_form(kv, chunk):
    """Whatever the pieces, the same as encoding everything at once."""
    rng = np.random.default_rng(0)
    k, v = rng.standard_normal((2, 1, 30, 2, 16)).astype(np.float32)
    layer, length = LayerCache(chunk, kv), 0
    for T in (1, 2, 1, 7, 1, 1, 5, 12):
        keys, values, first = layer.append(length, k[:, length:length + T], v[:, length:length + T])
        length += T
        for kept, plain in (keys, k), (values, v):
            expected = layer.to_storage(plain[:, first:length])
            for mine, theirs in zip(leaves(kept), leaves(expected), strict=True):
                np.testing.assert_array_equal(mine, theirs)
                assert mine.base is not None, "a view of the buffer, not a copy"
        layer.trim(length)
    assert layer.nbytes == sum(leaf.nbytes for buffer in (layer.keys, layer.values) for leaf in leaves(buffer))


def leaves(buffer):
    return buffer if isinstance(buffer, tuple) else (buffer,)


def test_bytes_of_every_form():
    """Per token, key head and 32 channels of a global layer: 32 floats, or integers and a scale of two bytes."""
    config = tiny_config(vision=False, head_dim=32).text
    for kv, of_global, of_chunked in [("float32", 128, 128), ("bfloat16", 64, 64), ("int8", 34, 64), ("int4", 18, 64)]:
        cache = Cache(config, kv)
        for layer in cache.layers:
            layer.reserve(0, 8, 1, config.n_kv_heads, config.head_dim)
        found = [layer.nbytes // (2 * 8 * config.n_kv_heads) for layer in cache.layers]
        assert found == [of_chunked] * 3 + [of_global]
        assert cache.nbytes == sum(layer.nbytes for layer in cache.layers)


@pytest.mark.parametrize("kv", KV_DTYPES)
def test_room_is_made_rarely_and_kept(kv):
    """Buffers double; in between the same memory is handed out, so that a kernel may write into it."""
    layer, seen = LayerCache(None, kv), []
    for n in range(100):
        layer.reserve(n, 1, 1, 2, 32)
        where = [leaf.ctypes.data for buffer in (layer.keys, layer.values) for leaf in leaves(buffer)]
        if not seen or seen[-1] != where:
            seen.append(where)
        assert layer.keys.shape[1] > n
        assert all(leaf.flags.c_contiguous for leaf in leaves(layer.keys))
    assert len(seen) <= 9


@pytest.mark.parametrize("kv", ["bfloat16", "int8", "int4"])
def test_cuts_do_not_matter_in_any_form(kv):
    """What is kept is rounded; it is rounded alike however the tokens came."""
    config = tiny_config(vision=False).text
    weights = init_weights(tiny_config(vision=False)).text
    x = np.random.default_rng(0).standard_normal((1, 30, config.dim)).astype(np.float32)
    ends = []
    for edges in ([0, 30], [0, 7, 8, 20, 30], range(31)):
        cache = Cache(config, kv)
        for a, b in pairwise(edges):
            with cache.transaction():
                y = text_model(x[:, a:b], weights, config, cache)
        ends.append(y[0, -1])
    exact = text_model(x, weights, config)[0, -1]
    off = np.abs(ends[0] - exact).max()
    assert off > 0
    for end in ends[1:]:
        assert np.abs(end - ends[0]).max() <= off / 2       # a key on the edge of two integers may fall to either


def test_a_form_that_there_is_not():
    with pytest.raises(ValueError, match="cannot be kept as 'int2': choose from float32, bfloat16, int8, int4"):
        Cache(CONFIG.text, "int2")
    with pytest.raises(ValueError, match="rows of 48 channels cannot be cut"):
        Cache(tiny_config(head_dim=48).text, "int8")
