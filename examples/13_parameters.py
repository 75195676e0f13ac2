"""
Counting the parameters
=======================

Scout and Maverick at their real size, without a single weight: a configuration is enough to count the parameters of a
model and the bytes of its cache.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.config import MAVERICK, SCOUT
from tinyscout.nn.weights import count_parameters

# %%
# Two models, one cost per token
# ------------------------------
# Maverick has nearly four times the parameters.  The number that is active for a token is the same to within a tenth of
# a per cent, because a token uses one routed expert per layer, however many there are.

models = {"Scout": SCOUT, "Maverick": MAVERICK}
print(f"{'':10}" + "".join(f"{name:>18}" for name in models))
for part in ("text", "vision", "projector", "total", "routed", "active"):
    print(f"{part:10}" + "".join(f"{getattr(count_parameters(config), part):18,}" for config in models.values()))

# %%
# Nearly all parameters are in experts
# ------------------------------------

def count_by_kind(config):
    """Parameter counts by purpose."""
    t, counts = config.text, count_parameters(config)
    shared = sum(layer.moe for layer in t.layers) * 3 * t.dim * t.hidden_dim
    dense = sum(not layer.moe for layer in t.layers) * 3 * t.dim * t.dense_dim
    vocabulary = 2 * t.vocab_size * t.dim               # the embedding and the output matrix
    rest = counts.text - counts.routed - shared - dense - vocabulary
    return {"routed experts": counts.routed, "shared experts": shared, "dense layers": dense, "vocabulary": vocabulary,
            "attention, norms, routers": rest, "vision and projector": counts.vision + counts.projector}


figure, axis = plt.subplots(figsize=(7.5, 2.8), num="Parameters of Scout and Maverick, by kind")
left = np.zeros(2)
for n, kind in enumerate(count_by_kind(SCOUT)):
    sizes = [count_by_kind(config)[kind] for config in models.values()]
    axis.barh(list(models), sizes, left=left, color=plt.cm.viridis(0.12 + 0.16 * n), label=kind, height=0.55)
    left += sizes
axis.invert_yaxis()
axis.set_xlabel("parameters")
axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1e9:.0f}B")
axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0), fontsize="small")
plt.show()

# %%
# The cache of ten million tokens
# -------------------------------
# Keys and values in bfloat16.  Three layers of four drop a chunk when it ends; if all were global, the cache would be
# four times as large.  The dotted line is the memory of one 80 GB GPU, without weights.

t = SCOUT.text
kv_bytes = 2 * t.n_kv_heads * t.head_dim * 2            # of a token in a layer, bfloat16
tokens = np.geomspace(256, t.max_positions, 200)
irope = sum(kv_bytes * (np.minimum(tokens, t.chunk_size) if layer.chunked else tokens) for layer in t.layers)
figure, axis = plt.subplots(figsize=(7.5, 4), num="The cache against the length of the context")
axis.loglog(tokens, kv_bytes * len(t.layers) * tokens / 1e9, color=plt.cm.viridis(0.6), label="every layer global")
axis.loglog(tokens, irope / 1e9, color=plt.cm.viridis(0.28), label="Scout: one layer in four", linewidth=2.5)
axis.axhline(80, linestyle=":", color="tab:red")
axis.set(xlabel="tokens of context", ylabel="cache, GB")
axis.grid(True)
axis.legend()
plt.show()
