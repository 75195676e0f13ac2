"""Early fusion: an image's features replace the embeddings of its patch tokens."""


def fuse(x, mask, features):
    """Overwrite the rows that `mask` selects, in order, with an image's features, equation (fuse).

    x (T, D), mask (T,) bool with N of them true, features (N, D)  ->  (T, D)
    """
    y = x.copy()
    y[mask] = features
    return y


def fuse_backward(dy, x, mask, features):
    """The replaced rows of x have no gradient, and the features get theirs, equation (fuse-backward).

    dy (T, D), the rest as in `fuse`  ->  dx (T, D), dfeatures (N, D)
    """
    dx = dy.copy()
    dx[mask] = 0
    return dx, dy[mask]
