"""Mixture of experts: a router sends each token to a few of many feed-forward networks."""
import numpy as np

from tinyscout.reference.activation import sigmoid, swiglu, swiglu_backward
from tinyscout.reference.attention import softmax
from tinyscout.reference.linear import linear, linear_backward
from tinyscout.reference.quantize import take


def router(x, w_router, top_k=1):
    """Choose the top_k experts of each token and compute their gates, equation (router).

    x (N, D), w_router (D, E), top_k int  ->  expert (N, top_k) int, gate (N, top_k) in (0, 1)

    Each gate is the sigmoid of one score: gates do not compete and do not sum to one.  Of experts with equal
    scores, the one with the lower index is chosen.
    """
    scores = linear(x, w_router)
    expert = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
    return expert, sigmoid(np.take_along_axis(scores, expert, axis=-1))


def router_backward(d_gate, x, w_router, top_k=1):
    """Gradient of router through the gates; the choice is not differentiable, equation (router-backward).

    d_gate (N, top_k), the rest as in `router`  ->  dx (N, D), dw_router (D, E)
    """
    expert, gate = router(x, w_router, top_k)
    d_scores = np.zeros((len(x), w_router.shape[1]), x.dtype)
    np.put_along_axis(d_scores, expert, d_gate * gate * (1 - gate), axis=-1)
    return linear_backward(d_scores, x, w_router)[:2]


def load_balance(x, w_router, top_k=1):
    """Load-balancing loss: 1 if tokens and scores are spread evenly, up to E for one expert, equation (load-balance).

    x (N, D), w_router (D, E), top_k int  ->  float
    """
    load, probs = _expert_load_and_probs(x, w_router, top_k)
    return float(load @ probs.mean(0)) * len(load)


def load_balance_backward(dy, x, w_router, top_k=1):
    """Gradient of load_balance, the experts' loads held constant, equation (load-balance-backward).

    dy float, the rest as in `load_balance`  ->  dx (N, D), dw_router (D, E)
    """
    load, probs = _expert_load_and_probs(x, w_router, top_k)
    d_scores = probs * (load - probs @ load[:, None]) * (dy * len(load) / len(x))
    return linear_backward(d_scores.astype(x.dtype, copy=False), x, w_router)[:2]


def _expert_load_and_probs(x, w_router, top_k):
    """Each expert's share of all choices (E,), and each token's softmax over the experts (N, E)."""
    expert, _ = router(x, w_router, top_k)
    count = np.bincount(expert.reshape(-1), minlength=w_router.shape[1])
    return (count / expert.size).astype(x.dtype), softmax(linear(x, w_router))


def experts(x, expert, gate, w_gate, w_up, w_down):
    """Sum over a token's experts of their SwiGLU of the token *scaled by its gate*, equation (experts).

    x (N, D), expert and gate (N, k), w_gate and w_up (E, D, F), w_down (E, F, D) in any format  ->  (N, D)

    Only the weights of experts that some token chose are read, each once, for all of the expert's tokens.
    """
    y = np.zeros_like(x)
    for e in np.unique(expert):
        token, choice = np.nonzero(expert == e)
        rows = x[token] * gate[token, choice][:, None]                      # the gate scales the input
        y[token] += linear(swiglu(linear(rows, take(w_gate, e)), linear(rows, take(w_up, e))), take(w_down, e))
    return y


def experts_backward(dy, x, expert, gate, w_gate, w_up, w_down):
    """Gradient of experts, through the chosen experts and the gates on their inputs, equation (experts-backward).

    dy (N, D), the rest as in `experts`
    ->  dx (N, D), dgate (N, k), dw_gate and dw_up (E, D, F), dw_down (E, F, D): zero for experts that no token chose
    """
    dx, d_gate = np.zeros_like(x), np.zeros_like(gate)
    dw_gate, dw_up, dw_down = (np.zeros(w.shape, x.dtype) for w in (w_gate, w_up, w_down))
    for e in np.unique(expert):
        token, choice = np.nonzero(expert == e)
        rows = x[token] * gate[token, choice][:, None]
        gate_out, up_out = linear(rows, take(w_gate, e)), linear(rows, take(w_up, e))           # SwiGLU's two branches
        d_hidden, dw_down[e], _ = linear_backward(dy[token], swiglu(gate_out, up_out), take(w_down, e))
        d_gate_out, d_up_out = swiglu_backward(d_hidden, gate_out, up_out)
        d_rows_gate, dw_gate[e], _ = linear_backward(d_gate_out, rows, take(w_gate, e))
        d_rows_up, dw_up[e], _ = linear_backward(d_up_out, rows, take(w_up, e))
        d_rows = d_rows_gate + d_rows_up
        dx[token] += d_rows * gate[token, choice][:, None]
        d_gate[token, choice] = (d_rows * x[token]).sum(-1)
    return dx, d_gate, dw_gate, dw_up, dw_down
