"""
Three ways to bend a distribution
=================================

Temperature, top-k and top-p on real logits: those of the small model in this package, after two prompts.  After the
first the model is almost sure of the next token, and after the second it is not.
"""
import matplotlib.pyplot as plt
import numpy as np

import tinyscout
from tinyscout.inputs.chat import encode_prompt
from tinyscout.reference import sample, softmax, top_k, top_p

model = tinyscout.load(dtype="float32")
prompts = ["    def __init__(self", "if not isinstance("]


def next_logits(text):
    tokens = encode_prompt(text, [], model.tokenizer, model.config).tokens
    return model.logits(tokens)[-1].astype(np.float64)


logits = {text: next_logits(text) for text in prompts}
settings = {
    "as it is": softmax,
    "temperature 0.5": lambda z: softmax(z / 0.5),
    "top-k 5": lambda z: softmax(top_k(z, 5)),
    "top-p 0.9": lambda z: top_p(softmax(z), 0.9),
}

# %%
# Twelve of a thousand tokens
# ---------------------------
# Each bar is a token, and the twelve most likely are shown.  Temperature keeps every token possible and changes all
# ratios.  Top-k leaves the same number of tokens after both prompts.  Top-p leaves few tokens if the model is sure, and
# many if it is not.

colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.85, len(settings)))
figure, axes = plt.subplots(2, 4, figsize=(9, 5), sharey="row", layout="constrained",
                            num="The next token after two prompts, under temperature, top-k and top-p")
for row, (text, z) in zip(axes, logits.items(), strict=True):
    shown = np.argsort(-z)[:12]
    labels = [repr(model.tokenizer.decode([int(id)]))[1:-1] for id in shown]
    for axis, colour, (name, bend) in zip(row, colours, settings.items(), strict=True):
        q = bend(z)
        axis.bar(range(12), q[shown], color=colour)
        axis.set_xticks(range(12), labels, rotation=90)
        axis.set(title=name, xlabel=f"{(q > 0).sum():,} possible")
    row[0].set_ylabel(text.strip())
plt.show()

# %%
# Ten draws
# ---------
# The draws use the same ten points, so only the settings differ.  After the open prompt, unmodified sampling picks a
# token outside the twelve now and then; temperature 0 always picks the most likely one.

points = np.random.default_rng(0).random(10)
choices = {"as it is": {}, "temperature 0.5": {"temperature": 0.5}, "top-k 5": {"k": 5}, "top-p 0.9": {"p": 0.9},
           "temperature 0": {"temperature": 0}}
for name, options in choices.items():
    drawn = [sample(logits[prompts[1]], u, **options) for u in points]
    print(f"{name:15}", " ".join(repr(model.tokenizer.decode([id])) for id in drawn))
