"""Sampling: from scores to one token."""
import numpy as np

from tinyscout.reference.attention import softmax


def top_k(logits, k):
    """Leave the k best scores, the rest becomes minus infinity, equation (top-k).

    logits (..., V), k int  ->  (..., V)

    Scores equal to the k-th best stay too, so the result does not depend on the order of the vocabulary.
    """
    k = min(k, logits.shape[-1])
    worst = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits < worst, -np.inf, logits).astype(logits.dtype, copy=False)


def top_p(probabilities, p):
    """Leave the fewest tokens that together have probability p, equation (top-p).

    probabilities (..., V) summing to one, p in [0, 1]  ->  (..., V) summing to one

    A token stays where the tokens before it, from the likeliest down, hold no more than p: the first always stays.
    """
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=-1)
    kept = np.where(np.cumsum(ranked, axis=-1) - ranked <= p, ranked, 0)
    kept /= kept.sum(-1, keepdims=True)
    y = np.empty_like(probabilities)
    np.put_along_axis(y, order, kept, axis=-1)
    return y


def sample(logits, uniform, temperature=1.0, k=None, p=None):
    """Draw a token: the first whose cumulative probability passes the number drawn, equation (sampling).

    logits (V,), uniform float in [0, 1), temperature float >= 0, k and p as in top_k and top_p  ->  int

    Temperature 0 is the best token.  The randomness comes in from outside, so a seed gives the same text anywhere.
    """
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):        # next to no temperature: the best stays at 0, the rest is out of reach
        scores = (logits.astype(np.float64) - float(logits.max())) / temperature
    probabilities = softmax(scores if k is None else top_k(scores, k))
    if p is not None:
        probabilities = top_p(probabilities, p)
    cumulative = np.cumsum(probabilities)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
