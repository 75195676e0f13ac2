"""
Where the parameters are
========================

Scout and Maverick at their real size, without a single weight: a configuration is enough to count what a model is made
of, and what it must remember.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.config import MAVERICK, SCOUT
from tinyscout.weights import count

# %%
# Two models, one cost per token
# ------------------------------
# Maverick has nearly four times the parameters.  What works on a token is the same to within a tenth of a per cent,
# because a token visits one routed expert per layer however many stand beside it.

models = {"Scout": SCOUT, "Maverick": MAVERICK}
counts = {name: count(config) for name, config in models.items()}
print(f"{'':10}" + "".join(f"{name:>18}" for name in models))
for part in ("text", "vision", "projector", "total", "routed", "active"):
    print(f"{part:10}" + "".join(f"{getattr(counts[name], part):18,}" for name in models))

# %%
# Nearly everything is an expert
# ------------------------------

def parts(config):
    """Parameters by what they do."""
    t, n = config.text, count(config)
    shared = sum(layer.moe for layer in t.layers) * 3 * t.dim * t.hidden_dim
    dense = sum(not layer.moe for layer in t.layers) * 3 * t.dim * t.dense_dim
    vocabulary = (1 if t.tied else 2) * t.vocab_size * t.dim
    return {
        "routed experts": n.routed, "shared experts": shared, "dense layers": dense, "vocabulary": vocabulary,
        "attention, norms, routers": n.text - n.routed - shared - dense - vocabulary,
        "vision and projector": n.vision + n.projector,
    }


figure, axes = plt.subplots(figsize=(7.5, 2.8))
left = np.zeros(2)
colours = plt.get_cmap("viridis")(np.linspace(0.12, 0.92, 6))
for part, colour in zip(parts(SCOUT), colours, strict=True):
    sizes = [parts(config)[part] for config in models.values()]
    axes.barh(list(models), sizes, left=left, color=colour, label=part, height=0.55)
    left += sizes
axes.invert_yaxis()
axes.set_xlabel("parameters")
axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1e9:.0f}B")
axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0), fontsize="small")
plt.show()

# %%
# What ten million tokens leave behind
# ------------------------------------
# Keys and values in bfloat16.  Three layers of four forget a chunk when it ends; if all were global, the cache
# would be four times as large.  The dotted line is one 80 GB card, weights not counted.

t = SCOUT.text
per_layer = 2 * t.n_kv_heads * t.head_dim * 2       # bytes that a token leaves in a layer
local = sum(layer.chunked for layer in t.layers)
tokens = np.geomspace(256, t.max_positions, 200)
every_layer = per_layer * len(t.layers) * tokens
irope = per_layer * ((len(t.layers) - local) * tokens + local * np.minimum(tokens, t.chunk))

figure, axes = plt.subplots(figsize=(7.5, 4))
axes.loglog(tokens, every_layer / 1e9, label="every layer global", color=colours[3])
axes.loglog(tokens, irope / 1e9, label="Scout: one layer in four", color=colours[1], linewidth=2.5)
axes.axhline(80, linestyle=":", color="tab:red")
axes.set(xlabel="tokens of context", ylabel="cache, GB")
axes.grid(True)
axes.legend()
plt.show()
print(f"{every_layer[-1] / 1e9:.1f} GB against {irope[-1] / 1e9:.1f} GB at {t.max_positions:,} tokens")
