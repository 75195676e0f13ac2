"""Normalisation: keep every token's vector at a known size."""
import numpy as np


def rms_norm(x, weight=None, eps=1e-5):
    """Divide each row by its root-mean-square, then scale each channel, equation (rms-norm).

    x (..., D), weight (D,) or None for no scaling, eps float  ->  (..., D) in x's dtype
    """
    normal = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return normal if weight is None else normal * weight.astype(x.dtype, copy=False)


def layer_norm(x, weight, bias, eps=1e-5):
    """Shift each row to mean zero and scale it to variance one, then per channel, equation (layer-norm).

    x (..., D), weight (D,), bias (D,), eps float  ->  (..., D) in x's dtype
    """
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    return normal * weight.astype(x.dtype, copy=False) + bias.astype(x.dtype, copy=False)
