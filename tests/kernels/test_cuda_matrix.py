"""The numbered CUDA kernels and the backend's products, at the sizes where tiles, warps and chunks end."""
import importlib.util
from itertools import product

import ml_dtypes
import numpy as np
import pytest

if importlib.util.find_spec("nvidia") is None:
    pytest.skip("CUDA kernels need NVIDIA's compiler: pip install '.[cuda]'", allow_module_level=True)

from tinyscout import laws, reference
from tinyscout.kernels import cuda, device
from tinyscout.kernels.cuda import versions
from tinyscout.laws.universal import EPS, assert_close, compute_expected

BF16_EPS = 2.0 ** -8            # rounding to bfloat16 moves a number by no more than this share of it
VERSIONS = {name: (operation, f) for operation, found in versions.versions().items() for name, f in found.items()}
FLOAT32_VERSIONS = [name for name in VERSIONS if not name.endswith("_3")]
SLOW_LAWS = {"linear: a long sum does not drift": 1}     # {law: examples}: 5120 inputs take the simulator seconds
CASES = [(name, case) for name in FLOAT32_VERSIONS for case in laws.CASES if VERSIONS[name][0] in case.operations]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case.name}".replace(" ", "_") for name, case in CASES])
def test_a_version_obeys_the_laws_of_its_operation(name, case):
    operation, function = VERSIONS[name]
    laws.run_law(case, laws.overlay(reference, **{operation: function}), SLOW_LAWS.get(case.name, 5))


def random_qkv(T, past, K, G, d, B=1, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = (B, T, K * G, d), (B, past + T, K, d), (B, past + T, K, d)
    return [rng.standard_normal(shape, dtype=np.float32).astype(dtype) for shape in shapes]


# Lengths around a warp and a tile, groups that do and do not divide a tile, widths of vision and text.
ATTENTION = [
    # T, past, K, G, d, causal, chunk, first
    (1, 0, 1, 1, 8, True, None, 0), (1, 256, 2, 5, 128, True, None, 0), (3, 64, 1, 5, 33, True, 16, 5),
    (31, 1, 1, 2, 16, True, 32, 31), (32, 0, 2, 1, 64, False, None, 0), (33, 31, 1, 3, 8, True, 64, 0),
    (64, 0, 1, 1, 88, False, None, 0), (65, 64, 1, 5, 16, True, 3, 8192), (127, 0, 1, 2, 8, True, 100, 2 ** 40 + 7),
    (129, 0, 1, 1, 128, True, 64, 0), (257, 0, 1, 1, 8, True, None, 0), (2, 257, 1, 3, 96, True, 257, 1),
    (30, 100, 1, 2, 16, True, 110, 0),
]
FUNCTIONS = {"cuda": cuda.grouped_query_attention,
             **{name: f for name, (operation, f) in VERSIONS.items() if operation == "grouped_query_attention"}}


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, size in product(FUNCTIONS, ATTENTION)
                                            if name != "grouped_query_attention_1" or sum(size[:2]) * size[4] < 3000])
def test_attention_at_the_edges(name, size):
    T, past, K, G, d, causal, chunk, first = size
    if name.endswith("_3"):
        if d % 8 == 0:
            assert_bf16_attention(FUNCTIONS[name], *random_qkv(T, past, K, G, d, dtype=ml_dtypes.bfloat16), causal,
                                  chunk, first)
        return
    args = *random_qkv(T, past, K, G, d), causal, chunk, first
    assert_close(FUNCTIONS[name](*args), compute_expected(reference.grouped_query_attention, *args))


def assert_bf16_attention(f, q, k, v, *mask_args):
    """bfloat16 attention is off by no more than its roundings, equation (half-attention).

    The inputs are exact, and sums are float32.  Each weight is rounded before it multiplies a value, which moves the
    mean by BF16_EPS of the mean of |v| at most; and the result once more.
    """
    inputs = [a.astype(np.float32) for a in (q, k, v)]
    truth = compute_expected(reference.grouped_query_attention, *inputs, *mask_args)
    weighted_abs = reference.grouped_query_attention(*(a.astype(np.float64) for a in (q, k, np.abs(v))), *mask_args)
    noise = 2 * max(np.abs(y - truth.value).max() for y in truth.baselines) + 4 * EPS * np.abs(truth.value).max()
    result = f(q, k, v, *mask_args)
    assert result.dtype == q.dtype
    assert_within(result, truth.value, BF16_EPS * (weighted_abs * (1 + BF16_EPS) + np.abs(truth.value)) + noise)


def assert_within(result, truth, bound):
    """Each number is no further from the truth than its bound."""
    ratio = np.abs(result.astype(np.float64) - truth) / bound
    assert (ratio <= 1).all(), f"off by {np.nanmax(ratio):.3g} times what rounding allows"


@pytest.mark.parametrize("seed", range(12))
def test_attention_in_half_precision_is_off_by_its_roundings(seed):
    rng = np.random.default_rng(seed)
    T, past = rng.choice([1, 2, 31, 33, 65, 127]), rng.choice([0, 1, 31, 64])
    K, G, d = rng.integers(1, 3), rng.integers(1, 6), rng.choice([8, 16, 64, 88, 96, 128])
    q, k, v = random_qkv(T, past, K, G, d, rng.integers(1, 3), seed, ml_dtypes.bfloat16)
    causal, first = bool(rng.integers(0, 4)), int(rng.choice([0, 5, 8192]))
    chunk = int(rng.choice([0, 1, 3, 16, 64])) or None
    assert_bf16_attention(VERSIONS["grouped_query_attention_3"][1], q, k, v, causal, chunk, first)


@pytest.mark.parametrize("case", ["large scores", "hidden keys"])
def test_half_precision_attention_sees_only_what_it_may(case):
    """Keys of the future and of other chunks may be anything: the same bits come out.  Large scores do not overflow."""
    q, k, v = random_qkv(65, 31, 1, 2, 64, dtype=ml_dtypes.bfloat16)
    f = VERSIONS["grouped_query_attention_3"][1]
    if case == "large scores":
        assert_bf16_attention(f, (q.astype(np.float32) * 1e3).astype(q.dtype), k, v, True, 32, 0)
        return
    before = f(q, k, v, True, 32, 0)[:, -2]
    k[:, :64], v[:, :64], k[:, -1], v[:, -1] = 7e4, -3e4, 7e4, -3e4
    np.testing.assert_array_equal(f(q, k, v, True, 32, 0)[:, -2], before)


LINEAR = [(1, 8, 8), (2, 264, 72), (31, 64, 128), (128, 8, 136), (129, 200, 8), (5, 392, 264)]


@pytest.mark.parametrize(("N", "I", "O"), LINEAR)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_in_half_precision_is_off_by_its_rounding(N, I, O, transposed, bias):
    """Inputs and products of two are exact, sums float32, and the result is rounded once, equation (half-linear)."""
    rng, half = np.random.default_rng(N + I + O), ml_dtypes.bfloat16
    x = rng.standard_normal((N, I)).astype(half)
    w = rng.standard_normal((O, I)).astype(half).T if transposed else rng.standard_normal((I, O)).astype(half)
    b = rng.standard_normal(O).astype(half) if bias else None
    result = VERSIONS["linear_3"][1](x, w, b)
    assert result.dtype == half
    args = [None if a is None else a.astype(np.float64) for a in (x, w, b)]
    truth, abs_sums = reference.linear(*args), np.abs(args[0]) @ np.abs(args[1])
    assert_within(result, truth, BF16_EPS * np.abs(truth) + (I + 1) * EPS * (abs_sums + (0 if b is None
                                                                                         else np.abs(args[2]))))


SIZES = [(1, 33, 31), (4, 1, 33), (5, 65, 129), (17, 31, 1), (64, 257, 65), (65, 16, 64)]


@pytest.mark.parametrize(("N", "I", "O"), SIZES)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_at_the_edges(N, I, O, dtype, transposed):
    rng = np.random.default_rng(N * I + O)
    x, b = rng.standard_normal((N, I), dtype=np.float32), rng.standard_normal(O, dtype=np.float32)
    w = (rng.standard_normal((O, I)).T if transposed else rng.standard_normal((I, O))).astype(dtype, order="K")
    assert_close(cuda.linear(x, w, b), compute_expected(reference.linear, x, w.astype(np.float32), b))


@pytest.mark.parametrize("N", [1, 3, 16, 17, 65])
@pytest.mark.parametrize(("bits", "group"), [(8, 32), (8, 128), (4, 32), (4, 128)])
@pytest.mark.parametrize("scales", [np.float32, ml_dtypes.bfloat16])
def test_quantized_weights_are_multiplied_as_what_they_stand_for(N, bits, group, scales):
    """As exactly as float32 weights: nothing but the weights is rounded."""
    rng = np.random.default_rng(N + bits)
    x = rng.standard_normal((N, 3 * group), dtype=np.float32)
    w = reference.quantize(rng.standard_normal((3 * group, 48), dtype=np.float32), bits, group, scales)
    assert_close(cuda.linear(x, w), compute_expected(reference.linear, x, reference.dequantize(w)))


def random_routing(N, C, E, D, F, choose, seed=0):
    rng = np.random.default_rng(seed)
    expert = rng.permuted(np.tile(np.arange(E), (N, 1)), axis=1)[:, :C]
    if choose == "one":
        expert[:] = np.arange(C) + E - C
    x, gate = rng.standard_normal((N, D), dtype=np.float32), rng.uniform(0.1, 1, (N, C)).astype(np.float32)
    weights = (rng.standard_normal((E, *s), dtype=np.float32) * s[0] ** -0.5 for s in [(D, F), (D, F), (F, D)])
    return x, expert, gate, *weights


def stored_as(weight_format, weights):
    """Weights of experts as a checkpoint may hold them, and the float32 values that these stand for."""
    if weight_format == "transposed":
        weights = [np.ascontiguousarray(w.swapaxes(1, 2)).swapaxes(1, 2) for w in weights]
    elif weight_format == "bf16":
        weights = [w.astype(ml_dtypes.bfloat16) for w in weights]
    elif weight_format != "plain":
        weights = [reference.quantize(w, int(weight_format[3:]), 32) for w in weights]
        return weights, [reference.dequantize(w) for w in weights]
    return weights, [w.astype(np.float32) for w in weights]


@pytest.mark.parametrize(("weight_format", "choose"), [("plain", "any"), ("plain", "one"), ("transposed", "any"),
                                                       ("bf16", "any"), ("int8", "any"), ("int4", "one")])
@pytest.mark.parametrize(("N", "C", "E"), [(1, 1, 4), (7, 2, 3), (65, 1, 16), (130, 3, 5), (129, 1, 1)])
def test_experts_at_the_edges(N, C, E, choose, weight_format):
    """More rows of an expert than a tile has, none, and one; weights in every form."""
    x, expert, gate, *weights = random_routing(N, C, E, 64, 96, choose)
    weights, float_weights = stored_as(weight_format, weights)
    result = cuda.experts(x, expert, gate, *weights)
    assert_close(result, compute_expected(reference.experts, x, expert, gate, *float_weights))
    if weight_format == "plain":
        np.testing.assert_array_equal(cuda.experts(x, expert, gate, *weights), result)      # the same bits every time


def test_the_backend_moves_arrays_itself():
    """By its own functions, and not by the reference's, whose names it imports first."""
    assert (cuda.asarray, cuda.asnumpy) == (device.asarray, device.asnumpy)


def test_what_they_were_not_made_for_goes_to_the_reference():
    q, k, v = random_qkv(5, 0, 1, 2, 20, dtype=ml_dtypes.bfloat16)
    assert VERSIONS["grouped_query_attention_3"][1](q, k,
                                                    v).dtype == q.dtype       # rows of 20 are not copied 8 at a time
    q, k, v = random_qkv(20, 0, 1, 1, 130)
    np.testing.assert_array_equal(cuda.grouped_query_attention(q, k, v), reference.grouped_query_attention(q, k, v))
    x, w = np.ones((3, 5), np.float32), np.ones((4, 2), np.float32)
    for linear in (cuda.linear, *(VERSIONS[f"linear_{n}"][1] for n in (1, 2, 3))):
        with pytest.raises(ValueError, match="matmul"):
            linear(x, w)
        assert linear(x.astype(np.float64), np.ones((5, 2))).dtype == np.float64
