"""Sampling: from logits to one token."""
import numpy as np

from tinyscout.reference.attention import softmax


def top_k(logits, k):
    """Keep the k largest logits and set the rest to minus infinity, equation (top-k).

    logits (..., V), k int  ->  (..., V)

    Logits equal to the k-th largest are kept too, so the result does not depend on the order of the vocabulary.
    """
    k = min(k, logits.shape[-1])
    kth_largest = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits < kth_largest, -np.inf, logits).astype(logits.dtype, copy=False)


def top_p(probabilities, p):
    """Keep the smallest set of most probable tokens whose probabilities sum to p, equation (top-p).

    probabilities (..., V) summing to one, p in [0, 1]  ->  (..., V) summing to one

    In order of decreasing probability, a token is kept if those before it sum to at most p; the first is always kept.
    """
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=-1)
    kept = np.where(np.cumsum(ranked, axis=-1) - ranked <= p, ranked, 0)
    kept /= kept.sum(-1, keepdims=True)
    y = np.empty_like(probabilities)
    np.put_along_axis(y, order, kept, axis=-1)
    return y


def sample(logits, uniform, temperature=1.0, k=None, p=None):
    """Draw a token: the first whose cumulative probability exceeds `uniform`, equation (sampling).

    logits (V,), uniform float in [0, 1), temperature float >= 0, k and p as in top_k and top_p  ->  int

    Temperature 0 selects the most probable token.  The caller draws `uniform`, so a seed works alike on all backends.
    """
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):        # at a tiny temperature the maximum stays 0, the rest becomes -inf
        scaled = (logits.astype(np.float64) - float(logits.max())) / temperature
    probabilities = softmax(scaled if k is None else top_k(scaled, k))
    if p is not None:
        probabilities = top_p(probabilities, p)
    cumulative = np.cumsum(probabilities)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
