"""Laws of rotary position embedding."""
import numpy as np
from hypothesis import strategies as st

from tinyscout.config import RopeScaling
from tinyscout.laws.draw import random_normal, rngs, small_sizes
from tinyscout.laws.universal import EPS
from tinyscout.reference import rope_angles

thetas = st.sampled_from([10_000.0, 500_000.0])
scalings = st.sampled_from([None, RopeScaling(), RopeScaling(8.0, 1.0, 4.0, 8192), RopeScaling(original=64)])
head_dims = st.sampled_from([2, 4, 16, 64, 66, 128])
positions = st.sampled_from([0, 1, 8191, 8192, 131_072, 10_485_759])    # of the first of T tokens


@st.composite
def angle_inputs(draw):
    first, T = draw(positions), draw(st.sampled_from([1, 2, 33]))
    return first + np.arange(T), draw(head_dims), draw(thetas), draw(scalings)


@st.composite
def rope_inputs(draw):
    token_positions, d, theta, scaling = draw(angle_inputs())
    rng, B, H = draw(rngs()), draw(small_sizes), draw(small_sizes)
    cos, sin = (a.astype(np.float32) for a in rope_angles(token_positions, d, theta, scaling))
    return random_normal(rng, B, len(token_positions), H, d), cos, sin


@st.composite
def score_inputs(draw):
    """A query, a key, their positions and a shift of both."""
    rng, d = draw(rngs()), draw(head_dims)
    q, k = random_normal(rng, 1, 1, 1, d), random_normal(rng, 1, 1, 1, d)
    m, n, shift = (draw(st.integers(0, 10_000_000)) for _ in range(3))
    return q, k, m, n, shift, draw(scalings)


def a_rotation_keeps_length(ops, x, cos, sin):
    """Every pair of channels keeps its length, at every position."""
    before, after = (np.hypot(a[..., 0::2], a[..., 1::2]) for a in (x, ops.asnumpy(ops.apply_rope(x, cos, sin))))
    np.testing.assert_allclose(after, before, rtol=8 * EPS)


def turning_back_undoes_turning(ops, x, cos, sin):
    rotated = ops.apply_rope(x, cos, sin)
    np.testing.assert_allclose(ops.apply_rope(rotated, cos, -sin), x, atol=8 * EPS * np.abs(x).max())


def position_zero_turns_nothing(ops, x, cos, sin):
    cos, sin = (a.astype(np.float32) for a in ops.rope_angles(np.zeros(len(cos), int), x.shape[-1], 10_000.0))
    np.testing.assert_array_equal(ops.apply_rope(x, cos, sin), x)


def scores_see_only_relative_position(ops, q, k, m, n, shift, scaling):
    """The score of q at m and k at n is that of q at m + shift and k at n + shift, even ten million tokens later."""
    def score(m, n):
        cos, sin = (a.astype(np.float32) for a in ops.rope_angles(np.array([m, n]), q.shape[-1], 500_000.0, scaling))
        return np.sum(ops.apply_rope(q, cos[:1], sin[:1]) * ops.apply_rope(k, cos[1:], sin[1:]), dtype=np.float64)
    scale = float(np.linalg.norm(q) * np.linalg.norm(k))
    np.testing.assert_allclose(score(m + shift, n + shift), score(m, n), atol=16 * EPS * scale)


def scaling_only_slows_down(ops, token_positions, d, theta, scaling):
    """Every pair rotates as fast as before or up to `factor` times slower, and short wavelengths are unchanged."""
    plain, scaled = ops.rope_frequencies(d, theta), ops.rope_frequencies(d, theta, scaling)
    factor, _, high, original = scaling or (1.0, 1.0, 1.0, 1)
    assert np.all((scaled <= plain) & (scaled >= plain / factor * (1 - 1e-12)))
    is_fast = 2 * np.pi / plain < original / high
    np.testing.assert_array_equal(scaled[is_fast], plain[is_fast])


def a_patch_turns_with_its_column_then_its_row(ops, grid, d, theta):
    """A patch has the angles of its column, then of its row, counted from 1.  The class token is not rotated."""
    cos, sin = ops.rope_angles_2d(grid, d, theta)
    line_cos, line_sin = ops.rope_angles(np.arange(1, grid + 1), d // 2, theta)
    for patch in range(grid * grid):
        row, column = patch // grid, patch % grid
        np.testing.assert_array_equal(cos[patch], np.concatenate([line_cos[column], line_cos[row]]))
        np.testing.assert_array_equal(sin[patch], np.concatenate([line_sin[column], line_sin[row]]))
    assert (cos[-1] == 1).all()
    assert (sin[-1] == 0).all()
    assert len(cos) == grid * grid + 1


grids = st.tuples(small_sizes, st.sampled_from([4, 8, 88]), thetas)
INPUTS = {
    "rope_frequencies": st.tuples(head_dims, thetas, scalings),
    "rope_angles": angle_inputs(),
    "rope_angles_2d": grids,
    "apply_rope": rope_inputs(),
}
LAWS = {
    a_rotation_keeps_length: rope_inputs(),
    turning_back_undoes_turning: rope_inputs(),
    position_zero_turns_nothing: rope_inputs(),
    scores_see_only_relative_position: score_inputs(),
    scaling_only_slows_down: angle_inputs(),
    a_patch_turns_with_its_column_then_its_row: grids,
}
