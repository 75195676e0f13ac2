"""The whole model backwards: every weight's gradient against differences of the loss, in float64."""
from dataclasses import replace

import numpy as np
import pytest

from tinyscout import reference
from tinyscout.config import Layer, layer_plan, tiny_config
from tinyscout.nn.text_backward import expert_loads
from tinyscout.nn.weights import init_weights, named_arrays, tree_map
from tinyscout.train.loss_and_grad import Batch, backward, evaluate_loss, forward, loss_and_grad

CONFIGS = {
    "scout": tiny_config(),
    "maverick": tiny_config(layers=layer_plan(4, moe_every=2), qk_norm=False, rope_scaling=None),
    "two experts": tiny_config(vision=False, top_k=2, attn_temperature_floor=2.0),
    "other layers": tiny_config(False, attn_temperature=False, layers=(Layer(False, False, False),
                                                                       Layer(True, False, True))),
    "rope everywhere": tiny_config(False, layers=(Layer(True, False, False),) * 2),
    "global with rope": tiny_config(False, layers=(Layer(True, True, False), Layer(True, False, False))),
    "a norm everywhere": tiny_config(False, qk_norm_nope=True, layers=layer_plan(2, nope_every=2)),
    "tied": tiny_config(vision=False, tie_embeddings=True, layers=layer_plan(1)),
}


def random_weights(config, seed=0):
    """Weights in float64 that leave no router undecided and no gate half open."""
    rng = np.random.default_rng(seed)
    weights = init_weights(config, seed, np.float64)
    weights = tree_map(lambda w: w + 0.1 * rng.normal(size=w.shape), weights)
    if config.text.tie_embeddings:
        weights = weights._replace(text=weights.text._replace(output=weights.text.embedding.T))
    return weights


def random_batch(config, B=2, T=21, seed=0):
    """Tokens with an image in each row if there is a vision encoder, and targets of which some do not count."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 400, (B, T))
    tiles = None
    if config.vision is not None:
        n = config.vision.tokens_per_tile
        tokens[:, 2:2 + n] = config.patch_id
        tiles = rng.normal(size=(B, 3, config.vision.tile_size, config.vision.tile_size)).astype(np.float32)
    targets = np.where(rng.random((B, T)) < 0.3, -1, rng.integers(0, 400, (B, T)))
    aux_targets = np.where(rng.random((B, T)) < 0.8, -1, rng.integers(0, 400, (B, T)))
    return Batch(tokens, targets, tiles, aux_targets)


def without_output(weights, config):
    """A tied output matrix is no weight of its own."""
    return weights._replace(text=weights.text._replace(output=None)) if config.text.tie_embeddings else weights


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weights_gradient(name):
    """One random direction for each weight alone: no gradient can hide behind a larger one."""
    config = CONFIGS[name]
    weights, batch, rng = random_weights(config), random_batch(config), np.random.default_rng(1)
    gradients = dict(named_arrays(loss_and_grad(batch, weights, config).gradients))
    arrays = dict(named_arrays(without_output(weights, config)))
    assert gradients.keys() == arrays.keys()

    def loss_after(path, step):
        stepped = tree_map(lambda w: w + step if w is arrays[path] else w, weights)
        if config.text.tie_embeddings:
            stepped = stepped._replace(text=stepped.text._replace(output=stepped.text.embedding.T))
        return sum(evaluate_loss(batch, stepped, config))

    for path, w in arrays.items():
        assert gradients[path].shape == w.shape
        direction, h = rng.normal(size=w.shape), 1e-5
        near, far = ((loss_after(path, k * h * direction) - loss_after(path, -k * h * direction)) / (2 * k * h)
                     for k in (1, 2))
        derivative = np.sum(gradients[path] * direction)
        assert abs(derivative - near) <= abs(near - far) + 1e-8, path


def test_the_load_balance_is_part_of_the_gradient():
    config = tiny_config(vision=False, layers=layer_plan(2))
    weights, batch, rng = random_weights(config), random_batch(config), np.random.default_rng(1)
    activations = forward(batch, weights, config)

    def load_balance(weights):
        """The sum over layers of how unevenly the experts are loaded, as `backward` counts it."""
        states, total = forward(batch, weights, config).text_activations, 0.0
        for n, w in enumerate(weights.text.blocks):
            x = states[2 * n + 1]
            rows = reference.rms_norm(x, w.feed_forward_norm, config.text.norm_eps).reshape(-1, x.shape[-1])
            total += reference.load_balance(rows, w.feed_forward.w_router, config.text.top_k)
        return total

    d_logits = np.zeros_like(activations.logits)
    gradients = backward(d_logits, activations, batch, weights, config, aux_loss_coef=1.0)
    direction, h = tree_map(lambda w: rng.normal(size=w.shape), weights), 1e-6
    above, below = (load_balance(tree_map(lambda w, d, s=s: w + s * h * d, weights, direction)) for s in (1, -1))
    derivative = sum(np.sum(g * d) for (_, g), (_, d) in zip(named_arrays(gradients), named_arrays(direction),
                                                             strict=True))
    assert derivative == pytest.approx((above - below) / (2 * h), rel=1e-5)


def test_a_teacher_pulls_towards_its_distribution():
    config = tiny_config(vision=False, layers=layer_plan(1))
    weights, teacher, batch = random_weights(config), random_weights(config, 1), random_batch(config)
    rng, distill_weight, h = np.random.default_rng(1), 0.3, 1e-5
    result = loss_and_grad(batch, weights, config, teacher=(teacher, config), distill_weight=distill_weight)
    teacher_logits = forward(batch, teacher, config).logits

    def mixed_loss(weights):
        logits = forward(batch, weights, config).logits
        loss = sum(evaluate_loss(batch, weights, config))
        return (1 - distill_weight) * loss + distill_weight * reference.soft_cross_entropy(logits, teacher_logits)

    direction = tree_map(lambda w: rng.normal(size=w.shape), weights)
    above, below = (mixed_loss(tree_map(lambda w, d, s=s: w + s * h * d, weights, direction)) for s in (1, -1))
    derivative = sum(np.sum(g * d) for (_, g), (_, d) in zip(named_arrays(result.gradients), named_arrays(direction),
                                                             strict=True))
    assert derivative == pytest.approx((above - below) / (2 * h), rel=1e-5)


def test_loads_are_parts_of_the_tokens():
    config = CONFIGS["maverick"]
    activations = forward(random_batch(config), random_weights(config), config)
    loads = expert_loads(activations.text_activations, random_weights(config).text, config.text)
    assert loads.shape == (2, config.text.n_experts)
    np.testing.assert_allclose(loads.sum(1), 1)


@pytest.mark.parametrize(("change", "says"), [
    (lambda b: b._replace(targets=np.full_like(b.targets, -1), aux_targets=None), "nothing to learn"),
    (lambda b: b._replace(tiles=b.tiles[:1]), "patch tokens"),
])
def test_a_batch_that_teaches_nothing(change, says):
    config = tiny_config()
    with pytest.raises(ValueError, match=says):
        evaluate_loss(change(random_batch(config)), random_weights(config), config)


def test_any_backend_learns_the_same(ops):
    """In float32: within what a few thousand roundings make of it."""
    config = replace(tiny_config(), text=replace(tiny_config().text, layers=layer_plan(1)))
    weights, batch = tree_map(lambda w: w.astype(np.float32), random_weights(config)), random_batch(config, 1)
    result = loss_and_grad(batch, tree_map(ops.asarray, weights), config, aux_loss_coef=0.01, ops=ops)
    expected = loss_and_grad(batch, random_weights(config), config, aux_loss_coef=0.01)
    gradients = dict(named_arrays(result.gradients))
    for path, truth in named_arrays(expected.gradients):
        error = np.abs(ops.asnumpy(gradients[path]) - truth).max() / np.abs(truth).max()
        assert error < 1e-4, f"{path} is off by {error:.2g}"
