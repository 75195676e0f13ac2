"""Laws of the whole text model, on every backend."""
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.config import Layer, layer_plan, tiny_config
from tinyscout.laws.draw import random_normal, rngs, seeds
from tinyscout.laws.universal import as_float64, assert_close, compute_expected
from tinyscout.nn.cache import Cache
from tinyscout.nn.text import text_model
from tinyscout.nn.weights import init_weights

MARGIN = 1e-3       # if a router's best two scores are closer, rounding may change its choice


@st.composite
def model_inputs(draw, layers=None):
    """A small model with weights, and T embedded tokens that cross several chunks."""
    config = tiny_config(vision=False, dim=32, vocab_size=16, hidden_dim=24, dense_dim=40,
                         n_experts=draw(st.integers(1, 5)),
                         layers=layers or layer_plan(draw(st.sampled_from([4, 5])), moe_every=draw(st.integers(1, 2))),
                         qk_norm=draw(st.booleans()), chunk_size=draw(st.integers(2, 9)))
    config = replace(config.text, top_k=draw(st.integers(1, config.text.n_experts)))
    rng = draw(rngs())
    weights = init_weights(replace(tiny_config(vision=False), text=config), draw(seeds)).text
    return config, weights, random_normal(rng, 1, draw(st.integers(2, 30)), config.dim)


def router_margin(config, weights, x):
    """The minimal difference between a chosen and an unchosen expert's score in any layer, by the reference."""
    margins = [np.inf]

    class RouterSpy:
        """The reference, with a router that records its margins."""

        def __getattr__(self, name):
            return getattr(reference, name)

        def router(self, x, w_router, top_k=1):
            ranked = -np.sort(-(x @ w_router), axis=1)
            if top_k < ranked.shape[1]:
                margins.append((ranked[:, top_k - 1] - ranked[:, top_k]).min())
            return reference.router(x, w_router, top_k)

    text_model(x, weights, config, ops=RouterSpy())
    return min(margins)


def expected_hidden(config, weights, x):
    """The reference's hidden states for the whole prompt; skips inputs with nearly equal router scores."""
    assume(router_margin(config, *as_float64((weights, x))) > MARGIN)
    return compute_expected(lambda weights, x: text_model(x, weights, config), weights, x)


def run_in_chunks(config, weights, x, cuts, ops):
    """Run the model on x, cut at the given positions, with one cache  ->  hidden states, the cache."""
    cache = Cache(config)
    edges = sorted({0, *cuts, x.shape[1]})
    outputs = []
    for a, b in pairwise(edges):
        with cache.transaction():
            outputs.append(text_model(x[:, a:b], weights, config, cache, ops))
    return np.concatenate(outputs, axis=1), cache


def reading_in_pieces_is_reading_at_once(ops, config, weights, x, seed):
    """Prefill whole, in any pieces, or token by token, across chunk edges, gives the same up to float32 rounding."""
    truth = expected_hidden(config, weights, x)
    cuts = np.random.default_rng(seed).integers(0, x.shape[1], 4).tolist()
    for chosen_cuts in (cuts[:0], cuts, range(1, x.shape[1])):
        assert_close(run_in_chunks(config, weights, x, chosen_cuts, ops)[0], truth)


def a_cache_holds_no_more_than_it_must(ops, config, weights, x, seed):
    """A chunked layer keeps the tokens of the current chunk, a global layer all tokens."""
    _, cache = run_in_chunks(config, weights, x, range(1, x.shape[1]), ops)
    T = x.shape[1]
    assert cache.length == T
    for layer, layer_cache in zip(config.layers, cache.layers, strict=True):
        assert layer_cache.start == (T // config.chunk_size * config.chunk_size if layer.chunked else 0)
        slots = layer_cache.keys.shape[1]
        assert slots <= config.chunk_size if layer.chunked else slots >= T


def the_future_does_not_matter(ops, config, weights, x, seed):
    """Later tokens do not change the result, up to rounding: other rows change how BLAS splits its products."""
    truth = expected_hidden(config, weights, x)
    n = x.shape[1] // 2
    changed = np.concatenate([x[:, :n], -3 * x[:, n:]], axis=1)
    assert_close(text_model(changed, weights, config, ops=ops)[:, :n], truth[:, :n])


def nothing_leaves_a_chunk_through_rope_layers(ops, config, weights, x, seed):
    """Tokens of earlier chunks do not influence a later chunk, however many local layers are stacked."""
    start = (x.shape[1] - 1) // config.chunk_size * config.chunk_size
    truth = expected_hidden(config, weights, x)
    changed = np.concatenate([np.flip(x[:, :start], 1) + 1, x[:, start:]], axis=1)
    assert_close(text_model(changed, weights, config, ops=ops)[:, start:], truth[:, start:])


def a_model_without_positions_is_blind_to_order(ops, config, weights, x, seed):
    """With only a global layer, without RoPE and temperature, the order of the past does not affect the last token."""
    config = replace(config, attn_temperature=False, layers=config.layers[:1])
    weights = weights._replace(blocks=weights.blocks[:1])
    truth = expected_hidden(config, weights, x)
    order = np.random.default_rng(seed).permutation(x.shape[1] - 1)
    changed = np.concatenate([x[:, order], x[:, -1:]], axis=1)
    assert_close(text_model(changed, weights, config, ops=ops)[:, -1], truth[:, -1])


def with_seed(layers=None):
    """The inputs of the laws below: a model, its input, and a seed."""
    return st.tuples(model_inputs(layers), seeds).map(lambda drawn: (*drawn[0], drawn[1]))


INPUTS: dict = {}       # empty: the text model is not an operation, but is composed of them
LAWS = {
    reading_in_pieces_is_reading_at_once: with_seed(),
    a_cache_holds_no_more_than_it_must: with_seed(),
    the_future_does_not_matter: with_seed(),
    nothing_leaves_a_chunk_through_rope_layers: with_seed((Layer(True, True, True), Layer(True, True, False)) * 2),
    a_model_without_positions_is_blind_to_order: with_seed((Layer(False, False, True),)),
}
