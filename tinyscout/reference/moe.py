"""Mixture of experts: a router sends each token to few of many feed-forward networks."""
import numpy as np

from tinyscout.reference.activation import sigmoid, swiglu, swiglu_backward
from tinyscout.reference.attention import softmax
from tinyscout.reference.linear import linear, linear_backward
from tinyscout.reference.quantize import take


def router(x, w_router, top_k=1):
    """Each token's best experts, and how far the gate to each one opens, equation (router).

    x (N, D), w_router (D, E), top_k int  ->  expert (N, top_k) int, gate (N, top_k) in (0, 1)

    Every gate is a sigmoid of its own: they do not compete and do not sum to one.  Of equal scores the
    lower expert wins.
    """
    scores = linear(x, w_router)
    expert = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
    return expert, sigmoid(np.take_along_axis(scores, expert, axis=-1))


def router_backward(d_gate, x, w_router, top_k=1):
    """The gates of the chosen experts learn, the choice itself does not, equation (router-backward).

    d_gate (N, top_k), the rest as in `router`  ->  dx (N, D), dw_router (D, E)
    """
    expert, gate = router(x, w_router, top_k)
    d_scores = np.zeros((len(x), w_router.shape[1]), x.dtype)
    np.put_along_axis(d_scores, expert, d_gate * gate * (1 - gate), axis=-1)
    return linear_backward(d_scores, x, w_router)[:2]


def load_balance(x, w_router, top_k=1):
    """One where tokens and scores spread evenly over experts, up to E where one has all, equation (load-balance).

    x (N, D), w_router (D, E), top_k int  ->  float
    """
    share, belief = _expert_load_and_probs(x, w_router, top_k)
    return float(share @ belief.mean(0)) * len(share)


def load_balance_backward(dy, x, w_router, top_k=1):
    """Beliefs learn to be less sure of busy experts, equation (load-balance-backward).

    dy float, the rest as in `load_balance`  ->  dx (N, D), dw_router (D, E)
    """
    share, belief = _expert_load_and_probs(x, w_router, top_k)
    d_scores = belief * (share - belief @ share[:, None]) * (dy * len(share) / len(x))
    return linear_backward(d_scores.astype(x.dtype, copy=False), x, w_router)[:2]


def _expert_load_and_probs(x, w_router, top_k):
    """Each expert's part of all choices (E,), which moves in jumps, and each token's belief in it (N, E)."""
    expert, _ = router(x, w_router, top_k)
    count = np.bincount(expert.reshape(-1), minlength=w_router.shape[1])
    return (count / expert.size).astype(x.dtype), softmax(linear(x, w_router))


def experts(x, expert, gate, w_gate, w_up, w_down):
    """Each token, *scaled by its gate*, through its own experts' SwiGLU; the results summed, equation (experts).

    x (N, D), expert and gate (N, k), w_gate and w_up (E, D, F), w_down (E, F, D) in any form  ->  (N, D)

    Only experts that somebody chose are touched, each once, with all of its tokens.
    """
    y = np.zeros_like(x)
    for e in np.unique(expert):
        token, choice = np.nonzero(expert == e)
        mine = x[token] * gate[token, choice][:, None]                      # the gate scales the input
        y[token] += linear(swiglu(linear(mine, take(w_gate, e)), linear(mine, take(w_up, e))), take(w_down, e))
    return y


def experts_backward(dy, x, expert, gate, w_gate, w_up, w_down):
    """Through each expert that somebody chose, and through the gate on its input, equation (experts-backward).

    dy (N, D), the rest as in `experts`
    ->  dx (N, D), dgate (N, k), dw_gate and dw_up (E, D, F), dw_down (E, F, D): zero for experts that nobody chose
    """
    dx, d_gate = np.zeros_like(x), np.zeros_like(gate)
    d_weights = [np.zeros(w.shape, x.dtype) for w in (w_gate, w_up, w_down)]
    for e in np.unique(expert):
        token, choice = np.nonzero(expert == e)
        mine = x[token] * gate[token, choice][:, None]
        opened, up = linear(mine, take(w_gate, e)), linear(mine, take(w_up, e))
        d_hidden, d_weights[2][e], _ = linear_backward(dy[token], swiglu(opened, up), take(w_down, e))
        d_opened, d_up = swiglu_backward(d_hidden, opened, up)
        by_gate, d_weights[0][e], _ = linear_backward(d_opened, mine, take(w_gate, e))
        by_up, d_weights[1][e], _ = linear_backward(d_up, mine, take(w_up, e))
        d_mine = by_gate + by_up
        dx[token] += d_mine * gate[token, choice][:, None]
        d_gate[token, choice] = (d_mine * x[token]).sum(-1)
    return dx, d_gate, *d_weights
