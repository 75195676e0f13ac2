"""The loss: how surprised the model is by the token that came."""
import numpy as np

from tinyscout.reference.attention import softmax


def cross_entropy(logits, targets):
    """The mean surprise, minus the log of the probability that each target had, equation (cross-entropy).

    logits (N, V), targets (N,) int, negative where there is nothing to learn  ->  float

    A negative target leaves its row out of the mean: a prompt that is given, or padding.  Raises ValueError
    where no row is left, IndexError for a target of V or more.
    """
    learn = targets >= 0
    if not learn.any():
        raise ValueError("no target to learn from: all are negative, or there are none")
    shifted = logits[learn] - logits[learn].max(-1, keepdims=True)              # exp never overflows
    chosen = np.take_along_axis(shifted, targets[learn][:, None], axis=-1)[:, 0]
    return float((np.log(np.exp(shifted).sum(-1)) - chosen).mean())


def cross_entropy_backward(dy, logits, targets):
    """What was expected less what came, equation (cross-entropy-backward).

    dy float, logits (N, V), targets (N,)  ->  dlogits (N, V), zero where a target is negative.  Raises as the loss.
    """
    learn = np.flatnonzero(targets >= 0)
    if not len(learn):
        raise ValueError("no target to learn from: all are negative, or there are none")
    d_logits = np.zeros_like(logits)
    surprise = softmax(logits[learn])
    surprise[np.arange(len(learn)), targets[learn]] -= 1
    d_logits[learn] = surprise * (dy / len(learn))
    return d_logits


def soft_cross_entropy(logits, teacher):
    """The mean surprise where not one token came but a teacher's opinion of all, equation (soft-cross-entropy).

    logits and teacher (N, V), both scores before softmax  ->  float
    """
    shifted = logits - logits.max(-1, keepdims=True)
    surprise = np.log(np.exp(shifted).sum(-1, keepdims=True)) - shifted
    return float((softmax(teacher) * surprise).sum(-1).mean())


def soft_cross_entropy_backward(dy, logits, teacher):
    """What was expected less what the teacher expects, equation (soft-cross-entropy).

    dy float, logits and teacher (N, V)  ->  dlogits (N, V).  The teacher does not learn.
    """
    return (softmax(logits) - softmax(teacher)) * (dy / len(logits))
