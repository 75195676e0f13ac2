"""Rotary position embedding (RoPE): a position is an angle, and attention sees only differences of angles."""
import math

import numpy as np


def rope_frequencies(head_dim, theta, scaling=None):
    """Rotation of each pair of channels per token, in radians, equations (rope-frequency) and (rope-scaling).

    head_dim int, theta float, scaling (factor, low, high, original) or None  ->  (d/2,) float64

    Scout stretches slow pairs: a wavelength longer than original/low tokens becomes `factor` times longer, one shorter
    than original/high is unchanged, and the band between is blended (it is empty in Scout, as low = high).
    """
    frequency = float(theta) ** (-np.arange(0, head_dim, 2) / head_dim)
    if scaling is None:
        return frequency
    factor, low, high, original = scaling
    turns = original * frequency / (2 * math.pi)        # full turns within the original context
    blend = (turns >= low) * 1.0 if low == high else np.clip((turns - low) / (high - low), 0, 1)    # no 0 / 0
    return blend * frequency + (1 - blend) * frequency / factor


def rope_angles(positions, head_dim, theta, scaling=None):
    """Cosine and sine of every pair's angle at every position, equation (rope-angle).

    positions (T,) int, the rest as in `rope_frequencies`  ->  cos (T, d/2), sin (T, d/2) float64

    Angles are computed in float64: at position ten million, the product p * f in float32 loses its fraction.
    """
    angle = np.asarray(positions, np.float64)[:, None] * rope_frequencies(head_dim, theta, scaling)
    return np.cos(angle), np.sin(angle)


def rope_angles_2d(grid, head_dim, theta):
    """Cosine and sine for an image's patches: half the pairs rotate by column, half by row, equation (rope-2d).

    grid int, the patches on a side  ->  cos and sin (grid * grid + 1, d/2) float64

    Columns and rows count from one.  The last entry is the class token, which is not rotated.
    """
    frequency = rope_frequencies(head_dim // 2, theta)
    row, column = np.divmod(np.arange(grid * grid), grid)
    angle = np.concatenate([np.outer(column + 1, frequency), np.outer(row + 1, frequency)], axis=1)
    angle = np.concatenate([angle, np.zeros_like(angle[:1])])
    return np.cos(angle), np.sin(angle)


def apply_rope(x, cos, sin):
    """Rotate each pair of neighbouring channels by its token's angle, equation (rope).

    x (B, T, H, d), cos and sin (T, d/2)  ->  (B, T, H, d) in x's dtype
    """
    cos, sin = (a[:, None, :].astype(x.dtype, copy=False) for a in (cos, sin))      # (T, 1, d/2), for all heads
    even, odd = x[..., 0::2], x[..., 1::2]
    y = np.empty_like(x)
    y[..., 0::2] = even * cos - odd * sin
    y[..., 1::2] = even * sin + odd * cos
    return y


def apply_rope_backward(dy, x, cos, sin):
    """Gradient of apply_rope: dy rotated back, equation (rope-backward).

    dy (B, T, H, d), the rest as in `apply_rope`  ->  dx (B, T, H, d).  The angles are not learned.
    """
    return apply_rope(dy, cos, -sin)
