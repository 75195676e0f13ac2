"""
What the picture becomes
========================

The small model in this package looks at a picture that it never saw, and we look at what it makes of it: which of its
sixteen picture tokens differ from the ground, and which of them an answer cannot do without.
"""
import matplotlib.pyplot as plt
import numpy as np

import tinyscout
from tinyscout import reference
from tinyscout.data.scenes import Scene, SceneObject, render
from tinyscout.inputs.chat import encode_chat
from tinyscout.nn import scout
from tinyscout.nn.text import text_model
from tinyscout.reference import softmax

model = tinyscout.load(dtype="float32")
config, side = model.config, model.config.vision.grid // model.config.vision.pixel_shuffle_factor
scene = Scene("objects", "white", (SceneObject("square", "orange", "large", 1),
                                  SceneObject("cross", "green", "small", 2),
                                  SceneObject("circle", "blue", "large", 8)))
pictures = [render(one, config.vision.tile_size) for one in (scene, Scene("objects", "white"))]     # and an empty page
questions = ["What colour is the square?", "What colour is the cross?", "What shape is the blue object?"]


def prompt(question, picture):
    parts = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    return encode_chat([{"role": "user", "content": parts}], model.tokenizer, config)


for question in questions:
    ids = model.generate(*prompt(question, pictures[0]), max_new_tokens=8, temperature=0)
    print(question, model.tokenizer.decode([id for id in ids if id not in config.stop_ids]))

# %%
# Sixteen vectors
# ---------------
# The tower cut the picture into 64 patches, read them all together, and every four became one token.  How far is each
# from the tokens of an empty page?  The tokens under an object stand out; others know little more than their place.

seen, blank = (scout.image_features(prompt("?", picture).images, model.weights, config) for picture in pictures)
figure, axes = plt.subplots(1, 2, figsize=(5.5, 2.8))
axes[0].imshow(pictures[0])
axes[1].imshow(np.linalg.norm(seen - blank, axis=1).reshape(side, side), cmap="viridis")
for axis, title in zip(axes, ("the picture", "far from an empty page"), strict=True):
    axis.set(xticks=[], yticks=[], title=title)
plt.show()

# %%
# What the answer cannot do without
# ---------------------------------
# Each token in turn is replaced by that of the empty page, and the probability of the answer's first token is taken
# again: dark is where it falls.

figure, axes = plt.subplots(1, len(questions), figsize=(8, 2.8))
for axis, question in zip(axes, questions, strict=True):
    asked = prompt(question, pictures[0])
    at = np.flatnonzero(np.array(asked.tokens) == config.patch_id)
    x = scout.embed_inputs(asked.tokens, asked.images, model.weights, config)
    rows = np.repeat(x[None], len(at) + 1, axis=0)
    rows[np.arange(len(at)), at] = blank                                        # the last row stays whole
    last = text_model(rows, model.weights.text, config.text)[:, -1]
    odds = softmax(reference.linear(last, model.weights.text.output))
    odds = odds[:, odds[-1].argmax()]
    axis.imshow((odds[:-1] / odds[-1]).reshape(side, side), cmap="bone", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{question}\n{odds[-1]:.0%} sure", fontsize=7)
plt.show()
