"""Parity everywhere: logits, image features and greedy tokens that transformers once computed, on every backend."""
import golden
import numpy as np
import pytest

from tinyscout.model import Model
from tinyscout.nn.scout import image_features

CLOSE = 1e-4        # of logits around 3: what the issue of fp32 against fp32 leaves room for


@pytest.fixture(params=golden.CASES)
def case(request, ops):
    """A model on one backend, its prompt and what transformers made of it."""
    name = request.param
    model = Model(golden.CASES[name], golden.weights(golden.CASES[name]), None, ops)
    return model, *golden.prompt(name), np.load(golden.HERE / f"{name}.npz")


def test_whole_prompt(case):
    model, tokens, images, expected = case
    np.testing.assert_allclose(model.logits(tokens, images), expected["logits"], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("piece", [*(pytest.param(n, marks=pytest.mark.slow_in_simulator) for n in (1, 3)), 7])
def test_in_pieces(case, piece):
    model, tokens, images, expected = case
    cache = model.new_cache()
    parts = [model.logits(tokens[n:n + piece], images if n == 0 else (), cache) for n in range(0, len(tokens), piece)]
    np.testing.assert_allclose(np.concatenate(parts), expected["logits"], rtol=0, atol=CLOSE)


def test_image_features(case):
    model, _, images, expected = case
    if not images:
        pytest.skip("a model of text alone")
    features = image_features(images, model.weights, model.config, model.ops)
    np.testing.assert_allclose(features, expected["features"], rtol=0, atol=CLOSE)


@pytest.mark.slow_in_simulator
def test_greedy(case):
    model, tokens, images, expected = case
    assert list(model.generate(tokens, images, max_new_tokens=24, temperature=0)) == expected["greedy"].tolist()
