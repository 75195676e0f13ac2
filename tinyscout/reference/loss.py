"""The loss: the negative log-likelihood of the token that came."""
import numpy as np

from tinyscout.reference.attention import softmax


def find_target_rows(targets):
    """The rows that have a target, in order.  targets (N,) int  ->  (rows,) int.  Raises ValueError when none has."""
    rows = np.flatnonzero(targets >= 0)
    if not len(rows):
        raise ValueError("no target to learn from: all are negative, or there are none")
    return rows


def cross_entropy(logits, targets):
    """The mean of minus the log of each target's probability, equation (cross-entropy).

    logits (N, V), targets (N,) int, negative to ignore the row  ->  float

    A negative target leaves its row out of the mean: a prompt that is given, or padding.  Raises ValueError
    when no row is left, IndexError for a target of V or more.
    """
    rows = find_target_rows(targets)
    shifted = logits[rows] - logits[rows].max(-1, keepdims=True)                # exp never overflows
    target_logits = np.take_along_axis(shifted, targets[rows][:, None], axis=-1)[:, 0]
    return float((np.log(np.exp(shifted).sum(-1)) - target_logits).mean())


def cross_entropy_backward(dy, logits, targets):
    """The probabilities minus the one-hot target, equation (cross-entropy-backward).

    dy float, logits (N, V), targets (N,)  ->  dlogits (N, V), zero where a target is negative.  Raises as the loss.
    """
    rows = find_target_rows(targets)
    d_nll = softmax(logits[rows])                                               # (rows, V), of each row's own loss
    d_nll[np.arange(len(rows)), targets[rows]] -= 1
    d_logits = np.zeros_like(logits)
    d_logits[rows] = d_nll * (dy / len(rows))
    return d_logits


def soft_cross_entropy(logits, teacher):
    """Cross entropy against a teacher's distribution instead of one token, equation (soft-cross-entropy).

    logits and teacher (N, V), both before softmax  ->  float
    """
    shifted = logits - logits.max(-1, keepdims=True)
    nll = np.log(np.exp(shifted).sum(-1, keepdims=True)) - shifted              # (N, V), of every token
    return float((softmax(teacher) * nll).sum(-1).mean())


def soft_cross_entropy_backward(dy, logits, teacher):
    """The probabilities minus the teacher's, equation (soft-cross-entropy).

    dy float, logits and teacher (N, V)  ->  dlogits (N, V).  The teacher does not learn.
    """
    return (softmax(logits) - softmax(teacher)) * (dy / len(logits))
