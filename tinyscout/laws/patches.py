"""Laws of cutting tiles into patches and merging patches into tokens."""
import numpy as np
from hypothesis import strategies as st

from tinyscout.laws.draw import random_normal, rngs, small_sizes


@st.composite
def patchify_inputs(draw):
    rng, B, C, patch = draw(rngs()), draw(small_sizes), draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2, 14]))
    return random_normal(rng, B, C, patch * draw(small_sizes), patch * draw(small_sizes)), patch


@st.composite
def pixel_shuffle_inputs(draw):
    rng, B, D, side = draw(rngs()), draw(small_sizes), draw(small_sizes), draw(st.integers(1, 3))
    return random_normal(rng, B, (side * draw(small_sizes)) ** 2, D), side


def patches_are_squares_of_the_picture(ops, tiles, patch):
    """Patch n is the square at row n // columns and column n % columns, channel by channel."""
    patches = ops.patchify(tiles, patch)
    columns = tiles.shape[3] // patch
    for n in range(patches.shape[1]):
        top, left = n // columns * patch, n % columns * patch
        square = tiles[:, :, top:top + patch, left:left + patch]
        np.testing.assert_array_equal(patches[:, n], square.reshape(len(tiles), -1))


def patchify_loses_nothing(ops, tiles, patch):
    np.testing.assert_array_equal(np.sort(ops.patchify(tiles, patch), axis=None), np.sort(tiles, axis=None))


def a_token_holds_its_square_of_patches(ops, x, side):
    """Token (i, j) concatenates the patches of its square, from patch (i * side, j * side) on, in row-major order."""
    n = round(x.shape[1] ** 0.5)
    grid, tokens = x.reshape(len(x), n, n, -1), ops.pixel_shuffle(x, side)
    for i, j in np.ndindex(n // side, n // side):
        square = grid[:, i * side:(i + 1) * side, j * side:(j + 1) * side]
        np.testing.assert_array_equal(tokens[:, i * (n // side) + j], square.reshape(len(x), -1))


INPUTS = {"patchify": patchify_inputs(), "pixel_shuffle": pixel_shuffle_inputs()}
LAWS = {
    patches_are_squares_of_the_picture: patchify_inputs(),
    patchify_loses_nothing: patchify_inputs(),
    a_token_holds_its_square_of_patches: pixel_shuffle_inputs(),
}
