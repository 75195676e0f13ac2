"""Laws of quantization: bounds on the error of rounding, and of products of rounded values."""
import math

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import counts, magnitudes, random_normal, rngs
from tinyscout.laws.universal import EPS, compute_expected
from tinyscout.reference import Quantized, dequantize, quantize, quantize_rows

MAX_INTEGER = {4: 8, 8: 127}
ACTIVATION_GROUP = 32           # inputs of a product that a kernel may round together, to 8 bits
HALF_STEP = 0.5 + 256 * EPS     # division in float32 may move a value halfway between two integers to either side
SILU_MAX_SLOPE = 1.1            # the slope of silu is nowhere above 1.0998

bits = st.sampled_from([4, 8])
scale_dtypes = st.sampled_from([np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)])


def uneven_normal(rng, *shape):
    """Normal values whose scale varies from column to column, and some zeros."""
    w = random_normal(rng, *shape) * 10 ** rng.uniform(-4, 2, (*shape[:-2], 1, shape[-1])).astype(np.float32)
    w[rng.random(shape) < 0.05] = 0
    return w


@st.composite
def matrix_inputs(draw):
    rng, group = draw(rngs()), draw(st.sampled_from([32, 128]))
    I, O = group * draw(st.sampled_from([1, 2, 3, 9])), draw(st.sampled_from([16, 32, 272]))
    E = draw(st.sampled_from([(), (), (1,), (3,)]))
    w = uneven_normal(rng, *E, I, O)
    if draw(st.booleans()):
        w[..., :group, :2] = 0                                          # groups of zeros only
    return np.asfortranarray(w) if draw(st.booleans()) else w, draw(bits), group, draw(scale_dtypes)


@st.composite
def row_inputs(draw):
    d = draw(st.sampled_from([2, 8, 32, 64, 128]))
    lead = draw(st.sampled_from([(1, 1, 1), (2, 33, 3), (1, 5, 2)]))
    return random_normal(draw(rngs()), *lead, d, size=draw(magnitudes)), draw(bits), draw(scale_dtypes)


@st.composite
def quantized_inputs(draw):
    if draw(st.booleans()):
        return (quantize(*draw(matrix_inputs())),)
    return (quantize_rows(*draw(row_inputs())),)


@st.composite
def product_inputs(draw):
    """Tokens with a few channels far larger than the others, and a quantized matrix."""
    w = quantize(*draw(matrix_inputs().filter(lambda args: args[0].ndim == 2)))
    rng, lead = draw(rngs()), draw(st.sampled_from([(1,), (3,), (33,), (2, 3)]))
    x = random_normal(rng, *lead, w.shape[0], size=draw(magnitudes))
    x[..., rng.integers(0, w.shape[0], 3)] *= 50
    return x, w, random_normal(rng, w.shape[1]) if draw(st.booleans()) else None


@st.composite
def expert_inputs(draw):
    rng, N, E = draw(rngs()), draw(counts), draw(st.integers(1, 4))
    group = draw(st.sampled_from([32, 128]))
    n_bits, _, scale_dtype = draw(st.tuples(bits, st.just(None), scale_dtypes))
    D, F, k = group * draw(st.integers(1, 2)), group * draw(st.integers(1, 3)), draw(st.integers(1, E))
    expert = rng.permuted(np.tile(np.arange(E), (N, 1)), axis=1)[:, :k]
    gate = rng.uniform(0.01, 1, (N, k)).astype(np.float32)
    weights = [quantize(random_normal(rng, E, I, O, size=I ** -0.5), n_bits, group, scale_dtype)
               for I, O in [(D, F), (D, F), (F, D)]]
    return random_normal(rng, N, D), expert, gate, *weights


@st.composite
def kv_inputs(draw):
    """Queries, and keys and values before quantization."""
    rng, T, past = draw(rngs()), draw(st.sampled_from([1, 3, 33])), draw(st.sampled_from([0, 1, 64]))
    K, G, d = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.sampled_from([2, 8, 32, 64]))
    k, v = random_normal(rng, 1, past + T, K, d), random_normal(rng, 1, past + T, K, d)
    chunk, first = draw(st.sampled_from([None, 16])), draw(st.sampled_from([0, 5]))
    return random_normal(rng, 1, T, K * G, d), k, v, chunk, first, draw(bits), draw(scale_dtypes)


def assert_within(given, truth, slack):
    """Assert that each element is within the tolerance of float32, plus a slack for quantization, of the truth."""
    value = truth.value
    baseline = max(float(np.abs(y - value).max(initial=0)) for y in truth.baselines)
    bound = slack + 2 * baseline + 4 * EPS * np.abs(value).max(initial=0)
    excess = np.abs(np.asarray(given, np.float64) - value) - bound
    assert np.isfinite(excess).all(), "not finite: an element that was never written, or an overflow"
    assert (excess <= 0).all(), f"off by {excess.max():.3g} more than equation (activations) allows"


def activation_bound(x, w):
    """Error bound of a product whose inputs are rounded to 8 bits in groups of 32, equation (activations).

    x (..., I), w Quantized (I, O)  ->  (..., O) float64: half a step of every input, times the weight it meets
    """
    groups = np.abs(x.astype(np.float64)).reshape(*x.shape[:-1], -1, ACTIVATION_GROUP)
    steps = np.repeat(groups.max(-1) / 127, ACTIVATION_GROUP, axis=-1)
    return HALF_STEP * steps @ np.abs(dequantize(w, np.float64))


def expert_bound(x, w_gate, w_up, w_down):
    """Error bound of an expert: the errors of gate and up change the hidden values, and these the result.

    x (N, D) float64 already scaled by the gate, the weights of one expert Quantized  ->  (N, D)
    """
    gate, up = reference.linear(x, w_gate), reference.linear(x, w_up)
    off_gate, off_up = activation_bound(x, w_gate), activation_bound(x, w_up)
    silu, hidden = np.abs(gate * reference.sigmoid(gate)), np.abs(reference.swiglu(gate, up))
    off = (silu + SILU_MAX_SLOPE * off_gate) * off_up + SILU_MAX_SLOPE * off_gate * np.abs(up)
    return off @ np.abs(dequantize(w_down, np.float64)) + activation_bound(hidden + off, w_down)


def with_unit_integers(w):
    """The same matrix with every integer set to one, so that each element is its scale."""
    return Quantized(np.full_like(w.values, 1 if w.bits == 8 else 0x11), w.scales)


def assert_rounded(exact, dequantized, steps, bits):
    """Assert errors of half a step at most; with 4 bits, at most 7, a positive extreme may be off by a full step."""
    is_saturated = (bits == 4) & (exact > 7.5 * steps)
    assert (np.abs(dequantized - exact) <= np.where(is_saturated, 1 + 16 * EPS, HALF_STEP) * steps).all()


def a_weight_is_off_by_half_a_step(ops, w, bits, group, scale_dtype):
    """This holds for every element, so the layout is right too, equation (rounding)."""
    q = ops.quantize(w, bits, group, scale_dtype)
    assert (q.shape, q.bits, q.group, q.scales.dtype) == (w.shape, bits, group, scale_dtype)
    steps = dequantize(with_unit_integers(q), np.float64)
    assert_rounded(w.astype(np.float64), dequantize(q, np.float64), steps, bits)
    largest = np.abs(w).reshape(*w.shape[:-2], -1, group, w.shape[-1]).max(-2)
    min_steps = np.maximum(largest, np.float32(1e-6)) / np.float64(MAX_INTEGER[bits])
    assert (steps[..., ::group, :] >= min_steps * (1 - EPS)).all(), "a scale too small for the largest of its group"
    assert (steps[..., ::group, :] <= min_steps * (1 + (EPS if scale_dtype == np.float32 else 2 ** -7))).all()


def a_key_is_off_by_half_a_step(ops, x, bits, scale_dtype):
    q = ops.quantize_rows(x, bits, scale_dtype)
    steps = np.repeat(q.scales.astype(np.float64), q.group, axis=-1)
    assert_rounded(x.astype(np.float64), dequantize(q, np.float64), steps, bits)


def what_is_on_the_grid_comes_back(ops, w, bits, group, scale_dtype):
    """Values that are whole steps are kept, integers and scales bit for bit, so quantizing twice equals once.

    Each group has the lowest integer: a positive extreme would be clipped, and clipped again the second time.
    """
    integers = np.random.default_rng(0).integers(-MAX_INTEGER[bits] + (bits == 8), MAX_INTEGER[bits], w.shape)
    integers[..., ::group, :] = -MAX_INTEGER[bits]
    steps = quantize(w, bits, group, ml_dtypes.bfloat16)                # seven bits of mantissa: products stay exact
    grid = (integers * dequantize(with_unit_integers(steps))).astype(np.float32)
    once = ops.quantize(grid, bits, group, scale_dtype)
    np.testing.assert_array_equal(ops.dequantize(once, np.float32), grid)
    twice = ops.quantize(ops.dequantize(once, np.float32), bits, group, scale_dtype)
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a, b)


def a_product_takes_integers_and_scales(ops, x, w, bias):
    """The result is the product with the dequantized matrix; a kernel may round the input to 8 bits as well."""
    y = ops.linear(x, w, bias)
    assert y.dtype == np.float32
    assert_within(y, compute_expected(reference.linear, x, w, bias), activation_bound(x, w))
    np.testing.assert_array_equal(reference.linear(x, w, bias), reference.linear(x, dequantize(w), bias))


def experts_take_integers_and_scales(ops, x, expert, gate, w_gate, w_up, w_down):
    weights = w_gate, w_up, w_down
    slack = np.zeros(x.shape)
    for n, choice in np.ndindex(expert.shape):
        gated = (x[n] * gate[n, choice]).astype(np.float64)
        slack[n] += expert_bound(gated[None], *(reference.take(w, expert[n, choice]) for w in weights))[0]
    assert_within(ops.experts(x, expert, gate, *weights),
                  compute_expected(reference.experts, x, expert, gate, *weights), slack)


def attention_takes_integers_and_scales(ops, q, k, v, chunk, first, bits, scale_dtype):
    """The result is attention to the dequantized keys and values."""
    stored = [quantize_rows(a, bits, scale_dtype) for a in (k, v)]
    args = q, *stored, True, chunk, first
    assert_within(ops.grouped_query_attention(*args), compute_expected(reference.grouped_query_attention, *args), 0.0)


def few_bits_of_memory_change_little(ops, q, k, v, chunk, first, bits, scale_dtype):
    """An error in a key shifts a score, which scales an attention weight, equation (attention-error)."""
    keys, values = (quantize_rows(a, bits, scale_dtype) for a in (k, v))
    off_k, off_v = (np.abs(dequantize(w, np.float64) - a).max() for w, a in [(keys, k), (values, v)])
    off_score = off_k * np.abs(q.astype(np.float64)).sum(-1, keepdims=True) / math.sqrt(q.shape[-1])
    slack = np.expm1(2 * off_score) * np.abs(v).max() + off_v
    truth = compute_expected(reference.grouped_query_attention, q, k, v, True, chunk, first)
    assert_within(ops.grouped_query_attention(q, keys, values, True, chunk, first), truth, slack)


INPUTS = {"quantize": matrix_inputs(), "quantize_rows": row_inputs(), "dequantize": quantized_inputs()}
LAWS = {
    a_weight_is_off_by_half_a_step: matrix_inputs(),
    a_key_is_off_by_half_a_step: row_inputs(),
    what_is_on_the_grid_comes_back: matrix_inputs(),
    a_product_takes_integers_and_scales: product_inputs(),
    experts_take_integers_and_scales: expert_inputs(),
    attention_takes_integers_and_scales: kv_inputs(),
    few_bits_of_memory_change_little: kv_inputs(),
}
