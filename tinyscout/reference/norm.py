"""Normalisation: keep every token's vector at a known size."""
import numpy as np


def rms_norm(x, weight=None, eps=1e-5):
    """Divide each row by its root-mean-square, then scale each channel, equation (rms-norm).

    x (..., D), weight (D,) or None for no scaling, eps float  ->  (..., D) in x's dtype
    """
    normal = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return normal if weight is None else normal * weight.astype(x.dtype, copy=False)


def rms_norm_backward(dy, x, weight=None, eps=1e-5):
    """What becomes of `rms_norm` when its inputs move, equation (rms-norm-backward).

    dy (..., D), the rest as there  ->  dx (..., D), dweight (D,) or None
    """
    scale = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    normal = x * scale
    d_normal = dy if weight is None else dy * weight.astype(x.dtype, copy=False)
    dx = scale * (d_normal - normal * (d_normal * normal).mean(-1, keepdims=True))      # no step along the row: undone
    return dx, None if weight is None else (dy * normal).reshape(-1, x.shape[-1]).sum(0)


def layer_norm(x, weight, bias, eps=1e-5):
    """Shift each row to mean zero and scale it to variance one, then per channel, equation (layer-norm).

    x (..., D), weight (D,), bias (D,), eps float  ->  (..., D) in x's dtype
    """
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    return normal * weight.astype(x.dtype, copy=False) + bias.astype(x.dtype, copy=False)


def layer_norm_backward(dy, x, weight, bias, eps=1e-5):
    """The same with the mean taken off: neither a shift nor a scale of the row passes, equation (layer-norm-backward).

    dy (..., D), the rest as in `layer_norm`  ->  dx (..., D), dweight (D,), dbias (D,)
    """
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    normal = centred * scale
    d_normal = dy * weight.astype(x.dtype, copy=False)
    d_normal = d_normal - d_normal.mean(-1, keepdims=True)
    dx = scale * (d_normal - normal * (d_normal * normal).mean(-1, keepdims=True))
    return dx, (dy * normal).reshape(-1, x.shape[-1]).sum(0), dy.reshape(-1, x.shape[-1]).sum(0)
