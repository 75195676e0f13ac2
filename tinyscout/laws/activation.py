"""Laws of the activations."""
import math

import numpy as np
from hypothesis import strategies as st

from tinyscout.laws.draw import lengths, random_normal, rngs, small_sizes
from tinyscout.laws.universal import EPS

magnitudes = st.sampled_from([1.0, 1.0, 1e-3, 20.0, 1e3])       # 1e3: exp(-x) overflows, which must do no harm


@st.composite
def one_input(draw):
    return (random_normal(draw(rngs()), draw(small_sizes), draw(lengths), size=draw(magnitudes)),)


@st.composite
def swiglu_inputs(draw):
    rng, N, F = draw(rngs()), draw(small_sizes), draw(lengths)
    return random_normal(rng, N, F, size=draw(magnitudes)), random_normal(rng, N, F)


def a_gate_and_its_opposite_make_one(ops, x):
    np.testing.assert_allclose(ops.sigmoid(x) + ops.sigmoid(-x), 1, atol=2 * EPS)


def gelu_is_the_error_functions(ops, x):
    """GELU is x Phi(x), here with the standard library's erfc, one number at a time."""
    truth = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x.astype(np.float64).ravel()]).reshape(x.shape)
    np.testing.assert_allclose(ops.gelu(x), truth, rtol=8 * EPS, atol=4 * EPS)
    np.testing.assert_allclose(ops.gelu(x.astype(np.float64)), truth, atol=4e-15 * np.abs(x).max())


def gelu_of_x_and_minus_x_differ_by_x(ops, x):
    np.testing.assert_allclose(ops.gelu(x) - ops.gelu(-x), x, rtol=4 * EPS, atol=4 * EPS)


def swiglu_is_linear_in_up(ops, gate, up):
    """Doubling `up` doubles the output; doubling `gate` does not."""
    tiny = float(np.finfo(np.float32).tiny)                         # below it a float32 loses digits
    np.testing.assert_allclose(ops.swiglu(gate, 2 * up), 2 * ops.swiglu(gate, up), rtol=2 * EPS, atol=tiny)


def a_shut_gate_lets_nothing_through(ops, gate, up):
    np.testing.assert_array_equal(ops.swiglu(np.zeros_like(gate), up), 0)
    np.testing.assert_array_equal(ops.swiglu(np.full_like(gate, -1e4), up), 0)


INPUTS = {"sigmoid": one_input(), "gelu": one_input(), "swiglu": swiglu_inputs()}
LAWS = {
    a_gate_and_its_opposite_make_one: one_input(),
    gelu_is_the_error_functions: one_input(),
    gelu_of_x_and_minus_x_differ_by_x: one_input(),
    swiglu_is_linear_in_up: swiglu_inputs(),
    a_shut_gate_lets_nothing_through: swiglu_inputs(),
}
