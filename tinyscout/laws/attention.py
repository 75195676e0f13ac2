"""Laws of attention."""
import math
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import counts, lengths, magnitudes, random_normal, rngs, small_sizes
from tinyscout.laws.universal import EPS, assert_close, compute_by_definition, compute_expected

chunks = st.sampled_from([None, 1, 3, 16, 32, 64])
starts = st.sampled_from([0, 5, 8192])


@st.composite
def attention_inputs(draw, causal=None, chunk=chunks):
    """Queries after `past` other tokens, at positions that need not start at zero."""
    rng, T, past = draw(rngs()), draw(counts), draw(st.sampled_from([0, 1, 31, 64]))
    B, K, G = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    d = draw(st.sampled_from([2, 8, 33]))
    size = draw(st.sampled_from([1.0, 1.0, 1e3]))                       # scores of 1e3 must not overflow
    q = random_normal(rng, B, T, K * G, d, size=size)
    k, v = random_normal(rng, B, past + T, K, d), random_normal(rng, B, past + T, K, d)
    return q, k, v, draw(st.booleans()) if causal is None else causal, draw(chunk), draw(starts)


@st.composite
def mask_inputs(draw):
    first, S, chunk = draw(starts), draw(counts), draw(st.sampled_from([1, 3, 16, 8192]))
    return first + np.arange(draw(st.integers(0, S - 1)), S), first + np.arange(S), chunk


def visibility(q, k, causal, chunk, kv_start):
    """Mask of the keys that each query may see, by the definition, one element at a time  ->  (T, S) bool."""
    T, S = q.shape[1], k.shape[1]
    def is_visible(t, s):
        query, key = kv_start + S - T + t, kv_start + s
        return not causal or (key <= query and (chunk is None or key // chunk == query // chunk))
    return np.array([[is_visible(t, s) for s in range(S)] for t in range(T)])


def a_query_reads_what_it_may_see_and_nothing_else(ops, q, k, v, causal, chunk, kv_start):
    """Attention is causal, within a chunk, and to the group's key head: here one query and one head at a time."""
    mask = visibility(q, k, causal, chunk, kv_start)
    G = q.shape[2] // k.shape[2]

    def by_definition(q, k, v, *_):
        y = np.empty_like(q)
        for b, t, h in np.ndindex(q.shape[:3]):
            keys, values = k[b, mask[t], h // G], v[b, mask[t], h // G]
            scores = keys @ q[b, t, h] / math.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max())
            y[b, t, h] = weights @ values / weights.sum()
        return y

    args = q, k, v, causal, chunk, kv_start
    truth = compute_by_definition(reference.grouped_query_attention, by_definition, *args)
    assert_close(ops.grouped_query_attention(*args), truth)


def what_it_may_not_see_does_not_matter(ops, q, k, v, causal, chunk, kv_start):
    """Keys and values that the last query cannot see do not change its result by a bit."""
    hidden = ~visibility(q, k, causal, chunk, kv_start)[-1]
    other_k, other_v = k.copy(), v.copy()
    other_k[:, hidden], other_v[:, hidden] = 7e4, -3e4
    before, after = (ops.grouped_query_attention(q, *kv, causal, chunk, kv_start)
                     for kv in [(k, v), (other_k, other_v)])
    np.testing.assert_array_equal(before[:, -1], after[:, -1])


def a_head_reads_only_its_own_group(ops, q, k, v, causal, chunk, kv_start):
    """The keys and values of other key heads make no difference."""
    G = q.shape[2] // k.shape[2]
    other_k, other_v = k.copy(), v.copy()
    other_k[:, :, 1:], other_v[:, :, 1:] = 5.0, 11.0
    before, after = (ops.grouped_query_attention(q, *kv, causal, chunk, kv_start)
                     for kv in [(k, v), (other_k, other_v)])
    np.testing.assert_array_equal(before[:, :, :G], after[:, :, :G])


def any_pieces_are_the_whole(ops, q, k, v, causal, chunk, kv_start):
    """Queries in two pieces, the first without the later keys, give the same result: prefill and decoding agree."""
    T, past = q.shape[1], k.shape[1] - q.shape[1]
    edges = sorted({0, T // 2, T})
    results = [ops.grouped_query_attention(q[:, a:b], k[:, :past + b], v[:, :past + b], True, chunk, kv_start)
               for a, b in pairwise(edges)]
    truth = compute_expected(reference.grouped_query_attention, q, k, v, True, chunk, kv_start)
    assert_close(np.concatenate(results, axis=1), truth)


def the_order_of_the_past_does_not_matter(ops, q, k, v, causal, chunk, kv_start):
    """A global layer without RoPE does not depend on order: the last query's past may be shuffled."""
    order = np.random.default_rng(0).permutation(k.shape[1])
    shuffled = ops.grouped_query_attention(q[:, -1:], k[:, order], v[:, order], True, None, kv_start)
    assert_close(shuffled, compute_expected(reference.grouped_query_attention, q[:, -1:], k, v))


def a_mean_stays_among_its_values(ops, q, k, v, causal, chunk, kv_start):
    y, B = ops.grouped_query_attention(q, k, v, causal, chunk, kv_start), len(q)
    largest = np.abs(v).max(axis=(1, 3)).reshape(B, 1, -1, 1)                   # per key head
    G = q.shape[2] // k.shape[2]
    assert (np.abs(y).reshape(B, q.shape[1], -1, G * q.shape[3]) <= largest * (1 + 64 * EPS)).all()


def masks_are_their_definition(ops, queries, keys, chunk):
    causal, chunked = ops.causal_mask(queries, keys), ops.chunked_mask(queries, keys, chunk)
    for (i, t), (j, s) in ((a, b) for a in enumerate(queries) for b in enumerate(keys)):
        assert causal[i, j] == (s <= t)
        assert chunked[i, j] == (s <= t and s // chunk == t // chunk)


def temperature_is_one_until_the_floor(ops, positions, floor, scale):
    """The temperature is 1 for short prompts, and then grows by a step every `floor` tokens."""
    t = ops.attention_temperature(positions, floor, scale)
    assert (t[positions + 1 < floor] == 1).all()
    assert (np.diff(t) >= 0).all()
    expected = [1 + scale * math.log(1 + math.floor((p + 1) / floor)) for p in positions.tolist()]
    np.testing.assert_allclose(t, expected, rtol=1e-14)


def softmax_sums_to_one_and_ignores_a_shift(ops, x):
    y = ops.softmax(x)
    np.testing.assert_allclose(y.sum(-1, dtype=np.float64), 1, atol=EPS * x.shape[-1])
    assert (y >= 0).all()
    np.testing.assert_array_equal(ops.softmax(np.ldexp(np.round(np.ldexp(x, 8)), -8) + 64),     # exact in float32
                                  ops.softmax(np.ldexp(np.round(np.ldexp(x, 8)), -8)))


@st.composite
def temperature_inputs(draw):
    return draw(st.sampled_from([0, 8190, 1_000_000])) + np.arange(40), draw(st.sampled_from([3, 4.0, 8192])), 0.1


@st.composite
def softmax_inputs(draw):
    return (random_normal(draw(rngs()), draw(small_sizes), draw(lengths), size=draw(magnitudes)),)


INPUTS = {
    "causal_mask": mask_inputs().map(lambda args: args[:2]),
    "chunked_mask": mask_inputs(),
    "attention_temperature": temperature_inputs(),
    "softmax": softmax_inputs(),
    "grouped_query_attention": attention_inputs(),
}
LAWS = {
    a_query_reads_what_it_may_see_and_nothing_else: attention_inputs(),
    what_it_may_not_see_does_not_matter: attention_inputs(causal=True),
    a_head_reads_only_its_own_group: attention_inputs(),
    any_pieces_are_the_whole: attention_inputs(causal=True),
    the_order_of_the_past_does_not_matter: attention_inputs(causal=True),
    a_mean_stays_among_its_values: attention_inputs(),
    masks_are_their_definition: mask_inputs(),
    temperature_is_one_until_the_floor: temperature_inputs(),
    softmax_sums_to_one_and_ignores_a_shift: softmax_inputs(),
}
