"""Laws of the loss."""
import math

import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import lengths, random_normal, rngs, small_sizes
from tinyscout.laws.universal import assert_close, compute_by_definition, compute_expected


@st.composite
def cross_entropy_inputs(draw):
    """Some targets are negative, but never all; logits of 1e3 must not overflow."""
    rng, N, V = draw(rngs()), draw(small_sizes), draw(lengths)
    targets = rng.integers(0, V, N)
    targets[1:][rng.random(N - 1) < draw(st.sampled_from([0.0, 0.5]))] = draw(st.sampled_from([-1, -100]))
    return random_normal(rng, N, V, size=draw(st.sampled_from([1.0, 1e-3, 1e3]))), targets


@st.composite
def soft_cross_entropy_inputs(draw):
    rng, N, V = draw(rngs()), draw(small_sizes), draw(lengths)
    return tuple(random_normal(rng, N, V, size=draw(st.sampled_from([1.0, 1e-3, 1e3]))) for _ in range(2))


def a_teacher_who_is_certain_teaches_tokens(ops, logits, targets):
    """A teacher that gives one token probability 1 is equivalent to a target."""
    one_hot = np.where(np.arange(logits.shape[1]) == np.maximum(targets, 0)[:, None], np.float32(0), np.float32(-1e9))
    args = logits, np.maximum(targets, 0)
    assert_close(ops.soft_cross_entropy(logits, one_hot), compute_expected(reference.cross_entropy, *args))


def the_loss_is_the_mean_surprise(ops, logits, targets):
    """The loss is the mean over rows of minus the log of softmax at the target."""
    def by_definition(logits, targets):
        rows = [-math.log(reference.softmax(row.astype(np.float64))[t]) for row, t in zip(logits, targets, strict=True)
                if t >= 0]
        return sum(rows) / len(rows)
    args = (logits / max(1, np.abs(logits).max() / 5)).astype(np.float32), targets      # or 1 - p rounds to 0
    assert_close(ops.cross_entropy(*args), compute_by_definition(reference.cross_entropy, by_definition, *args))


def a_shift_of_a_row_does_not_matter_to_the_loss(ops, logits, targets):
    """The logits are integers, so that adding 64 does not round."""
    rounded = np.round(logits)
    assert_close(ops.cross_entropy(rounded + np.float32(64), targets),
                 compute_expected(reference.cross_entropy, rounded, targets))


def knowing_nothing_costs_the_log_of_the_vocabulary(ops, logits, targets):
    np.testing.assert_allclose(ops.cross_entropy(np.zeros_like(logits), targets), math.log(logits.shape[1]), rtol=1e-6,
                               atol=1e-7)


def ignored_rows_may_hold_anything(ops, logits, targets):
    changed = logits.copy()
    changed[targets < 0] = np.nan
    assert ops.cross_entropy(changed, targets) == ops.cross_entropy(logits, targets)


INPUTS = {"cross_entropy": cross_entropy_inputs(), "soft_cross_entropy": soft_cross_entropy_inputs()}
LAWS = {
    the_loss_is_the_mean_surprise: cross_entropy_inputs(),
    a_shift_of_a_row_does_not_matter_to_the_loss: cross_entropy_inputs(),
    knowing_nothing_costs_the_log_of_the_vocabulary: cross_entropy_inputs(),
    a_teacher_who_is_certain_teaches_tokens: cross_entropy_inputs(),
    ignored_rows_may_hold_anything: cross_entropy_inputs(),
}
