"""The loss: how surprised the model is by the token that came."""
import numpy as np


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
