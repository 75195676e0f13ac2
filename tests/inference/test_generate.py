"""Generation: greedy is the best token each time, a seed is a text, and every bad argument is told at once."""
from dataclasses import replace

import numpy as np
import pytest

import tinyscout
from tinyscout.config import tiny_config
from tinyscout.inference import generate as module
from tinyscout.inference.generate import generate

CONFIG = tiny_config(chunk_size=8)
PROMPT = [5, 6, 7, 8, 9, 10, 11]


@pytest.fixture(scope="module")
def model():
    return tinyscout.random_model(CONFIG, seed=3)


def tokens_of(model, prompt=PROMPT, images=(), n=24, **options):
    return list(model.generate(prompt, images, max_new_tokens=n, **{"stop_ids": (), **options}))


def greedy(model, prompt, n, images=()):
    """No cache, no sampling: the whole text again for every token."""
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(int(model.logits(tokens, images)[-1].argmax()))
    return tokens[len(prompt):]


def test_greedy(model):
    expected = greedy(model, PROMPT, 24)
    assert tokens_of(model, temperature=0) == expected
    assert tokens_of(model, top_k=1) == tokens_of(model, top_k=1, temperature=3, seed=1) == expected
    assert tokens_of(model, top_p=1e-9, seed=1) == expected
    assert all(type(token) is int for token in expected)


def test_greedy_with_images(model):
    image = np.random.default_rng(0).standard_normal((2, 3, 56, 56)).astype(np.float32)
    prompt = [5, *[CONFIG.patch_id] * 2 * CONFIG.vision.tokens_per_tile, 6]
    expected = greedy(model, prompt, 8, [image])
    assert tokens_of(model, prompt, [image], n=8, temperature=0) == expected
    assert expected != greedy(model, prompt, 8, [-image])


def test_seeds(model):
    drawn = [tokens_of(model, seed=seed, temperature=1, top_p=None) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({tuple(tokens) for tokens in drawn}) == 3
    assert tokens_of(model, temperature=1) != tokens_of(model, temperature=1)       # no seed: every time anew


def test_how_many(model):
    for n in (0, 1, 2, 9):
        assert tokens_of(model, n=n, temperature=0) == greedy(model, PROMPT, n)
    assert len(list(model.generate(PROMPT, stop_ids=()))) == 256


def test_stop(model):
    expected = greedy(model, PROMPT, 24)
    last = expected[5]
    first = expected.index(last)
    for stop in ((last,), [last, 500], {last}):
        assert tokens_of(model, temperature=0, stop_ids=stop) == expected[:first + 1]      # it is yielded too
    stopping = replace(model, config=replace(CONFIG, stop_ids=(last,)))
    assert list(stopping.generate(PROMPT, temperature=0)) == expected[:first + 1]
    assert len(tokens_of(stopping, temperature=0)) == 24


@pytest.mark.parametrize("piece", [1, 3, 7, 100])
def test_prefill_in_pieces(model, monkeypatch, piece):
    monkeypatch.setattr(module, "PREFILL_CHUNK", piece)
    image = np.random.default_rng(0).standard_normal((1, 3, 56, 56)).astype(np.float32)
    prompt = [5, 6, *[CONFIG.patch_id] * CONFIG.vision.tokens_per_tile, *range(7, 30)]
    cache = model.new_cache()
    assert tokens_of(model, prompt, [image], n=6, temperature=0, cache=cache) == greedy(model, prompt, 6, [image])
    assert cache.features is None                                       # the image was looked at once


def test_cache_goes_on(model):
    """Two turns over one cache are one long text: the last token of a turn is not in it yet."""
    cache = model.new_cache()
    first = tokens_of(model, n=11, temperature=0, cache=cache)
    assert cache.length == len(PROMPT) + 10
    more = [first[-1], 12, 13]
    second = tokens_of(model, more, n=9, temperature=0, cache=cache)
    assert second == greedy(model, PROMPT + first + [12, 13], 9)
    assert cache.length == len(PROMPT) + 11 + 2 + 8


def test_images_that_wait_in_the_cache(model):
    image = np.random.default_rng(0).standard_normal((2, 3, 56, 56)).astype(np.float32)
    prompt = [5, *[CONFIG.patch_id] * 2 * CONFIG.vision.tokens_per_tile, 6]
    cache = model.new_cache()
    model.logits(prompt[:4], [image], cache)
    assert tokens_of(model, prompt[4:], n=5, temperature=0, cache=cache) == greedy(model, prompt, 5, [image])
    cache = model.new_cache()
    model.logits(prompt[:4], [image], cache)
    with pytest.raises(ValueError, match="patch tokens"):
        model.generate([6], cache=cache)                                # some would never find their place


def test_closed_early(model):
    """A reader may stop listening at any token; what it heard, but for the last token, is in the cache."""
    expected, cache = greedy(model, PROMPT, 12), model.new_cache()
    stream = model.generate(PROMPT, temperature=0, stop_ids=(), cache=cache)
    heard = [next(stream) for _ in range(4)]
    stream.close()
    assert heard == expected[:4]
    assert cache.length == len(PROMPT) + 3
    assert tokens_of(model, heard[-1:], n=8, temperature=0, cache=cache) == expected[4:]
    never = model.new_cache()
    model.generate(PROMPT, cache=never).close()
    assert never.length == 0


BAD = [
    ({"tokens": []}, "no tokens"), ({"tokens": [[1, 2]]}, "one row"), ({"tokens": [512]}, "token id 512 is outside"),
    ({"tokens": [-1]}, "token id -1 is outside"), ({"tokens": [1.5]}, "integers"), ({"tokens": ["a"]}, "integers"),
    ({"max_new_tokens": -1}, "max_new_tokens"), ({"temperature": -0.1}, "temperature"),
    ({"temperature": float("nan")}, "temperature"), ({"temperature": float("inf")}, "temperature"),
    ({"top_p": 0}, "top_p"), ({"top_p": 1.1}, "top_p"), ({"top_p": float("nan")}, "top_p"), ({"top_k": 0}, "top_k"),
    ({"tokens": [CONFIG.patch_id]}, "1 patch tokens in the prompt, but the images make 0"),
    ({"images": [np.zeros((1, 3, 56, 56))]}, "0 patch tokens in the prompt, but the images make 4"),
    ({"tokens": [CONFIG.patch_id] * 5, "images": [np.zeros((1, 3, 56, 56))]}, "5 patch tokens"),
    ({"images": [np.zeros((3, 56, 56))]}, "image 1 must be tiles"), ({"images": [np.zeros((0, 3, 56, 56))]}, "image 1"),
    ({"images": [np.full((1, 3, 56, 56), np.nan)], "tokens": [CONFIG.patch_id] * 4}, "not finite")]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_bad_arguments_are_told_at_the_call(model, bad, message):
    """Not at the first token, when the caller may be far away."""
    cache = model.new_cache()
    with pytest.raises(ValueError, match=message):
        generate(bad.get("tokens", PROMPT), bad.get("images", ()), model.weights, CONFIG, cache=cache,
                 **{key: value for key, value in bad.items() if key not in ("tokens", "images")})
    assert cache.length == 0


@pytest.mark.parametrize(("bad", "message"), [pair for pair in BAD if pair[0].keys() <= {"tokens", "images"}])
def test_logits_refuses_the_same(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model.logits(bad.get("tokens", PROMPT), bad.get("images", ()))


def test_no_image_without_vision():
    blind = tinyscout.random_model(tiny_config(vision=False))
    with pytest.raises(ValueError, match="no vision tower"):
        blind.generate(PROMPT, [np.zeros((1, 3, 56, 56))])


def test_a_step_that_fails_leaves_the_cache_consistent(model):
    """The error reaches the reader, and the cache still holds what came before the failing step."""
    class Failing:
        left = 30

        def __getattr__(self, name):
            return getattr(model.ops, name)

        def experts(self, *args):
            self.left -= 1
            if self.left < 0:
                raise ValueError("this operation fails")
            return model.ops.experts(*args)

    expected, cache, heard = greedy(model, PROMPT, 12), model.new_cache(), []
    stream = generate(PROMPT, (), model.weights, CONFIG, Failing(), temperature=0, stop_ids=(), cache=cache)
    with pytest.raises(ValueError, match="this operation fails"):
        heard.extend(stream)
    assert heard == expected[:7]
    assert cache.length == len(PROMPT) + 6                              # 4 layers: 28 calls are 7 steps
    assert tokens_of(model, expected[6:7], n=5, temperature=0, cache=cache) == expected[7:]
