"""
Positions as angles
===================

What RoPE does to a pair of channels, how a score depends on distance, and the step in Scout's wavelengths.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.config import SCOUT
from tinyscout.reference import apply_rope, rope_angles, rope_frequencies

t = SCOUT.text
d, theta, scaling = t.head_dim, t.rope_theta, t.rope_scaling

# %%
# Clock hands
# -----------
# One vector at positions 0 to 15, two channels at a time.  Pair 0 turns by a radian per token; pair 24 hardly moves.

x = np.tile([1.0, 0.0], (1, 16, 1, d // 2))             # every pair starts as (1, 0)
hands = apply_rope(x, *rope_angles(np.arange(16), d, theta, scaling)).reshape(16, d // 2, 2)
figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.3), num="Four pairs of channels at positions 0 to 15")
for axis, i in zip(axes, (0, 8, 16, 24), strict=True):
    for p in reversed(range(16)):
        axis.plot(*np.stack([(0, 0), hands[p, i]], 1), "o-", color=plt.cm.viridis(p / 15), markersize=4, markevery=[1])
    axis.set(title=f"pair {i}", aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2))
    axis.axis("off")
plt.show()

# %%
# A score depends on the distance only
# ------------------------------------
# One query and one key, with the key some tokens before the query.  For the line, the query is at position 8191; for
# each dot, it is at a random position in a conversation of ten million tokens.  The dots fall on the line.

rng = np.random.default_rng(4)
key = rng.normal(size=(1, 1, 1, d))
query = key + 0.5 * rng.normal(size=key.shape)          # a query similar to this key


def score(position, distance):
    """The attention score of the query at `position` and the key `distance` tokens before it."""
    q = apply_rope(query.repeat(len(distance), axis=1), *rope_angles(position, d, theta, scaling))
    k = apply_rope(key.repeat(len(distance), axis=1), *rope_angles(position - distance, d, theta, scaling))
    return (q * k).sum(-1).ravel() / d ** 0.5


near = np.unique(np.geomspace(1, 8191, 1500).astype(int))
figure, axis = plt.subplots(figsize=(7.6, 3), num="Scores depend on the distance alone")
axis.semilogx(near, score(np.full(len(near), 8191), near), color=plt.cm.viridis(0.35), linewidth=1)
position, distance = rng.integers(8192, t.max_positions, size=96), rng.choice(near, 96)
axis.scatter(distance, score(position, distance), c=position, s=16, zorder=2)
axis.set(xlabel="distance, tokens", ylabel="score")
axis.grid(True)
plt.show()

# %%
# The step
# --------
# A pair that completes a turn within 8192 tokens stays as it is; one that does not is slowed down sixteen times.

figure, axis = plt.subplots(figsize=(7.6, 3), num="Tokens per turn of each pair")
axis.semilogy(2 * np.pi / rope_frequencies(d, theta), ".", color="0.6", label="by theta alone")
axis.semilogy(2 * np.pi / rope_frequencies(d, theta, scaling), ".", color=plt.cm.viridis(0.35), label="Scout")
axis.axhline(scaling.original, linestyle=":", color="tab:red", label=f"{scaling.original} tokens")
axis.set(xlabel="pair", ylabel="tokens per turn")
axis.grid(True)
axis.legend()
plt.show()
