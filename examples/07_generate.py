"""
One token at a time
===================

A prompt is read in one pass, an answer is generated token by token, and a cache connects the two.  The model is the
small one in this package: four million parameters that have read Python's standard library.
"""
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np

import tinyscout
from tinyscout.inputs.chat import encode_prompt
from tinyscout.reference import softmax, top_p

model = tinyscout.load(dtype="float32")
code = "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, "
prompt = encode_prompt(code, [], model.tokenizer, model.config).tokens
for seed in (1, 1, 2):                                  # the seed is the only source of randomness
    print(f"seed {seed}:", repr(model.tokenizer.decode(list(model.generate(prompt, max_new_tokens=14, seed=seed)))))

# %%
# The distribution that is sampled
# --------------------------------
# The twelve most likely tokens after the prompt.  Temperature reshapes the whole distribution; top-p cuts off its tail
# and distributes that probability among the rest.

scores = model.logits(prompt)[-1].astype(np.float64)
settings = {f"temperature {heat}": softmax(scores / heat) for heat in (1, 0.6, 0.3)}
settings["0.3, then top-p 0.9"] = top_p(settings["temperature 0.3"], 0.9)
colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.85, 4))
shown = np.argsort(-scores)[:12]
figure, axes = plt.subplots(1, 4, figsize=(9, 3), sharey=True, layout="constrained", num="The next token")
for axis, colour, (name, probability) in zip(axes, colours, settings.items(), strict=True):
    axis.bar(range(12), probability[shown], color=colour)
    axis.set_xticks(range(12), [repr(model.tokenizer.decode([id]))[1:-1] for id in shown], rotation=90)
    axis.set(title=name, xlabel=f"{(probability > 0).sum()} tokens possible")
axes[0].set_ylabel("probability")
plt.show()

# %%
# What the cache holds
# --------------------
# Local layers drop a chunk when the next one begins, and the global layer drops nothing: a sawtooth and a ramp.

text, c, cache, held = np.resize(prompt, 800), model.config.text, model.new_cache(), []
slot = 2 * c.n_kv_heads * c.head_dim * 4                # bytes: keys and values in float32
for token in text:
    model.logits([token], cache=cache)
    held.append([slot * (cache.length - layer.start) / 1024 for layer in cache.layers])
*local, everywhere = np.transpose(held)                 # one row for each of the four layers
_, axis = plt.subplots(figsize=(7.5, 3), num="Memory that the cache takes, by layer")
axis.plot(1 + np.arange(800), sum(local), color=colours[0], label="three local layers together")
axis.plot(1 + np.arange(800), everywhere, color=colours[2], linewidth=2.5, label="one global layer")
axis.set(xlabel="tokens", ylabel="KiB of keys and values", xticks=range(0, 801, c.chunk_size))
axis.legend()
plt.show()

# %%
# Reading is faster than writing
# ------------------------------
# A piece of many tokens reads every weight once, in one matrix product for all of them; one by one, every token reads
# every weight again.  The speeds are those of the machine that built this page.

for size in (1, 10, 200):
    cache, began = model.new_cache(), perf_counter()
    for start in range(0, 200, size):
        model.logits(text[start:start + size], cache=cache)
    print(f"{size:3} at a time: {200 / (perf_counter() - began):7,.0f} tokens per second")
