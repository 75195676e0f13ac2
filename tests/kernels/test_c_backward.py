"""The gradients in C with many rows, as in training: several blocks and passes, and long sums.

The laws draw shapes at the edges of one block; these are larger.
"""
import numpy as np
import pytest

from tinyscout import reference
from tinyscout.laws.universal import same_as_reference

c = pytest.importorskip("tinyscout.kernels.c", reason="the C extension is not built")


def random_normal(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("one_sign", [False, True])
def test_a_matrix_learns_from_thousands_of_rows(one_sign):
    """One sign: nothing cancels, so a sum that drifts over 5120 rows shows."""
    dy, x, w, bias = random_normal(5120, 33), random_normal(5120, 65, seed=1), random_normal(65, 33), random_normal(33)
    same_as_reference(c, "linear_backward", *map(np.abs, (dy, x, w, bias)) if one_sign else (dy, x, w, bias))


@pytest.mark.parametrize(("E", "k"), [(1, 1), (3, 1), (40, 2)])
def test_experts_learn_from_thousands_of_tokens(E, k):
    """More than one pass of sorted rows, experts that reach over its end, and more rows of one than a block has."""
    rng, N, D, F = np.random.default_rng(E), 3001, 5, 3
    expert = np.argsort(rng.random((N, E)) * np.arange(1, E + 1), axis=1)[:, :k]         # the first ones are busier
    gate = rng.uniform(0.1, 1, (N, k)).astype(np.float32)
    weights = random_normal(E, D, F), random_normal(E, D, F, seed=1), random_normal(E, F, D)
    repeats = 1 if k > 1 else 2
    args = [np.tile(a, (repeats, 1)) for a in (random_normal(N, D), random_normal(N, D, seed=1), expert, gate)]
    same_as_reference(c, "experts_backward", *args, *weights)


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
def test_a_norm_learns_from_thousands_of_rows(name):
    x = random_normal(5120, 31)
    args = {"rms_norm": (random_normal(31),), "layer_norm": (random_normal(31), random_normal(31, seed=1))}[name]
    same_as_reference(c, f"{name}_backward", np.abs(random_normal(5120, 31, seed=2)), x, *args)


@pytest.mark.parametrize(("chunk", "first"), [(None, 0), (128, 0), (100, 8230)])
def test_attention_learns_from_hundreds_of_keys(chunk, first):
    q, k, v = random_normal(2, 300, 4, 16), random_normal(2, 333, 2, 16), random_normal(2, 333, 2, 16, seed=1)
    same_as_reference(c, "grouped_query_attention_backward", random_normal(2, 300, 4, 16, seed=2), q, k, v, True,
                      chunk, first)


def test_quantized_weights_do_not_learn_here():
    """Only stored weights can be trained; the reference defines the result for a quantized matrix."""
    x, w = random_normal(3, 64), reference.quantize(random_normal(64, 32), 8)
    dy = random_normal(3, 32)
    for actual, expected in zip(c.linear_backward(dy, x, w), reference.linear_backward(dy, x, w), strict=True):
        np.testing.assert_array_equal(actual, expected)
