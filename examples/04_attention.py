"""
Which keys a query sees
=======================

The masks of Scout's two kinds of layer, and the temperature that keeps a long past from drowning the one token that
matters.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.config import SCOUT
from tinyscout.kernels import c
from tinyscout.reference import attention_temperature, causal_mask, chunked_mask, grouped_query_attention

# %%
# Masks
# -----
# Twenty-four tokens and chunks of eight.  A global layer sees the whole past.  A local one sees its own chunk, so the
# first token of a chunk sees only itself.  That is not a sliding window, in which every token would see the last eight.

n, chunk = 24, 8
positions = np.arange(n)
window = causal_mask(positions, positions) & (positions[:, None] - positions < chunk)
masks = {"global (NoPE)": causal_mask(positions, positions), "local (RoPE)": chunked_mask(positions, positions, chunk),
         "a sliding window": window}
figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.9), sharey=True, num="Which keys a query sees: three masks")
for axis, (name, mask) in zip(axes, masks.items(), strict=True):
    axis.imshow(np.where(mask, 0.55 if name == "a sliding window" else 0.25, np.nan), vmin=0, vmax=1)
    axis.set(title=name, xlabel="key", xticks=positions[::chunk], yticks=positions[::chunk])
    axis.set_xticks(np.arange(n) - 0.5, minor=True)
    axis.set_yticks(np.arange(n) - 0.5, minor=True)
    axis.grid(which="minor", linewidth=0.5, alpha=0.25)
    axis.tick_params(which="minor", length=0)
axes[0].set_ylabel("query")
plt.show()
print({name: int(mask.sum()) for name, mask in masks.items()}, "pairs")

# %%
# Temperature
# -----------
# The right key of a query scores 12, the other keys have normal scores around 0.  Ten million of them together outweigh
# the right one.  Scout multiplies the query of a global layer by a factor that grows with its position, in steps of
# 8192 tokens, which look like a curve at this scale; the margin grows with it, and the right key keeps its weight.

t = SCOUT.text
positions = np.geomspace(10, t.max_positions, 400).astype(int)
factor = attention_temperature(positions, t.attn_temperature_floor, t.attn_temperature_scale)


def weight_of_right_key(factor, score=12):
    """Its softmax weight among all keys before the query: the mean of exp(f z) for a normal z is exp(f * f / 2)."""
    return 1 / (1 + positions * np.exp(factor ** 2 / 2 - factor * score))


figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.9), num="Temperature by position")
axes[0].semilogx(positions, factor, color=plt.get_cmap("viridis")(0.35))
axes[0].set(xlabel="position of the query", ylabel="factor on the query")
axes[1].semilogx(positions, weight_of_right_key(factor), color=plt.get_cmap("viridis")(0.35), label="with temperature")
axes[1].semilogx(positions, weight_of_right_key(np.ones(len(positions))), "--", color="0.6", label="without")
axes[1].set(xlabel="position of the query", ylabel="weight of the right key", ylim=(0, 1.02))
axes[1].legend()
for axis in axes:
    axis.grid(True)
plt.show()

# %%
# NumPy computes a row of scores per query.  C reads 64 keys at a time and never holds all scores.  The results agree.
q, k, v = np.random.default_rng(0).standard_normal((3, 1, 500, 2, 64), dtype=np.float32)
gap = np.abs(c.grouped_query_attention(q, k, v) - grouped_query_attention(q, k, v)).max()
print(f"500 tokens: C and NumPy differ by at most {gap:.0e}")
