"""Activation functions: the nonlinearities between two matrix products."""
import math

import numpy as np


def sigmoid(x):
    """Sigmoid 1 / (1 + exp(-x)), equation (sigmoid).

    x (...)  ->  (...) in (0, 1)
    """
    e = np.exp(-np.abs(x))                      # never overflows
    return np.where(x >= 0, 1, e).astype(x.dtype, copy=False) / (1 + e)


def sigmoid_backward(dy, x):
    """Gradient of sigmoid: dy y (1 - y), equation (sigmoid-backward).

    dy and x (...)  ->  dx (...)
    """
    y = sigmoid(x)
    return dy * y * (1 - y)


def swiglu(gate, up):
    """SwiGLU of two branches: silu(gate) * up, equation (swiglu).

    gate and up (..., F)  ->  (..., F)
    """
    return gate * sigmoid(gate) * up


def swiglu_backward(dy, gate, up):
    """Gradient of swiglu with respect to both branches, equation (swiglu-backward).

    dy, gate and up (..., F)  ->  dgate, dup (..., F)
    """
    s = sigmoid(gate)
    return dy * up * s * (1 + gate * (1 - s)), dy * gate * s


def gelu(x):
    """GELU: x times the probability that a standard normal variable is smaller than x, equation (gelu).

    x (...)  ->  (...).  The exact form, not the tanh approximation.
    """
    tail = erfc(np.abs(x) * math.sqrt(0.5)) / 2             # P(Z > |x|)
    return x * np.where(x < 0, tail, 1 - tail)


def gelu_backward(dy, x):
    """Gradient of gelu: the probability plus x times the density, equation (gelu-backward).

    dy and x (...)  ->  dx (...)
    """
    tail = erfc(np.abs(x) * math.sqrt(0.5)) / 2
    density = np.exp(x * x / -2) * (1 / math.sqrt(2 * math.pi))
    return dy * (np.where(x < 0, tail, 1 - tail) + x * density)


ERFC_MAX = 9.0                                  # erfc(9) = 4e-37; larger arguments count as 9


def _fit_erfc(degree=20):
    """Chebyshev coefficients of log(erfc(x)) + x*x - log(t) in t = 2 / (2 + x), for x from 0 to ERFC_MAX.

    NumPy lacks erf; the standard library's takes one number at a time, which is enough for a fit.
    """
    def smooth(u):                              # u from -1 to 1 maps to t from its minimum to 1
        t = (2 / (2 + ERFC_MAX) * (1 - u) + (1 + u)) / 2
        return np.array([math.log(math.erfc(2 / s - 2)) + (2 / s - 2) ** 2 - math.log(s) for s in t])
    return np.polynomial.chebyshev.chebinterpolate(smooth, degree).tolist()     # type: ignore[type-var]


ERFC_COEFFS = _fit_erfc()


def erfc(x):
    """Complementary error function for x >= 0, with an error below 2e-15 in float64.

    x (...), not negative  ->  (...)
    """
    x = np.minimum(x, ERFC_MAX)
    t, t_min = 2 / (2 + x), 2 / (2 + ERFC_MAX)
    u = (2 * t - (1 + t_min)) / (1 - t_min)                 # t from t_min to 1 maps to u from -1 to 1
    b_next, b = 0.0, 0.0 * u
    for c in ERFC_COEFFS[:0:-1]:                # Clenshaw's recurrence, from the highest coefficient down
        b_next, b = b, 2 * u * b - b_next + c
    return t * np.exp(u * b - b_next + ERFC_COEFFS[0] - x * x)
