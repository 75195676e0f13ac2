"""Laws of early fusion: an image's features replace the embeddings of its patch tokens."""
import numpy as np
from hypothesis import strategies as st

from tinyscout.laws.draw import lengths, random_normal, rngs


@st.composite
def fuse_inputs(draw):
    rng, T, D = draw(rngs()), draw(lengths), draw(st.sampled_from([1, 5]))
    mask = rng.random(T) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return random_normal(rng, T, D), mask, random_normal(rng, int(mask.sum()), D)


def every_vector_lands_in_order(ops, x, mask, features):
    """Patch token n gets feature n, and all others keep their embedding."""
    y = ops.fuse(x, mask, features)
    remaining = iter(features)
    for t, is_patch in enumerate(mask):
        np.testing.assert_array_equal(y[t], next(remaining) if is_patch else x[t])
    assert next(remaining, None) is None


INPUTS = {"fuse": fuse_inputs()}
LAWS = {every_vector_lands_in_order: fuse_inputs()}
