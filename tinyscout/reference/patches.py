"""Patches: cut an image into a sequence of patches, and merge squares of patches into tokens."""


def patchify(tiles, patch):
    """Cut each tile into square patches and flatten each patch into one row, equation (patchify).

    tiles (B, C, h, w), patch int in pixels  ->  (B, P, C * patch * patch) with P = h/patch * w/patch

    Patches are in row-major order; within a patch the channel varies slowest, then the pixel's row, then its column.
    """
    B, C, h, w = tiles.shape
    rows, columns = h // patch, w // patch
    squares = tiles.reshape(B, C, rows, patch, columns, patch).transpose(0, 2, 4, 1, 3, 5)
    return squares.reshape(B, rows * columns, C * patch * patch)


def patchify_backward(dy, tiles, patch):
    """Gradient of patchify: each element of dy goes back to its pixel, equation (patchify).

    dy (B, P, C * patch * patch), tiles (B, C, h, w), patch int  ->  dtiles (B, C, h, w)
    """
    B, C, h, w = tiles.shape
    squares = dy.reshape(B, h // patch, w // patch, C, patch, patch).transpose(0, 3, 1, 4, 2, 5)
    return squares.reshape(B, C, h, w)


def pixel_shuffle(x, side):
    """Concatenate each square of side x side patches into one token, equation (pixel-shuffle).

    x (B, P, D) on a square grid of P = n * n patches, side int  ->  (B, P / side**2, D * side**2)

    No value is lost or averaged.  Tokens are in row-major order, and so are the patches within a token.
    """
    B, P, D = x.shape
    n = round(P ** 0.5) // side
    squares = x.reshape(B, n, side, n, side, D).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(B, n * n, side * side * D)


def pixel_shuffle_backward(dy, x, side):
    """Gradient of pixel_shuffle: the channels of each token go back to its patches, equation (pixel-shuffle).

    dy (B, P / side**2, D * side**2), x (B, P, D), side int  ->  dx (B, P, D)
    """
    B, P, D = x.shape
    n = round(P ** 0.5) // side
    return dy.reshape(B, n, n, side, side, D).transpose(0, 1, 3, 2, 4, 5).reshape(B, P, D)
