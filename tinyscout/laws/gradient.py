"""What must hold for gradients: each f_backward is the derivative of its f, on whichever backend."""
import inspect
from functools import partial

import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import random_normal, rngs
from tinyscout.laws.universal import as_float64, as_tuple


def is_real(value):
    """Is it an array of real numbers?"""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def backward_inputs(name, inputs):
    """From the inputs of f those of f_backward: before them what comes down to f's result, and without f's dtype.

    name of f, inputs strategy of its arguments  ->  strategy of (dy, *arguments)
    """
    takes = len(inspect.signature(getattr(reference, f"{name}_backward")).parameters) - 1

    @st.composite
    def drawn(draw):
        args, rng = draw(inputs)[:takes], draw(rngs())
        [y] = [y for y in as_tuple(getattr(reference, name)(*args)) if isinstance(y, float) or is_real(y)]
        dy = float(rng.normal()) if isinstance(y, float) else random_normal(rng, *y.shape)
        return dy, *args

    return drawn()


def with_gradients(args, gradients):
    """Each argument with its gradient: they go to the arrays of real numbers, in order; others have None."""
    rest = iter(gradients)
    return [(arg, next(rest, None) if is_real(arg) or arg is None else None) for arg in args]


def backward_is_the_derivative(ops, name, dy, *args):
    """A small step in a random direction changes f as the gradient says: central differences in float64.

    Two lengths of step say how far a difference can be trusted: from one to its double the error of leaving out higher
    powers grows fourfold, and what is left is the rounding of f.
    """
    f, (dy, *args) = getattr(reference, name.removesuffix("_backward")), as_float64((dy, *args))
    if "dtype" in inspect.signature(f).parameters:
        f = partial(f, dtype="float64")
    move = to_backend(ops)
    pairs = with_gradients(args, as_tuple(getattr(ops, name)(*map(move, (dy, *args)))))
    rng = np.random.default_rng(0)
    along = [None if g is None else rng.normal(size=a.shape) * np.abs(a).max(initial=0) for a, g in pairs]
    claimed = sum(np.sum(ops.asnumpy(g) * d) for (_, g), d in zip(pairs, along, strict=True) if g is not None)

    def loss(step):
        moved = [a if d is None else a + step * d for a, d in zip(args, along, strict=True)]
        [y] = [y for y in as_tuple(f(*moved)) if isinstance(y, float) or is_real(y)]
        return np.sum(dy * y), np.sum(np.abs(dy) * (1 + np.abs(y)))     # the second is what rounding is measured by

    h = 1e-5
    (above, size), (below, _), (far_above, _), (far_below, _) = map(loss, (h, -h, 2 * h, -2 * h))
    near, far = (above - below) / (2 * h), (far_above - far_below) / (4 * h)
    slack = abs(near - far) + 64 * np.finfo(np.float64).eps * size / h
    assert abs(claimed - near) <= slack, f"f changes by {near:.9g}, its gradient says {claimed:.9g} (± {slack:.1g})"


def to_backend(ops):
    """Move an argument to where the backend computes, if it is an array."""
    return lambda value: ops.asarray(value) if isinstance(value, np.ndarray) else value
