"""Patches: how an image becomes a row of tokens, and how four of them become one."""


def patchify(tiles, patch):
    """Cut each tile into squares and lay every square out as one row, equation (patchify).

    tiles (B, C, h, w), patch int in pixels  ->  (B, P, C * patch * patch) with P = h/patch * w/patch

    Squares go row by row; inside a square the channel is slowest, then the pixel's row, then its column.
    """
    B, C, h, w = tiles.shape
    rows, columns = h // patch, w // patch
    squares = tiles.reshape(B, C, rows, patch, columns, patch).transpose(0, 2, 4, 1, 3, 5)
    return squares.reshape(B, rows * columns, C * patch * patch)


def patchify_backward(dy, tiles, patch):
    """Put each number of dy back to the pixel that it came from, equation (patchify).

    dy (B, P, C * patch * patch), tiles (B, C, h, w), patch int  ->  dtiles (B, C, h, w)
    """
    B, C, h, w = tiles.shape
    squares = dy.reshape(B, h // patch, w // patch, C, patch, patch).transpose(0, 3, 1, 4, 2, 5)
    return squares.reshape(B, C, h, w)


def pixel_shuffle(x, side):
    """Stack each side-by-side square of patches into the channels of one token, equation (pixel-shuffle).

    x (B, P, D) on a square grid of P = n * n patches, side int  ->  (B, P / side**2, D * side**2)

    Nothing is lost or averaged: fewer and wider tokens, row by row, each holding its square row by row.
    """
    B, P, D = x.shape
    n = round(P ** 0.5) // side
    squares = x.reshape(B, n, side, n, side, D).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(B, n * n, side * side * D)


def pixel_shuffle_backward(dy, x, side):
    """Deal the channels of each token back to its patches, equation (pixel-shuffle).

    dy (B, P / side**2, D * side**2), x (B, P, D), side int  ->  dx (B, P, D)
    """
    B, P, D = x.shape
    n = round(P ** 0.5) // side
    return dy.reshape(B, n, n, side, side, D).transpose(0, 1, 3, 2, 4, 5).reshape(B, P, D)
