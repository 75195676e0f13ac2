"""
One token at a time
===================

A prompt is read in one go, an answer is made token by token, and between the two lies a cache.  The model is tiny and
its weights are random, so what it says is noise; how it says it is exactly how Scout would.
"""
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np

import tinyscout
from tinyscout.config import mini
from tinyscout.reference import softmax, top_p

model = tinyscout.random_model(mini(vision=False, chunk=32), seed=4)
prompt = np.random.default_rng(0).integers(0, 400, 48)
for seed in (1, 1, 2):                                  # the seed is all the randomness there is
    print(f"seed {seed}:", *model.generate(prompt, max_new_tokens=14, seed=seed))

# %%
# What the dice look like
# -----------------------
# The twelve likeliest tokens after the prompt.  Temperature bends the whole distribution; top-p cuts its tail off and
# shares what that held among the rest.

scores = model.logits(prompt)[-1].astype(np.float64)
settings = {f"temperature {heat}": softmax(scores / heat) for heat in (1, 0.6, 0.3)}
settings["0.3, then top-p 0.9"] = top_p(settings["temperature 0.3"], 0.9)
colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.85, 4))
shown = np.argsort(-scores)[:12]
figure, axes = plt.subplots(1, 4, figsize=(9, 2.3), sharey=True)
for axis, colour, (name, probability) in zip(axes, colours, settings.items(), strict=True):
    axis.bar(range(12), probability[shown], color=colour)
    axis.set(title=name, xticks=[], xlabel=f"{(probability > 0).sum()} tokens possible")
axes[0].set_ylabel("probability")
plt.show()

# %%
# What the cache holds
# --------------------
# Local layers forget a chunk when the next begins, the global layer forgets nothing: a saw beside a ramp.

text = np.random.default_rng(1).integers(0, 400, 160)
slot = 2 * 2 * 16 * 4                                   # bytes: keys and values, two heads, 16 channels, float32
cache, held = model.new_cache(), []
for token in text:
    model.logits([token], cache=cache)
    held.append([slot * (cache.length - layer.first) / 1024 for layer in cache.layers])
*local, everywhere = np.transpose(held)                 # one row for each of the four layers
figure, axis = plt.subplots(figsize=(7.5, 3))
axis.plot(1 + np.arange(160), sum(local), color=colours[0], label="three local layers together")
axis.plot(1 + np.arange(160), everywhere, color=colours[2], linewidth=2.5, label="one global layer")
axis.set(xlabel="tokens", ylabel="KiB of keys and values", xticks=range(0, 161, 32))
axis.grid(True)
axis.legend()
plt.show()

# %%
# Reading is faster than writing
# ------------------------------
# A piece of many tokens reads every weight once and meets them all in one matrix product; one by one, every token
# reads every weight again.  The numbers are this machine's.

for size in (1, 10, 160):
    cache, began = model.new_cache(), perf_counter()
    for start in range(0, 160, size):
        model.logits(text[start:start + size], cache=cache)
    print(f"{size:3} at a time: {160 / (perf_counter() - began):7,.0f} tokens per second")
