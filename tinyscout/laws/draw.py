"""Basic strategies: sizes at the edges of warps, blocks and tiles, where kernels break, and seeds."""
import numpy as np
from hypothesis import strategies as st

small_sizes = st.integers(1, 4)
lengths = st.sampled_from([1, 2, 31, 32, 33, 255, 256, 257])    # a warp, a block, and one more or less
counts = st.sampled_from([1, 2, 3, 31, 33, 65])                 # smaller, for inputs with several such axes
seeds = st.integers(0, 2 ** 32 - 1)
magnitudes = st.sampled_from([1.0, 1.0, 1e-3, 30.0])            # of the values, mostly those of a real model


@st.composite
def rngs(draw):
    """A random generator that Hypothesis can replay."""
    return np.random.default_rng(draw(seeds))


def random_normal(rng: np.random.Generator, *shape: int, size: float = 1.0) -> np.ndarray:
    """Normal values in float32 with standard deviation `size`."""
    return (rng.standard_normal(shape) * size).astype(np.float32)
