"""
Recall over twenty thousand tokens
==================================

The small model in this package was trained on rows of at most 512 tokens.  Here it has to recall a line from much
further back, in unseen code, with and without the temperature of its global layer.  This takes about two minutes.
"""
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import tinyscout
from tinyscout.data.corpus import load_corpus
from tinyscout.data.needles import encode_lines, make_haystack
from tinyscout.inference.long_context import logits_at
from tinyscout.reference import attention_temperature

model = tinyscout.load(dtype="float32")
config, train_length = model.config, 512
filler = np.concatenate([model.tokenizer.encode(text) for _, text in load_corpus().held_out])
lines = encode_lines(model.tokenizer)
haystack = make_haystack(np.random.default_rng(1), filler, 2000, lines, n_facts=4, n_queries=2,
                         chunk_size=config.text.chunk_size)
first_query = haystack.spans[0, 0] - len(lines.queries[0])
print("...", model.tokenizer.decode(haystack.tokens[first_query - 40:haystack.spans[-1, 1]]), sep="")

# %%
# Counting correct answers
# ------------------------
# A text has eight facts spread over it, and eight queries at its end.  An answer is correct if each of its tokens has
# the highest logit.  Only the positions of the answers attend to the whole text; the others are processed in chunks.


def count_correct(length, config, seed):
    """How many of the eight answers are correct."""
    haystack = make_haystack(np.random.default_rng([seed, length]), filler, length, lines, n_facts=8, n_queries=8,
                             chunk_size=config.text.chunk_size)
    positions = np.concatenate([np.arange(start - 1, stop - 1) for start, stop in haystack.spans])
    logits = logits_at(haystack.tokens, positions, model.weights, config, model.ops)
    is_correct = model.ops.asnumpy(logits).argmax(-1) == haystack.tokens[positions + 1]
    return sum(answer.all() for answer in np.split(is_correct, np.cumsum(np.diff(haystack.spans, axis=1).ravel())[:-1]))


lengths = [512, 2048, 8192, 20_480]
flat = replace(config, text=replace(config.text, attn_temperature=False))
shares = {}
for name, c in (("with temperature", config), ("without", flat)):
    shares[name] = []
    for length in lengths:
        correct = sum(count_correct(length, c, seed) for seed in range(2))
        shares[name].append(correct / 16)
        print(f"{name:17}{length:7,} tokens: {correct:2} of 16", flush=True)
figure, axis = plt.subplots(figsize=(6, 3), num="Facts found, by length of the text")
for (name, points), style in zip(shares.items(), ("o-", "s--"), strict=True):
    axis.plot(lengths, points, style, label=name)
axis.axvspan(256, train_length, color="0.9")
axis.text(train_length * 0.95, 0.05, "trained", ha="right", fontsize=8)
axis.set(xscale="log", xlim=(256, 25_000), ylim=(-0.03, 1.03), xlabel="tokens", ylabel="correct, of 16")
axis.legend(loc="lower left", bbox_to_anchor=(0.25, 0))
plt.show()

# %%
# How much the temperature sharpens a query
# -----------------------------------------
# Not at all before the last token of the trained length; beyond it the factor grows with the position's logarithm.

for length, t in zip(lengths, attention_temperature(np.array(lengths) - 1, config.text.attn_temperature_floor,
                                                    config.text.attn_temperature_scale), strict=True):
    print(f"{length:7,} tokens: x {t:.2f}")
