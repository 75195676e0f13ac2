"""The numbered kernels, from slow to fast: each obeys every law of its operation."""

import numpy as np
import pytest

from tinyscout import laws, reference
from tinyscout.bench import operations

c = pytest.importorskip("tinyscout.kernels.c")
VERSIONS = {name: (operation, kernel) for operation, found in c.versions().items() for name, kernel in found.items()}
SLOW = {"linear: a long sum does not drift": 5}          # its sums have 5120 terms
CASES = [(name, case) for name, (operation, _) in VERSIONS.items() for case in laws.CASES
         if operation in case.operations]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case.name}".replace(" ", "_") for name, case in CASES])
def test_a_version_obeys_the_laws_of_its_operation(name, case):
    operation, function = VERSIONS[name]
    laws.run_law(case, laws.overlay(reference, **{operation: function}), SLOW.get(case.name, 25))


@pytest.mark.parametrize("name", VERSIONS)
def test_a_version_is_its_own_kernel(name, monkeypatch):
    """Not the reference, and not another version: it calls the C function of its name, and that writes every output."""
    operation, function = VERSIONS[name]
    monkeypatch.setattr(reference, operation, None)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in [(5, 33), (33, 47)])
    args = (x, w) if operation == "linear" else (rng.standard_normal((1, 7, 4, 8), dtype=np.float32),) * 3
    result = function(*args)
    expected = x @ w if operation == "linear" else getattr(c, operation)(*args)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_the_benchmark_measures_them():
    """Next to the kernels that are used, and on a matrix that they read in place."""
    report = operations.measure(operations.TINY, ("c",), 1, ("float32",))
    measured = {(row["operation"], row["name"]) for row in report["samples"]}
    assert {("linear float32", f"c linear_{n}") for n in (1, 2, 3)} <= measured
    assert ("attention prefill", "c grouped_query_attention_1") in measured


def test_what_they_were_not_made_for_goes_to_the_reference():
    """Quantized weights, doubles and shapes that do not fit."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((32, 16), dtype=np.float32)
    x = rng.standard_normal((2, 32), dtype=np.float32)
    for name in ("linear_1", "linear_2", "linear_3"):
        linear = VERSIONS[name][1]
        quantized = reference.quantize(w)
        np.testing.assert_array_equal(linear(x, quantized), reference.linear(x, quantized))
        assert linear(x.astype(np.float64), w).dtype == np.float64
        with pytest.raises(ValueError, match="matmul"):
            linear(x[:, :5], w)
