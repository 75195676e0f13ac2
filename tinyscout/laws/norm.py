"""Laws of normalisation."""
import numpy as np
from hypothesis import strategies as st

from tinyscout.laws.draw import lengths, magnitudes, random_normal, rngs, small_sizes
from tinyscout.laws.universal import EPS

widths = lengths | st.just(5120)                    # 5120 is Scout's: a running float sum of that length drifts
epsilons = st.sampled_from([1e-5, 1e-6, 1e-3, 0.5])


@st.composite
def rms_norm_inputs(draw):
    rng, N, D = draw(rngs()), draw(small_sizes), draw(widths)
    weight = random_normal(rng, D) if draw(st.booleans()) else None
    return random_normal(rng, N, D, size=draw(magnitudes)), weight, draw(epsilons)


@st.composite
def layer_norm_inputs(draw):
    rng, N, D = draw(rngs()), draw(small_sizes), draw(widths)
    x = random_normal(rng, N, D, size=draw(magnitudes)) + random_normal(rng, N, 1, size=draw(st.sampled_from([0, 1])))
    return x, random_normal(rng, D), random_normal(rng, D), draw(epsilons)


def a_rows_size_does_not_matter(ops, x, weight, eps):
    """With eps 0, scaling a row by a power of two, which is exact, changes nothing."""
    y = ops.rms_norm(x, weight, 0.0)
    np.testing.assert_allclose(ops.rms_norm(4 * x, weight, 0.0), y, rtol=4 * EPS)


def rows_do_not_see_each_other(ops, x, weight, eps):
    """A row alone has the same result as among others: QK norm is per head because a head is a row."""
    y = ops.rms_norm(x, weight, eps)
    for n, row in enumerate(x):
        np.testing.assert_array_equal(ops.rms_norm(row[None], weight, eps)[0], y[n])


def no_weight_is_a_weight_of_one(ops, x, weight, eps):
    np.testing.assert_array_equal(ops.rms_norm(x, None, eps), ops.rms_norm(x, np.ones_like(x[0]), eps))


def a_shift_does_not_matter_to_layer_norm(ops, x, weight, bias, eps):
    """Adding a constant to a row does not change the result, up to the rounding of the larger values."""
    shifted = ops.layer_norm(x + np.float32(3), weight, bias, eps)
    slack = 16 * EPS * (np.abs(x).max() + 3) / np.sqrt(x.var(-1).min() + eps) * np.abs(weight).max()
    np.testing.assert_allclose(shifted, ops.layer_norm(x, weight, bias, eps), atol=slack, rtol=16 * EPS)


INPUTS = {"rms_norm": rms_norm_inputs(), "layer_norm": layer_norm_inputs()}
LAWS = {
    a_rows_size_does_not_matter: rms_norm_inputs(),
    rows_do_not_see_each_other: rms_norm_inputs(),
    no_weight_is_a_weight_of_one: rms_norm_inputs(),
    a_shift_does_not_matter_to_layer_norm: layer_norm_inputs(),
}
