"""Laws of gradients: each f_backward is the derivative of its f, on every backend."""
import inspect
from functools import partial

import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import random_normal, rngs
from tinyscout.laws.universal import as_float64, as_tuple


def is_real(value):
    """True if the value is an array of floats."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def backward_inputs(name, inputs):
    """Strategy of f_backward's arguments: the gradient of f's result, then the arguments of f without a dtype.

    name of f, inputs strategy of its arguments  ->  strategy of `(dy, *arguments)`
    """
    arity = len(inspect.signature(getattr(reference, f"{name}_backward")).parameters) - 1

    @st.composite
    def arguments(draw):
        args, rng = draw(inputs)[:arity], draw(rngs())
        [y] = [y for y in as_tuple(getattr(reference, name)(*args)) if isinstance(y, float) or is_real(y)]
        dy = float(rng.normal()) if isinstance(y, float) else random_normal(rng, *y.shape)
        return dy, *args

    return arguments()


def with_gradients(args, gradients):
    """Pair each argument with its gradient: arrays of floats have one, in order; others have None."""
    remaining = iter(gradients)
    return [(arg, next(remaining, None) if is_real(arg) or arg is None else None) for arg in args]


def backward_is_the_derivative(ops, name, dy, *args):
    """The gradient predicts how f changes in a small random step, by central differences in float64.

    Steps h and 2h show the error of a difference: its truncation error is four times as large at 2h, and the rest is
    rounding in f.
    """
    f, (dy, *args) = getattr(reference, name.removesuffix("_backward")), as_float64((dy, *args))
    if "dtype" in inspect.signature(f).parameters:
        f = partial(f, dtype="float64")
    pairs = with_gradients(args, as_tuple(getattr(ops, name)(*(to_backend(a, ops) for a in (dy, *args)))))
    rng = np.random.default_rng(0)
    direction = [None if g is None else rng.normal(size=a.shape) * np.abs(a).max(initial=0) for a, g in pairs]
    slope = sum(np.sum(ops.asnumpy(g) * d) for (_, g), d in zip(pairs, direction, strict=True) if g is not None)

    def loss(step):
        stepped = [a if d is None else a + step * d for a, d in zip(args, direction, strict=True)]
        [y] = [y for y in as_tuple(f(*stepped)) if isinstance(y, float) or is_real(y)]
        return np.sum(dy * y), np.sum(np.abs(dy) * (1 + np.abs(y)))     # the second is the scale of rounding errors

    h = 1e-5
    (above, size), (below, _), (far_above, _), (far_below, _) = map(loss, (h, -h, 2 * h, -2 * h))
    difference, coarse = (above - below) / (2 * h), (far_above - far_below) / (4 * h)
    slack = abs(difference - coarse) + 64 * np.finfo(np.float64).eps * size / h
    assert abs(slope - difference) <= slack, (f"f changes by {difference:.9g}, but its gradient is {slope:.9g} "
                                              f"(± {slack:.1g})")


def to_backend(value, ops):
    """Move an argument to the backend's device if it is an array."""
    return ops.asarray(value) if isinstance(value, np.ndarray) else value
