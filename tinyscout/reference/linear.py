"""Matrices: the embedding table that starts the model and the products that fill it."""
from tinyscout.reference.quantize import dense


def embed(tokens, embedding, dtype="float32"):
    """One row of the table per token, equation (embed).

    tokens (...) int, embedding (V, D)  ->  (..., D) in `dtype`
    """
    return embedding[tokens].astype(dtype, copy=False)


def linear(x, w, bias=None):
    """y = x w + b, equation (linear).

    x (..., I), w (I, O) in any form, bias (O,) or None  ->  (..., O) in x's dtype
    """
    y = x @ dense(w, x.dtype)
    return y if bias is None else y + bias.astype(x.dtype, copy=False)
