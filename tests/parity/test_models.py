"""Thirty random Llama 4 models: tinyscout's logits and tokens against transformers', in fp32 and eager."""
import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra `parity`)")
pytest.importorskip("transformers", reason="transformers is not installed (extra `parity`)")
import tinyscout
from tinyscout.nn.scout import image_features

from . import oracle

SEEDS = range(30)
CLOSE = 1e-4
TILINGS = [(), (1,), (3, 1, 2)]                 # tiles of each image: none, one, three of different tilings
PATCH, START, END = 96, 95, 94


def prompt(seed, tilings):
    """Tokens with images at random places  ->  (T,) int64, list of (tiles, 3, 56, 56) float32"""
    rng = np.random.default_rng(seed)
    parts, images = [rng.integers(3, 94, rng.integers(8, 24))], []
    for tiles in tilings:
        images.append(rng.standard_normal((tiles, 3, 56, 56)).astype(np.float32))
        parts += [[START], np.full(4 * tiles, PATCH), [END], rng.integers(3, 94, rng.integers(1, 14))]
    return np.concatenate(parts), images


def pieces(n, rng):
    """Random cuts of n tokens, and n cuts of one token."""
    yield np.split(np.arange(n), np.sort(rng.integers(0, n, 6)))
    yield np.split(np.arange(n), range(1, n))


@pytest.fixture(scope="module", params=SEEDS)
def text(request, tmp_path_factory):
    return pair(request.param, False, tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def multimodal(request, tmp_path_factory):
    return pair(request.param, True, tmp_path_factory)


def pair(seed, vision, factory):
    """The seed, transformers' model, and where its checkpoint lies."""
    directory = factory.mktemp("model")
    model = oracle.make(oracle.random_config(seed, vision), seed)
    model.save_pretrained(directory)
    return seed, model, directory


def compare(theirs, ours, tokens, images, rng):
    """Logits of the whole prompt, in random pieces, and token by token; then greedy tokens."""
    tiles = np.concatenate(images) if images else None
    expected = oracle.logits(theirs, tokens, tiles)
    np.testing.assert_allclose(ours.logits(tokens, images), expected, rtol=0, atol=CLOSE)
    for cut in pieces(len(tokens), rng):
        cache, waiting, got = ours.new_cache(), images, []
        for part in cut:
            if len(part):
                got.append(ours.logits(tokens[part], waiting, cache))
                waiting = ()                    # all images come with the first piece and wait for their tokens
        np.testing.assert_allclose(np.concatenate(got), expected, rtol=0, atol=CLOSE)
    continued = list(ours.generate(tokens, images, max_new_tokens=20, temperature=0))
    assert continued == oracle.greedy(theirs, tokens, 20, tiles)


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_text(text, backend):
    seed, theirs, directory = text
    rng, ours = np.random.default_rng(seed), tinyscout.load(directory, backend)
    n = 2 * ours.config.text.chunk_size + rng.integers(30, 50)       # past several chunk edges
    compare(theirs, ours, rng.integers(3, 94, n), [], rng)


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_images(multimodal, backend):
    seed, theirs, directory = multimodal
    ours = tinyscout.load(directory, backend)
    for tilings in TILINGS:
        tokens, images = prompt(seed, tilings)
        compare(theirs, ours, tokens, images, np.random.default_rng(seed))


def test_image_features(multimodal):
    _, theirs, directory = multimodal
    ours = tinyscout.load(directory)
    tiles = np.random.default_rng(0).standard_normal((5, 3, 56, 56)).astype(np.float32)
    seen = image_features([tiles[:2], tiles[2:]], ours.weights, ours.config)
    np.testing.assert_allclose(seen, oracle.features(theirs, tiles), rtol=0, atol=CLOSE)
