"""Early fusion: an image's features replace the embeddings of its patch tokens."""


def fuse(x, mask, features):
    """Replace the rows that `mask` selects, in order, by an image's features, equation (fuse).

    x (T, D), mask (T,) bool with N of them true, features (N, D)  ->  (T, D)
    """
    y = x.copy()
    y[mask] = features
    return y


def fuse_backward(dy, x, mask, features):
    """Gradient of fuse: replaced rows of x get zero, the features get the rows of dy, equation (fuse-backward).

    dy (T, D), the rest as in `fuse`  ->  dx (T, D), dfeatures (N, D)
    """
    dx = dy.copy()
    dx[mask] = 0
    return dx, dy[mask]
