"""
What the picture becomes
========================

The small model in this package looks at a picture that it never saw, and we look at what it makes of it: which of its
sixteen picture tokens differ from the ground, which of them the answer reads, and which it cannot do without.
"""
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

import tinyscout
from tinyscout import reference, scout
from tinyscout.chat import encode_chat
from tinyscout.data.scenes import Scene, Thing, draw
from tinyscout.reference import softmax
from tinyscout.text import text_model

model = tinyscout.load(dtype="float32")
config, side = model.config, model.config.vision.grid // model.config.vision.shuffle
scene = Scene("things", "white", (Thing("circle", "blue", "large", 0), Thing("star", "red", "large", 5),
                                  Thing("square", "green", "large", 7)))
picture = draw(scene, config.vision.tile_size)
questions = ["What colour is the star?", "What colour is the circle?", "What shape is the green object?"]


def prompt(question, picture):
    parts = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    return encode_chat([{"role": "user", "content": parts}], model.tokenizer, config)


def reply(question):
    ids = model.generate(*prompt(question, picture), max_new_tokens=8, temperature=0)
    return model.tokenizer.decode([id for id in ids if id not in config.stop_ids])


for question in questions:
    print(question, reply(question))

# %%
# Sixteen vectors
# ---------------
# The tower cut the picture into 64 patches, read them all together, and every four became one token.  How far is each
# from the tokens of an empty page?  The tokens under an object stand out; others know little more than their place.

first = prompt(questions[0], picture)
empty = draw(Scene("things", "white"), config.vision.tile_size)
seen, blank = (scout.image_features([pixels], model.weights, config)
               for pixels in (first.images[0], prompt("?", empty).images[0]))
figure, axes = plt.subplots(1, 2, figsize=(5.5, 2.8))
axes[0].imshow(picture)
axes[1].imshow(np.linalg.norm(seen - blank, axis=1).reshape(side, side), cmap="viridis")
for axis, title in zip(axes, ("the picture", "far from an empty page"), strict=True):
    axis.set(xticks=[], yticks=[], title=title)
plt.show()

# %%
# Who reads whom
# --------------
# A backend is the reference with names replaced, so a backend that takes notes is one function: it computes attention
# as ever and writes down how much the last token, where the answer begins, reads of each token.  Shown are the sixteen
# of the picture, for each layer the head that reads most of them.


def watching(notes):
    """The reference, which notes down the last query's weights (H, S) of every attention."""
    def grouped_query_attention(q, k, v, causal=True, chunk=None, first=0):
        keys = np.repeat(k[0], q.shape[2] // k.shape[2], axis=1)                # (S, H, d)
        notes.append(softmax(np.einsum("hd,shd->hs", q[0, -1], keys) / q.shape[-1] ** 0.5))
        return reference.grouped_query_attention(q, k, v, causal, chunk, first)
    names = {name: getattr(reference, name) for name in dir(reference)}
    return SimpleNamespace(**names | {"grouped_query_attention": grouped_query_attention})


figure, axes = plt.subplots(len(questions), 5, figsize=(9, 5.4))
for row, question in zip(axes, questions, strict=True):
    asked, notes = prompt(question, picture), []
    x = scout.embed(asked.tokens, asked.images, model.weights, config)
    text_model(x[None], model.weights.text, config.text, ops=watching(notes))
    at = np.flatnonzero(np.array(asked.tokens) == config.patch_id)
    row[0].imshow(picture)
    row[0].set_title(f"{question}\n{reply(question)}", fontsize=7)
    for n, (axis, weights) in enumerate(zip(row[1:], notes, strict=True), 1):
        best = weights[weights[:, at].sum(1).argmax(), at]
        axis.imshow(best.reshape(side, side), cmap="magma", vmin=0)
        axis.set_title(f"layer {n}: {best.sum():.0%} of it", fontsize=7)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
plt.show()

# %%
# What the answer cannot do without
# ---------------------------------
# Reading is not yet using.  So each token in turn is replaced by that of the empty page, and the probability of the
# answer's first token is taken again: dark is where it falls.

figure, axes = plt.subplots(1, len(questions), figsize=(8, 2.8))
for axis, question in zip(axes, questions, strict=True):
    asked = prompt(question, picture)
    at = np.flatnonzero(np.array(asked.tokens) == config.patch_id)
    x = scout.embed(asked.tokens, asked.images, model.weights, config)
    rows = np.repeat(x[None], len(at) + 1, axis=0)
    rows[np.arange(len(at)), at] = blank                                        # the last row stays whole
    last = text_model(rows, model.weights.text, config.text)[:, -1]
    odds = softmax(reference.linear(last, model.weights.text.output))
    odds = odds[:, odds[-1].argmax()]
    axis.imshow((odds[:-1] / odds[-1]).reshape(side, side), cmap="bone", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{question}\n{odds[-1]:.0%} sure", fontsize=7)
plt.show()
