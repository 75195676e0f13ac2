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
from tinyscout import reference
from tinyscout.config import mini

config = mini(vision=False, chunk=32)
model = tinyscout.random_model(config, seed=4)
prompt = np.random.default_rng(0).integers(0, 400, 48)

# %%
# ``generate`` is an iterator: nothing happens until the next token is asked for, and whoever has heard enough may
# stop asking.  The seed is all the randomness there is.

for seed in (1, 1, 2):
    print(f"seed {seed}:", *model.generate(prompt, max_new_tokens=14, seed=seed))
print("greedy:", *model.generate(prompt, max_new_tokens=14, temperature=0))

# %%
# What the dice look like
# -----------------------
# The twelve likeliest tokens after the prompt.  Temperature bends the whole distribution; top-p cuts its tail off and
# shares what that held among the rest.

scores = model.logits(prompt)[-1].astype(np.float64)
shown = np.argsort(-scores)[:12]
settings = {
    "temperature 1": reference.softmax(scores),
    "temperature 0.6": reference.softmax(scores / 0.6),
    "temperature 0.3": reference.softmax(scores / 0.3),
    "0.3, then top-p 0.9": reference.top_p(reference.softmax(scores / 0.3), 0.9),
}
colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.85, 4))
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

cache = model.new_cache()
t = config.text
slot = 2 * t.n_kv_heads * t.head_dim * 4            # bytes of one token in one layer, float32
held = []
for token in np.random.default_rng(1).integers(0, 400, 160):
    model.logits([token], cache=cache)
    held.append([slot * (cache.length - layer.first) for layer in cache.layers])
held = np.array(held)
chunked = np.array([layer.chunked for layer in t.layers])

figure, axis = plt.subplots(figsize=(7.5, 3))
axis.plot(1 + np.arange(160), held[:, chunked].sum(1) / 1024, color=colours[0], label="three local layers together")
axis.plot(1 + np.arange(160), held[:, ~chunked].sum(1) / 1024, color=colours[2], linewidth=2.5,
          label="one global layer")
axis.set(xlabel="tokens", ylabel="KiB of keys and values", xticks=range(0, 161, 32))
axis.grid(True)
axis.legend()
plt.show()

# %%
# Reading is cheaper than writing
# -------------------------------
# The same 192 tokens, all at once and one by one.  At once, every weight is read a single time and meets all the
# tokens in one matrix product; one by one, it is read 192 times.  The numbers are this machine's, the logits are not.

long = np.random.default_rng(5).integers(0, 400, 192)


def timed(work):
    work()                                          # once to warm up
    began = perf_counter()
    result = work()
    return result, len(long) / (perf_counter() - began)


def write():
    cache = model.new_cache()
    return np.concatenate([model.logits([token], cache=cache) for token in long])


at_once, prefill = timed(lambda: model.logits(long))
one_by_one, decode = timed(write)
print(f"prefill {prefill:8,.0f} tokens per second")
print(f"decode  {decode:8,.0f} tokens per second")
print(f"largest difference of a logit: {np.abs(at_once - one_by_one).max():.0e}")
