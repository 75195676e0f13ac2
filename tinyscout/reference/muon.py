"""Muon: orthogonalise the momentum, so that the update is about equally large in all directions."""
import numpy as np

NEWTON_SCHULZ_COEFFS = 3.4445, -4.7750, 2.0315      # of x, x**3, x**5: five steps bring every singular value near one


def orthogonalize(g, steps=5):
    """Bring all singular values of a matrix near one, keeping its singular vectors, equation (newton-schulz).

    g (..., I, O), steps int  ->  (..., I, O)
    """
    is_tall = g.shape[-2] > g.shape[-1]
    x = g.swapaxes(-1, -2) if is_tall else g                            # so that x x^T is the smaller square
    x = x / (np.sqrt((x * x).sum((-1, -2), keepdims=True)) + 1e-7)
    a, b, c = NEWTON_SCHULZ_COEFFS
    for _ in range(steps):
        square = x @ x.swapaxes(-1, -2)
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.swapaxes(-1, -2) if is_tall else x


def muon_step(w, g, m, lr, momentum=0.95, decay=0.1):
    """One Muon step, along the orthogonalised momentum of each matrix, equation (muon).

    w weights, g their gradient, m running mean of g, all (..., I, O); lr, momentum, decay float  ->  new w, m
    """
    m = momentum * m + (1 - momentum) * g
    update = orthogonalize((1 - momentum) * g + momentum * m)               # Nesterov momentum
    scale = max(1.0, w.shape[-1] / max(1, w.shape[-2])) ** 0.5
    return (1 - lr * decay) * w - (lr * scale) * update, m
