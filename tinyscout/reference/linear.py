"""Matrices: the embedding table and the matrix product."""
import numpy as np

from tinyscout.reference.quantize import to_dense


def embed(tokens, embedding, dtype="float32"):
    """Look up one row of the table per token, equation (embed).

    tokens (...) int, embedding (V, D)  ->  (..., D) in `dtype`
    """
    return embedding[tokens].astype(dtype, copy=False)


def embed_backward(dy, tokens, embedding):
    """Gradient of embed: a row's gradient is the sum over all positions of its token, equation (embed-backward).

    dy (..., D), tokens (...) int, embedding (V, D)  ->  dembedding (V, D) in dy's dtype
    """
    d_embedding = np.zeros(embedding.shape, dy.dtype)
    np.add.at(d_embedding, tokens.reshape(-1), dy.reshape(-1, dy.shape[-1]))
    return d_embedding


def linear(x, w, bias=None):
    """Matrix product y = x w + b, equation (linear).

    x (..., I), w (I, O) in any format, bias (O,) or None  ->  (..., O) in x's dtype
    """
    y = x @ to_dense(w, x.dtype)
    return y if bias is None else y + bias.astype(x.dtype, copy=False)


def linear_backward(dy, x, w, bias=None):
    """Gradient of linear: dx = dy w^T, dw = x^T dy, dbias = sum of dy, equation (linear-backward).

    dy (..., O), the rest as in `linear`  ->  dx (..., I), dw (I, O), dbias (O,) or None
    """
    rows = dy.reshape(-1, dy.shape[-1])
    dw = x.reshape(-1, x.shape[-1]).T @ rows
    return dy @ to_dense(w, x.dtype).T, dw, None if bias is None else rows.sum(0)
