"""Mixture of experts: a router sends each token to few of many feed-forward networks."""
import numpy as np

from tinyscout.reference.activation import sigmoid, swiglu
from tinyscout.reference.linear import linear
from tinyscout.reference.quantize import part


def router(x, w_router, top_k=1):
    """Each token's best experts, and how far the gate to each one opens, equation (router).

    x (N, D), w_router (D, E), top_k int  ->  expert (N, top_k) int, gate (N, top_k) in (0, 1)

    Every gate is a sigmoid of its own: they do not compete and do not sum to one.  Of equal scores the
    lower expert wins.
    """
    scores = linear(x, w_router)
    expert = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
    return expert, sigmoid(np.take_along_axis(scores, expert, axis=-1))


def experts(x, expert, gate, w_gate, w_up, w_down):
    """Each token, *scaled by its gate*, through its own experts' SwiGLU; the results summed, equation (experts).

    x (N, D), expert and gate (N, k), w_gate and w_up (E, D, F), w_down (E, F, D) in any form  ->  (N, D)

    Only experts that somebody chose are touched, each once, with all of its tokens.
    """
    y = np.zeros_like(x)
    for e in np.unique(expert):
        token, choice = np.nonzero(expert == e)
        mine = x[token] * gate[token, choice][:, None]                      # the gate scales the input
        y[token] += linear(swiglu(linear(mine, part(w_gate, e)), linear(mine, part(w_up, e))), part(w_down, e))
    return y
