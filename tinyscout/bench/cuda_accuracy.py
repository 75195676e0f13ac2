"""Error bounds of the CUDA benchmark: some rows of each result are compared with the reference in float64."""
from typing import NamedTuple

import numpy as np

from tinyscout import reference
from tinyscout.bench.operations import Case
from tinyscout.reference import to_dense
from tinyscout.reference.quantize import take

EPS = float(np.finfo(np.float32).eps)
BF16_EPS = 2.0 ** -8                # largest relative error of rounding to bfloat16
CHECKED_ROWS = 8                    # rows of each result that are compared with the reference
TOKEN_INPUTS = {"apply_rope": 3, "experts": 3, "swiglu": 2}     # number of leading inputs with a row per token (1)


def select_tokens(a, rows):
    """Select rows along T of an array (T, ...) or (B, T, H, d)."""
    return a[rows] if a.ndim < 3 else a[:, rows]


def reference_of_rows(case, rows):
    """The reference function that computes these rows of the result  ->  function, its inputs in float32"""
    function, n_token_inputs = getattr(reference, case.operation), TOKEN_INPUTS.get(case.operation, 1)
    if case.operation == "grouped_query_attention":
        q, k, v = (to_dense(a, np.float32) for a in case.inputs)
        ends = k.shape[1] - q.shape[1] + 1 + rows

        def attend(q, k, v):
            return np.concatenate([function(q[:, [n]], k[:, :end], v[:, :end]) for n, end in enumerate(ends)], 1)
        return attend, (q[:, rows], k, v)
    token_inputs = [select_tokens(a, rows) for a in case.inputs[:n_token_inputs]]
    weights = case.inputs[n_token_inputs:]
    if case.operation == "experts":         # all experts are equal: compute with the first
        token_inputs[1], weights = token_inputs[1] * 0, [take(w, np.s_[:1]) for w in weights]
    return function, [a if a.dtype.kind == "i" else to_dense(a, np.float32) for a in token_inputs] + [
        to_dense(w, np.float32) for w in weights]


def float32_error(f, inputs, value):
    """The largest error of the reference in float32, also for inputs perturbed by one rounding error  ->  float"""
    rng, results = np.random.default_rng(0), [f(*inputs)]
    for _ in range(3):
        results.append(f(*(a if a.dtype.kind == "i" else a * (1 + EPS * rng.choice([-1.0, 1.0], a.shape))
                           for a in inputs)))
    if f is reference.linear:           # also as a plain sum, since an external one may add up like this
        results.append(sum(inputs[0][:, [i]] * w for i, w in enumerate(inputs[1])))
    return max(np.abs(result - value).max() for result in results)


class Expected(NamedTuple):
    """Expected values of some rows of a result, with the error bound of each element."""

    rows: np.ndarray        # (n,) int
    value: np.ndarray       # float64
    bound: np.ndarray | float


def expected_rows(case: Case) -> Expected:
    """Expected rows, with the bound of equation (tolerance), or (half-linear) and (half-attention) in bfloat16."""
    x = case.inputs[0]
    tokens = x.shape[0 if x.ndim < 3 else 1]
    rows = np.unique(np.linspace(0, tokens - 1, CHECKED_ROWS).astype(int))
    f, inputs = reference_of_rows(case, rows)
    value = f(*(a if a.dtype.kind == "i" else a.astype(np.float64) for a in inputs))
    bound = 2 * float32_error(f, inputs, value) + 4 * EPS * np.abs(value).max()
    if x.dtype.name == "bfloat16" and case.operation == "linear":
        magnitudes, w = (np.abs(a) for a in inputs)
        bound = BF16_EPS * np.abs(value) + (len(w) + 1) * EPS * (magnitudes @ w)
    elif x.dtype.name == "bfloat16":
        q, k, v = inputs
        bound = bound + BF16_EPS * ((1 + BF16_EPS) * f(q, k, np.abs(v)) + np.abs(value))
    return Expected(rows, value, bound)


def error_over_bound(result: np.ndarray, expected: Expected) -> float:
    """The largest error of a result divided by its bound; up to 1, the result is correct."""
    error = np.abs(select_tokens(result, expected.rows).astype(np.float64) - expected.value) / expected.bound
    return float(np.where(np.isfinite(error), error, np.inf).max())
