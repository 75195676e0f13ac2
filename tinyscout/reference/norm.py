"""Normalisation: keep every token's vector at a fixed scale."""
import numpy as np


def rms_norm(x, weight=None, eps=1e-5):
    """Divide each row by its root-mean-square, then scale each channel, equation (rms-norm).

    x (..., D), weight (D,) or None for no scaling, eps float  ->  (..., D) in x's dtype
    """
    x_hat = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return x_hat if weight is None else x_hat * weight.astype(x.dtype, copy=False)


def rms_norm_backward(dy, x, weight=None, eps=1e-5):
    """Gradient of rms_norm, equation (rms-norm-backward).

    dy (..., D), the rest as in `rms_norm`  ->  dx (..., D), dweight (D,) or None
    """
    rstd = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    x_hat = x * rstd
    d_x_hat = dy if weight is None else dy * weight.astype(x.dtype, copy=False)
    dx = rstd * (d_x_hat - x_hat * (d_x_hat * x_hat).mean(-1, keepdims=True))
    return dx, None if weight is None else (dy * x_hat).reshape(-1, x.shape[-1]).sum(0)


def layer_norm(x, weight, bias, eps=1e-5):
    """Normalise each row to mean zero and variance one, then scale and shift each channel, equation (layer-norm).

    x (..., D), weight (D,), bias (D,), eps float  ->  (..., D) in x's dtype
    """
    centred = x - x.mean(-1, keepdims=True)
    x_hat = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    return x_hat * weight.astype(x.dtype, copy=False) + bias.astype(x.dtype, copy=False)


def layer_norm_backward(dy, x, weight, bias, eps=1e-5):
    """Gradient of layer_norm, equation (layer-norm-backward).

    dy (..., D), the rest as in `layer_norm`  ->  dx (..., D), dweight (D,), dbias (D,)
    """
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    x_hat = centred * rstd
    d_x_hat = dy * weight.astype(x.dtype, copy=False)
    d_x_hat = d_x_hat - d_x_hat.mean(-1, keepdims=True)
    dx = rstd * (d_x_hat - x_hat * (d_x_hat * x_hat).mean(-1, keepdims=True))
    return dx, (dy * x_hat).reshape(-1, x.shape[-1]).sum(0), dy.reshape(-1, x.shape[-1]).sum(0)
