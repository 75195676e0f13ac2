"""Early fusion: a picture's vectors take the places that the text left for them."""


def fuse(x, places, features):
    """Overwrite the rows at `places`, in order, with a picture's features, equation (fuse).

    x (T, D), places (T,) bool with N of them true, features (N, D)  ->  (T, D)
    """
    y = x.copy()
    y[places] = features
    return y


def fuse_backward(dy, x, places, features):
    """What stood at the places had no say, what was put there has all, equation (fuse-backward).

    dy (T, D), the rest as in `fuse`  ->  dx (T, D), dfeatures (N, D)
    """
    dx = dy.copy()
    dx[places] = 0
    return dx, dy[places]
