"""The CUDA column's gradients at the sizes where tiles, blocks and chunks end, and where a long sum would drift."""
import importlib.util
import re

import ml_dtypes
import numpy as np
import pytest

if importlib.util.find_spec("nvidia") is None:
    pytest.skip("CUDA kernels need NVIDIA's compiler: pip install '.[cuda]'", allow_module_level=True)

from test_cuda_matrix import ATTENTION, random_qkv, random_routing, stored_as

from tinyscout import reference
from tinyscout.kernels import cuda, nvrtc
from tinyscout.laws.universal import as_tuple, assert_close, compute_expected


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def assert_matches(name, *args):
    """Every result is no further from the truth than equation (tolerance) allows."""
    for n, result in enumerate(as_tuple(getattr(cuda, name)(*args))):
        assert_close(result, compute_expected(lambda *args, n=n: as_tuple(getattr(reference, name)(*args))[n], *args))


MANY_TILES = [                      # more tiles of keys, and of queries, than are accumulated in registers
    # T, past, K, G, d, causal, chunk, first
    (3, 600, 1, 2, 8, True, None, 0), (150, 0, 1, 4, 8, False, None, 0), (40, 472, 1, 1, 4, False, None, 0),
]


def mark_slow(values, positions):
    """Parameters of a test, of which those at some positions take the simulator seconds."""
    return [pytest.param(value, marks=[pytest.mark.slow] * (n in positions)) for n, value in enumerate(values)]


@pytest.mark.parametrize("size", mark_slow(ATTENTION + MANY_TILES, (1, 10, 14)))
def test_attention_at_the_edges(size):
    T, past, K, G, d, causal, chunk, first = size
    q, k, v = random_qkv(T, past, K, G, d)
    assert_matches("grouped_query_attention_backward", normal(*q.shape, seed=1), q, k, v, causal, chunk, first)


@pytest.mark.parametrize("chunk", [None, 32])
def test_only_what_was_seen_learns(chunk):
    """Only query 20 of 31, at position 84, has a gradient: those of later keys and of earlier chunks stay zero, and
    whatever these keys hold, the other gradients are the same bits."""
    q, k, v = random_qkv(31, 64, 1, 2, 8)
    dy = np.zeros_like(q)
    dy[:, 20] = normal(2, 8)
    hidden = (np.arange(95) > 84) | (np.arange(95) < (64 if chunk else 0))
    before = cuda.grouped_query_attention_backward(dy, q, k, v, True, chunk, 0)
    for gradient in before[1:]:
        np.testing.assert_array_equal(np.abs(gradient).max(axis=(0, 2, 3)) == 0, hidden)
    k[:, hidden], v[:, hidden] = 7e4, -3e4
    after = cuda.grouped_query_attention_backward(dy, q, k, v, True, chunk, 0)
    np.testing.assert_array_equal(after[0][:, 20], before[0][:, 20])
    for gradient, gradient_before in zip(after[1:], before[1:], strict=True):
        np.testing.assert_array_equal(gradient, gradient_before)


@pytest.mark.parametrize("seed", range(20))
def test_little_is_left_where_one_number_has_nearly_all_the_weight(seed):
    """One row, whose result is a difference of nearly equal numbers."""
    x = normal(1, 64, seed=seed)
    x[0, seed] += 12
    assert_matches("softmax_backward", normal(1, 64, seed=seed + 100), x)


@pytest.mark.parametrize(("N", "I", "O"), [(1, 33, 31), (5, 65, 129), (17, 31, 1), (257, 1, 65), (300, 64, 64)])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("transposed", [False, True])
def test_linear_at_the_edges(N, I, O, dtype, transposed):
    w = (normal(O, I).T if transposed else normal(I, O)).astype(dtype, order="K")
    dy, x, bias = normal(N, O, seed=1), normal(N, I, seed=2), normal(O, seed=3)
    args = dy, x, w.astype(np.float32), bias
    for n, gradient in enumerate(cuda.linear_backward(dy, x, w, bias)):
        assert_close(gradient, compute_expected(lambda *args, n=n: reference.linear_backward(*args)[n], *args))


@pytest.mark.parametrize("weight_format", ["plain", "transposed", "bf16"])
@pytest.mark.parametrize(("N", "C", "E", "choose"), [(1, 1, 4, "any"), (65, 1, 16, "any"), (130, 3, 5, "any"),
                                                     (129, 1, 1, "any"), (70, 2, 3, "one")])
def test_experts_at_the_edges(N, C, E, choose, weight_format):
    """More rows of an expert than a tile has, none, and one."""
    x, expert, gate, *weights = random_routing(N, C, E, 33, 65, choose)
    weights, float_weights = stored_as(weight_format, weights)
    dy = normal(*x.shape, seed=1)
    for n, gradient in enumerate(cuda.experts_backward(dy, x, expert, gate, *weights)):
        assert_close(gradient, compute_expected(lambda *args, n=n: reference.experts_backward(*args)[n], dy, x, expert,
                                                gate, *float_weights))


def positive(*shape, seed=0):
    return np.abs(normal(*shape, seed=seed))


LONG_SUMS = {                       # sums over thousands of rows of one sign: nothing cancels, so a drift shows
    "rms_norm_backward": lambda N: (positive(N, 33), positive(N, 33, seed=1), normal(33)),
    "layer_norm_backward": lambda N: (positive(N, 2), np.tile(np.float32([1, 2]), (N, 1)), normal(2), normal(2)),
    "linear_backward": lambda N: (positive(N, 3), positive(N, 2, seed=1), normal(2, 3), normal(3)),
    "embed_backward": lambda N: (positive(N, 3), np.zeros(N, int), normal(2, 3)),
    "experts_backward": lambda N: (positive(N, 2), positive(N, 2, seed=1), np.zeros((N, 1), int),
                                   positive(N, 1, seed=2), positive(1, 2, 3), positive(1, 2, 3, seed=1),
                                   positive(1, 3, 2)),
    "grouped_query_attention_backward": lambda N: (*(positive(1, 33, N // 33, 2, seed=s) for s in (1, 2)),
                                                   *(positive(1, 33, 1, 2, seed=s) for s in (3, 4)), False),
}


@pytest.mark.parametrize("name", mark_slow(LONG_SUMS, (4, 5)))
def test_long_sums_do_not_drift(name):
    assert_matches(name, *LONG_SUMS[name](4097))


@pytest.mark.parametrize("file", sorted(path.name for path in nvrtc.SOURCE_DIR.glob("*.cu")))
def test_no_sum_depends_on_the_order_of_blocks(file):
    """No block adds to memory that another block adds to: gradients are the same every time."""
    assert not re.search(r"\b(atom|red)\.global\.\S*add\S*f", nvrtc.compile_ptx(nvrtc.SOURCE_DIR / file))
