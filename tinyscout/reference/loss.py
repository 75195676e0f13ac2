"""The loss: cross-entropy against the next token, or against a teacher's distribution."""
import numpy as np

from tinyscout.reference.attention import softmax


def find_target_rows(targets):
    """Indices of the rows with a target.  targets (N,) int  ->  (rows,) int.  Raises ValueError if there are none."""
    rows = np.flatnonzero(targets >= 0)
    if not len(rows):
        raise ValueError("no target to learn from: all are negative, or there are none")
    return rows


def cross_entropy(logits, targets):
    """Mean negative log-probability of the targets, equation (cross-entropy).

    logits (N, V), targets (N,) int, negative to ignore the row  ->  float

    Rows with a negative target, such as a prompt or padding, are left out of the mean.  Raises ValueError
    if no row is left, IndexError for a target of V or more.
    """
    rows = find_target_rows(targets)
    shifted = logits[rows] - logits[rows].max(-1, keepdims=True)                # exp never overflows
    target_logits = np.take_along_axis(shifted, targets[rows][:, None], axis=-1)[:, 0]
    return float((np.log(np.exp(shifted).sum(-1)) - target_logits).mean())


def cross_entropy_backward(dy, logits, targets):
    """Gradient of cross_entropy: softmax minus the one-hot target, equation (cross-entropy-backward).

    dy float, logits (N, V), targets (N,)  ->  dlogits (N, V), zero in rows left out.  Raises as `cross_entropy`.
    """
    rows = find_target_rows(targets)
    d_nll = softmax(logits[rows])                                               # (rows, V), of each row's own loss
    d_nll[np.arange(len(rows)), targets[rows]] -= 1
    d_logits = np.zeros_like(logits)
    d_logits[rows] = d_nll * (dy / len(rows))
    return d_logits


def soft_cross_entropy(logits, teacher):
    """Cross-entropy against a teacher's distribution instead of one token, equation (soft-cross-entropy).

    logits and teacher (N, V), both before softmax  ->  float
    """
    shifted = logits - logits.max(-1, keepdims=True)
    nll = np.log(np.exp(shifted).sum(-1, keepdims=True)) - shifted              # (N, V), of every token
    return float((softmax(teacher) * nll).sum(-1).mean())


def soft_cross_entropy_backward(dy, logits, teacher):
    """Gradient of soft_cross_entropy: softmax minus the teacher's, equation (soft-cross-entropy).

    dy float, logits and teacher (N, V)  ->  dlogits (N, V).  The teacher's logits are constant.
    """
    return (softmax(logits) - softmax(teacher)) * (dy / len(logits))
