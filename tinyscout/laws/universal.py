"""The laws that every operation obeys, whichever backend computes it."""
import contextlib
import inspect
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from tinyscout import reference

EPS = float(np.finfo(np.float32).eps)


def as_tuple(result):
    """What an operation returned, as a tuple."""
    return result if isinstance(result, tuple) else (result,)


def map_float_arrays(f, value):
    """f of every float32 array in a value: an array, a tree of weights, or a tuple or list of such; the rest stays."""
    if isinstance(value, tuple | list):
        parts = [map_float_arrays(f, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return f(value) if getattr(value, "dtype", None) == np.float32 else value


def as_float64(args):
    """The same arguments in float64."""
    return map_float_arrays(lambda a: a.astype(np.float64), args)


def perturb(args, seed):
    """The same arguments in float64, each number moved up or down by one rounding of float32."""
    rng = np.random.default_rng(seed)
    return map_float_arrays(lambda a: a * (1 + EPS * rng.choice([-1.0, 1.0], a.shape)), args)


class Expected(NamedTuple):
    """What a result should be, and how far from it float32 may end up."""

    value: Any          # in float64
    baselines: list    # the same in float32, and in float64 for inputs that were off by one rounding

    def __getitem__(self, index):
        return Expected(self.value[index], [y[index] for y in self.baselines])


def compute_expected(f, *args):
    """The truth about f(*args), where f is written with the reference.

    A careful kernel's error is that of the float32 reference, or of rounded inputs: one run of either may be lucky,
    four are not.
    """
    return Expected(f(*as_float64(args)), [f(*args), *(f(*perturb(args, seed)) for seed in range(3))])


def compute_by_definition(f, definition, *args):
    """judged(f, *args), after a check in float64 that f is what its definition says, to all but the last digits."""
    truth = compute_expected(f, *args)
    expected = definition(*as_float64(args))
    np.testing.assert_allclose(truth.value, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max(initial=0))
    return truth


def assert_close(fast, truth):
    """fast is no further from the truth than equation (tolerance) allows: twice the farthest yardstick.

    fast array, truth Truth.  Raises AssertionError.
    """
    fast, value = np.asarray(fast, np.float64), np.asarray(truth.value)
    finite = np.isfinite(value)
    assert np.array_equal(fast[~finite], value[~finite]), "infinities stand elsewhere"
    assert np.isfinite(fast[finite]).all(), "not finite: an element that was never written, or an overflow"
    if finite.any():
        error, *own = (np.abs(np.asarray(a)[finite] - value[finite]).max() for a in (fast, *truth.baselines))
        bound = 2 * max(own) + 4 * EPS * np.abs(value[finite]).max()
        assert error <= bound, f"off by {error:.3g}, allowed {bound:.3g} (float32 NumPy is off by {own[0]:.3g})"


@contextlib.contextmanager
def poison_outputs():
    """np.empty and np.empty_like full of NaN, so that an element nobody writes shows."""
    def poison(make):
        def made(*args, **kwargs):
            array = make(*args, **kwargs)
            if array.dtype.kind == "f":
                array.fill(np.nan)
            return array
        return made
    with mock.patch("numpy.empty", poison(np.empty)), mock.patch("numpy.empty_like", poison(np.empty_like)):
        yield


def same_signature(ops, name):
    """The names, order and defaults of the arguments are the reference's."""
    mine, theirs = (inspect.signature(getattr(module, name)) for module in (ops, reference))
    assert mine == theirs, f"{name}{mine} should be {name}{theirs}"


def same_as_reference(ops, name, *args):
    """The reference's result, shape and dtype; inputs untouched; every element of the output written."""
    plain = getattr(reference, name)
    expected = as_tuple(plain(*args))
    handed = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    with poison_outputs():
        given = as_tuple(getattr(ops, name)(*(ops.asarray(a) if isinstance(a, np.ndarray) else a for a in handed)))
    assert len(given) == len(expected), f"{len(given)} results should be {len(expected)}"
    for n, (fast, like) in enumerate(zip(given, expected, strict=True)):
        if like is None:
            assert fast is None, "there is nothing to give here"
            continue
        fast = ops.asnumpy(fast) if isinstance(like, np.ndarray) else fast
        assert np.shape(fast) == np.shape(like), f"shape {np.shape(fast)} should be {np.shape(like)}"
        assert np.asarray(fast).dtype == np.asarray(like).dtype, f"{np.asarray(fast).dtype} should be {like.dtype}"
        if np.asarray(like).dtype.kind == "f":
            assert_close(fast, compute_expected(lambda *args, n=n: as_tuple(plain(*args))[n], *args))
        else:
            assert np.array_equal(fast, like), f"{fast} should be {like}"
    for argument, kept in zip(handed, args, strict=True):
        if isinstance(kept, np.ndarray):
            assert np.array_equal(argument, kept), f"{name} wrote on its input"
