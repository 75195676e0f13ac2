"""Laws of every operation, on every backend."""
import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from tinyscout import reference

EPS = float(np.finfo(np.float32).eps)


def as_tuple(result):
    """Return the result of an operation as a tuple."""
    return result if isinstance(result, tuple) else (result,)


def map_float_arrays(f, value):
    """Apply f to every float32 array in a value: an array, a tree of weights, or a tuple or list of such."""
    if isinstance(value, tuple | list):
        items = [map_float_arrays(f, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return f(value) if getattr(value, "dtype", None) == np.float32 else value


def as_float64(args):
    """The same arguments in float64."""
    return map_float_arrays(lambda a: a.astype(np.float64), args)


def perturb(args, seed):
    """The same arguments in float64, each number moved up or down by one rounding error of float32."""
    rng = np.random.default_rng(seed)
    return map_float_arrays(lambda a: a * (1 + EPS * rng.choice([-1.0, 1.0], a.shape)), args)


@dataclass(frozen=True)
class Expected:
    """The true result, and results that show how large the error of float32 may be."""

    value: Any                  # in float64
    baselines: list             # the same in float32, and in float64 for inputs that are off by one rounding error

    def __getitem__(self, index: Any) -> "Expected":
        return Expected(self.value[index], [y[index] for y in self.baselines])


def compute_expected(f: Callable, *args: Any) -> Expected:
    """Compute the true value of `f(*args)` and its baselines; f uses the reference.

    A careful kernel's error is that of the float32 reference, or of rounded inputs.  One run of either may be close by
    chance, but not all four.
    """
    return Expected(f(*as_float64(args)), [f(*args), *(f(*perturb(args, seed)) for seed in range(3))])


def compute_by_definition(f: Callable, definition: Callable, *args: Any) -> Expected:
    """Return `compute_expected(f, *args)` after checking in float64 that f equals its definition, up to rounding."""
    truth = compute_expected(f, *args)
    defined = definition(*as_float64(args))
    np.testing.assert_allclose(truth.value, defined, rtol=1e-9, atol=1e-9 * np.abs(defined).max(initial=0))
    return truth


def assert_close(fast: Any, truth: Expected) -> None:
    """Assert that `fast` is as close to the truth as equation (tolerance) demands: twice the worst baseline's error.

    fast array or float, truth Expected.  Raises AssertionError.
    """
    fast, value = np.asarray(fast, np.float64), np.asarray(truth.value)
    finite = np.isfinite(value)
    assert np.array_equal(fast[~finite], value[~finite]), "infinities are at other positions"
    assert np.isfinite(fast[finite]).all(), "not finite: an element that was never written, or an overflow"
    if finite.any():
        error = max_error(fast, value, finite)
        baseline_errors = [max_error(baseline, value, finite) for baseline in truth.baselines]
        bound = 2 * max(baseline_errors) + 4 * EPS * np.abs(value[finite]).max()
        assert error <= bound, f"off by {error:.3g}, allowed {bound:.3g} " \
                               f"(float32 NumPy is off by {baseline_errors[0]:.3g})"


def max_error(result, value, where):
    """The largest absolute difference among the elements that a mask selects."""
    return np.abs(np.asarray(result)[where] - value[where]).max()


@contextlib.contextmanager
def poison_outputs():
    """Fill np.empty and np.empty_like with NaN, so that an element that is never written shows."""
    def poison(make):
        def make_poisoned(*args, **kwargs):
            array = make(*args, **kwargs)
            if array.dtype.kind == "f":
                array.fill(np.nan)
            return array
        return make_poisoned
    with mock.patch("numpy.empty", poison(np.empty)), mock.patch("numpy.empty_like", poison(np.empty_like)):
        yield


def same_signature(ops: Any, name: str) -> None:
    """The names, order and defaults of the arguments equal the reference's."""
    actual, expected = (inspect.signature(getattr(module, name)) for module in (ops, reference))
    assert actual == expected, f"{name}{actual} should be {name}{expected}"


def same_as_reference(ops: Any, name: str, *args: Any) -> None:
    """Result, shape and dtype equal the reference's; inputs are unchanged; every element of the output is written."""
    operation = getattr(reference, name)
    expected = as_tuple(operation(*args))
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    with poison_outputs():
        results = as_tuple(getattr(ops, name)(*(ops.asarray(a) if isinstance(a, np.ndarray) else a for a in copies)))
    assert len(results) == len(expected), f"{len(results)} results should be {len(expected)}"
    for n, (fast, like) in enumerate(zip(results, expected, strict=True)):
        if like is None:
            assert fast is None, "the result should be None"
            continue
        fast = ops.asnumpy(fast) if isinstance(like, np.ndarray) else fast
        assert np.shape(fast) == np.shape(like), f"shape {np.shape(fast)} should be {np.shape(like)}"
        assert np.asarray(fast).dtype == np.asarray(like).dtype, f"{np.asarray(fast).dtype} should be {like.dtype}"
        if np.asarray(like).dtype.kind == "f":
            assert_close(fast, compute_expected(lambda *args, n=n: as_tuple(operation(*args))[n], *args))
        else:
            assert np.array_equal(fast, like), f"{fast} should be {like}"
    for copy, original in zip(copies, args, strict=True):
        if isinstance(original, np.ndarray):
            assert np.array_equal(copy, original), f"{name} changed its input"
