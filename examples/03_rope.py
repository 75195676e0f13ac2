"""
Positions as angles
===================

What RoPE does to a pair of channels, what a score then knows of distance, and two numbers of Scout's that matter far
out: the step in its wavelengths, and the precision of its angles.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.config import SCOUT
from tinyscout.reference import apply_rope, rope_angles, rope_frequencies

t = SCOUT.text
d, theta, scaling = t.head_dim, t.rope_theta, t.rope_scaling
viridis = plt.get_cmap("viridis")

# %%
# Clock hands
# -----------
# The same vector at positions 0 to 15, seen two channels at a time.  Pair 0 turns by one radian per token.  Pair 8
# needs 32 tokens for a full turn, pair 16 needs 167, and pair 24 has hardly begun.

positions = np.arange(16)
x = np.zeros((1, len(positions), 1, d))
x[..., 0::2] = 1                                        # every pair starts as (1, 0)
y = apply_rope(x, *rope_angles(positions, d, theta, scaling))[0, :, 0]
figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.3))
for axis, i in zip(axes, (0, 8, 16, 24), strict=True):
    for p in positions[::-1]:
        axis.plot([0, y[p, 2 * i]], [0, y[p, 2 * i + 1]], "o-", color=viridis(p / 15), markersize=4, markevery=[1])
    axis.set(title=f"pair {i}", aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    axis.axis("off")
plt.show()

# %%
# A score knows the distance and nothing else
# -------------------------------------------
# One query and one key, the key a number of tokens behind.  The line has the query at position 8191; for the dots it
# stands at eight other places in a conversation of ten million tokens.  They fall on the line.


def score(q, k, position, distance):
    """q at `position` with k at `distance` tokens before it: the product that attention sees."""
    turned_q = apply_rope(q, *rope_angles([position], d, theta, scaling))
    turned_k = apply_rope(k.repeat(len(distance), axis=1), *rope_angles(position - distance, d, theta, scaling))
    return (turned_q * turned_k).sum(-1).ravel() / d ** 0.5


rng = np.random.default_rng(4)
key = rng.normal(size=(1, 1, 1, d))
query = key + 0.5 * rng.normal(size=key.shape)          # a query that looks for about this key
near = np.unique(np.geomspace(1, 8191, 1500).astype(int))
figure, axis = plt.subplots(figsize=(7.6, 3))
axis.semilogx(near, score(query, key, 8191, near), color=viridis(0.35), linewidth=1)
for position in rng.integers(8192, t.max_positions, size=8):
    some = rng.choice(near, 12)
    axis.plot(some, score(query, key, position, some), "o", color=viridis(position / t.max_positions), markersize=4)
axis.set(xlabel="distance, tokens", ylabel="score")
axis.grid(True)
plt.show()

# %%
# The step
# --------
# Tokens per turn.  A pair that completes a turn within 8192 tokens stays as it is; one that does not is slowed down
# sixteen times.

plain, scaled = 2 * np.pi / rope_frequencies(d, theta), 2 * np.pi / rope_frequencies(d, theta, scaling)
figure, axis = plt.subplots(figsize=(7.6, 3))
axis.semilogy(plain, ".", color="0.6", label="by theta alone")
axis.semilogy(scaled, ".", color=viridis(0.35), label="Scout")
axis.axhline(scaling.original, linestyle=":", color="tab:red", label=f"{scaling.original} tokens")
axis.set(xlabel="pair", ylabel="tokens per turn")
axis.grid(True)
axis.legend()
plt.show()
print(f"{(plain != scaled).sum()} of {d // 2} pairs are slowed; the slowest turns once in {scaled[-1]:,.0f} tokens")

# %%
# Angles far out
# --------------
# An angle is position times frequency, and all that matters of it is what is left after the full turns.  In float32
# seven digits serve both, and at ten million the turns have used them up.  Shown is the largest error among 64 pairs.

far = np.geomspace(1, t.max_positions, 300).astype(int)
exact = np.outer(far, rope_frequencies(d, theta, scaling))
single = np.outer(far.astype(np.float32), rope_frequencies(d, theta, scaling).astype(np.float32))
figure, axis = plt.subplots(figsize=(7.6, 3))
axis.loglog(far, np.abs(single - exact).max(1), color=viridis(0.35), linewidth=1, label="angle made in float32")
rounded = np.abs(np.cos(exact).astype(np.float32) - np.cos(exact)).max(1)
axis.loglog(far, rounded, color=viridis(0.75), linewidth=1, label="made in float64, its cosine rounded to float32")
axis.axvline(t.chunk, linestyle=":", color="tab:red", label="end of the first chunk")
axis.set(xlabel="position", ylabel="error, radians")
axis.grid(True)
axis.legend()
plt.show()
