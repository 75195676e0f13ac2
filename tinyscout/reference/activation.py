"""Activations: what makes two matrices in a row more than one matrix."""
import math

import numpy as np


def sigmoid(x):
    """A gate between shut and open, equation (sigmoid).

    x (...)  ->  (...) in (0, 1)
    """
    e = np.exp(-np.abs(x))                      # never overflows
    return np.where(x >= 0, 1, e).astype(x.dtype, copy=False) / (1 + e)


def sigmoid_backward(dy, x):
    """Steepest where the gate is half open, equation (sigmoid-backward).

    dy and x (...)  ->  dx (...)
    """
    y = sigmoid(x)
    return dy * y * (1 - y)


def swiglu(gate, up):
    """silu(gate) * up: one branch opens a gate for the other, equation (swiglu).

    gate and up (..., F)  ->  (..., F)
    """
    return gate * sigmoid(gate) * up


def swiglu_backward(dy, gate, up):
    """Both branches, each weighed by the other, equation (swiglu-backward).

    dy, gate and up (..., F)  ->  dgate, dup (..., F)
    """
    s = sigmoid(gate)
    return dy * up * s * (1 + gate * (1 - s)), dy * gate * s


def gelu(x):
    """x times the chance that a normal variable is smaller than x, equation (gelu).

    x (...)  ->  (...).  The exact form, not the tanh approximation.
    """
    tail = erfc(np.abs(x) * math.sqrt(0.5)) / 2             # the chance of being beyond |x|
    return x * np.where(x < 0, tail, 1 - tail)


def gelu_backward(dy, x):
    """The chance, and by how much it grows, equation (gelu-backward).

    dy and x (...)  ->  dx (...)
    """
    tail = erfc(np.abs(x) * math.sqrt(0.5)) / 2
    density = np.exp(x * x / -2) * (1 / math.sqrt(2 * math.pi))
    return dy * (np.where(x < 0, tail, 1 - tail) + x * density)


ERFC_MAX = 9.0                                  # erfc(9) = 4e-37: nothing is left beyond


def _fit_erfc(degree=20):
    """Chebyshev coefficients of log(erfc(x)) + x*x - log(t) in t = 2 / (2 + x), for x from 0 to ERFC_MAX.

    NumPy has no erf; the standard library's takes one number at a time, which is enough for a fit.
    """
    def smooth(u):                              # u from -1 to 1 maps to t from its minimum to 1
        t = (2 / (2 + ERFC_MAX) * (1 - u) + (1 + u)) / 2
        return np.array([math.log(math.erfc(2 / s - 2)) + (2 / s - 2) ** 2 - math.log(s) for s in t])
    return np.polynomial.chebyshev.chebinterpolate(smooth, degree).tolist()     # type: ignore[type-var]


ERFC_COEFFS = _fit_erfc()


def erfc(x):
    """The complementary error function for x >= 0, off by less than 2e-15 in float64.

    x (...), not negative  ->  (...)
    """
    x = np.minimum(x, ERFC_MAX)
    t, t_min = 2 / (2 + x), 2 / (2 + ERFC_MAX)
    u = (2 * t - (1 + t_min)) / (1 - t_min)                 # t from t_min to 1 maps to u from -1 to 1
    b_next, b = 0.0, 0.0 * u
    for c in ERFC_COEFFS[:0:-1]:                # Clenshaw's recurrence, from the highest coefficient down
        b_next, b = b, 2 * u * b - b_next + c
    return t * np.exp(u * b - b_next + ERFC_COEFFS[0] - x * x)
