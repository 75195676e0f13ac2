"""Laws of sampling."""
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tinyscout.laws.draw import lengths, random_normal, rngs, small_sizes
from tinyscout.laws.universal import EPS

p_values = st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.9, 1.0])


@st.composite
def top_k_inputs(draw):
    """Distinct logits, integers with many ties and zeros of either sign, or neighbouring floats."""
    rng, V, kind = draw(rngs()), draw(lengths), draw(st.sampled_from(["different", "integers", "neighbours"]))
    logits = random_normal(rng, draw(small_sizes), V, size=3)
    if kind == "neighbours":
        logits = (1 + EPS * rng.integers(0, 8, logits.shape)).astype(np.float32)
    return np.round(logits) if kind == "integers" else logits, draw(st.integers(1, 2 * V))


@st.composite
def top_p_inputs(draw):
    """Probabilities and p such that rounding cannot move the cut.

    Either the cumulative sums keep a distance from p, or many are equal, all sums are exact, and p may be one of them.
    """
    rng, V, N, p = draw(rngs()), draw(lengths), draw(small_sizes), draw(p_values)
    if draw(st.booleans()):
        total = 1 << (2 * V).bit_length()                       # a power of two
        x = (rng.multinomial(total, np.full(V, 1 / V), N) / total).astype(np.float32)
        return x, draw(st.sampled_from([p, float(x[0, x[0] >= rng.choice(x[0])].sum())]))
    x = rng.dirichlet(np.full(V, 0.3), N).astype(np.float32)
    before = np.cumsum(-np.sort(-x.astype(np.float64), axis=-1), axis=-1)
    assume((np.abs(before - p) > 1e-4)[:, :-1].all())
    return x, p


@st.composite
def sample_inputs(draw):
    """Distinct logits, or integers with zeros of either sign among the largest; a p that is not a sum of few ties."""
    rng = draw(rngs())
    uniform = draw(st.sampled_from([0.0, rng.random()]))        # 0 must not draw a token of probability 0
    logits = random_normal(rng, draw(lengths), size=draw(st.sampled_from([1.0, 3.0])))
    if draw(st.booleans()):
        logits = np.round(logits - logits.max() + draw(st.sampled_from([0.4, 1.4])))
    ties = int((logits == logits.max()).sum())
    k, p = draw(st.sampled_from([None, 1, ties, ties + 1])), draw(st.sampled_from([None, 0.901]))
    return logits, uniform, draw(st.sampled_from([0.0, 1e-320, 0.6, 1.0, 2.0])), k, p


def the_best_k_stay(ops, logits, k):
    y = ops.top_k(logits, k)
    is_kept = np.isfinite(y)
    np.testing.assert_array_equal(y[is_kept], logits[is_kept])
    assert (is_kept.sum(-1) >= min(k, logits.shape[-1])).all()
    for row, kept in zip(logits, is_kept, strict=True):
        assert kept.all() or row[kept].min() > row[~kept].max()


def what_stays_has_no_more_than_p_before_it(ops, probabilities, p):
    """Equation (top-p) as written: b of every token is a separate sum over the tokens ahead of it."""
    y = ops.top_p(probabilities, p)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=4 * EPS * y.shape[-1])
    for row, result in zip(probabilities.astype(np.float64), y, strict=True):
        is_ahead = (row > row[:, None]) | (row == row[:, None]) & np.tri(len(row), k=-1, dtype=bool)
        kept = (is_ahead @ row <= p) & (row > 0)
        np.testing.assert_array_equal(result > 0, kept)
        np.testing.assert_allclose(result[kept] * row[kept].sum(), row[kept], rtol=32 * EPS * len(row))


def a_sweep_of_draws_has_the_right_shares(ops, logits, uniform, temperature, k, p):
    """Drawing with 0, 1/n, 2/n, ... selects every token in proportion to its probability, to within one draw."""
    n = 50
    tokens = [ops.sample(logits, (i + uniform) / n, temperature, k, p) for i in range(n)]
    frequencies = np.bincount(tokens, minlength=len(logits)) / n
    if temperature == 0:
        assert frequencies[logits.argmax()] == 1
        return
    with np.errstate(over="ignore"):
        scaled = (logits.astype(np.float64) - float(logits.max())) / temperature
    probabilities = ops.softmax(scaled if k is None else ops.top_k(scaled, k))
    expected = probabilities if p is None else ops.top_p(probabilities, p)
    assert np.abs(frequencies - expected).max() <= 1.001 / n
    assert (expected[tokens] > 0).all()


INPUTS = {"top_k": top_k_inputs(), "top_p": top_p_inputs(), "sample": sample_inputs()}
LAWS = {
    the_best_k_stay: top_k_inputs(),
    what_stays_has_no_more_than_p_before_it: top_p_inputs(),
    a_sweep_of_draws_has_the_right_shares: sample_inputs(),
}
