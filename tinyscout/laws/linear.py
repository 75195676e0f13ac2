"""Laws of matrices."""
import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import lengths, magnitudes, random_normal, rngs, small_sizes
from tinyscout.laws.universal import assert_close, compute_by_definition, compute_expected


@st.composite
def linear_inputs(draw):
    """Weights in either memory order: row-major, or transposed as in a checkpoint."""
    rng, I, O = draw(rngs()), draw(lengths), draw(lengths)
    lead = draw(st.sampled_from([(1,), (3,), (5,), (33,), (2, 3), (1, 1)]))
    w = random_normal(rng, O, I, size=I ** -0.5).T if draw(st.booleans()) else random_normal(rng, I, O, size=I ** -0.5)
    x = random_normal(rng, *lead, I, size=draw(magnitudes))
    return x, w, random_normal(rng, O) if draw(st.booleans()) else None


@st.composite
def long_inputs(draw):
    """Rows of Scout's width and weights, all positive: nothing cancels, so a drifting sum shows."""
    rng, I, O = draw(rngs()), 5120, draw(st.sampled_from([1, 31, 65]))
    w = random_normal(rng, O, I).T if draw(st.booleans()) else random_normal(rng, I, O)
    return np.abs(random_normal(rng, draw(st.sampled_from([1, 3, 16, 33])), I)), np.abs(w)


@st.composite
def embed_inputs(draw):
    rng, V = draw(rngs()), draw(lengths)
    return rng.integers(0, V, draw(lengths)), random_normal(rng, V, draw(small_sizes))


def a_product_is_its_definition(ops, x, w, bias):
    """The product equals equation (linear), row by row and column by column."""
    def by_definition(x, w, bias):
        return (x[..., :, None] * w).sum(-2) + (0 if bias is None else bias)
    args = x.reshape(-1, x.shape[-1])[:2], w, bias
    assert_close(ops.linear(*args), compute_by_definition(reference.linear, by_definition, *args))


def a_long_sum_does_not_drift(ops, x, w):
    """Adding 5120 terms to a single float loses more than rounding requires."""
    assert_close(ops.linear(x, w), compute_expected(reference.linear, x, w))


def the_identity_changes_nothing(ops, x, w, bias):
    np.testing.assert_array_equal(ops.linear(x, np.eye(x.shape[-1], dtype=np.float32)), x)


def memory_order_does_not_matter(ops, x, w, bias):
    truth = compute_expected(reference.linear, x, w, bias)
    for order in (np.ascontiguousarray, np.asfortranarray):
        assert_close(ops.linear(x, order(w), bias), truth)


def half_precision_weights_are_widened(ops, x, w, bias):
    """A bfloat16 weight gives the same bits as its float32 value: a checkpoint is computed as stored."""
    stored = w.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(ops.linear(x, stored, bias), ops.linear(x, stored.astype(np.float32), bias))


def embedding_is_a_product_with_one_hot_rows(ops, tokens, embedding):
    one_hot = np.eye(len(embedding), dtype=np.float32)[tokens]
    np.testing.assert_array_equal(ops.embed(tokens, embedding), one_hot @ embedding)


INPUTS = {"linear": linear_inputs(), "embed": embed_inputs()}
LAWS = {
    a_product_is_its_definition: linear_inputs(),
    a_long_sum_does_not_drift: long_inputs(),
    the_identity_changes_nothing: linear_inputs(),
    memory_order_does_not_matter: linear_inputs(),
    half_precision_weights_are_widened: linear_inputs(),
    embedding_is_a_product_with_one_hot_rows: embed_inputs(),
}
