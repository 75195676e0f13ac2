"""
What the image becomes
======================

The small model in this package reads an image that it was not trained on.  Which of the sixteen image tokens differ
from the background, and which of them does an answer depend on?
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
objects = [("square", "orange", "large", 1), ("cross", "green", "small", 2), ("circle", "blue", "large", 8)]
scene = Scene("objects", "white", tuple(SceneObject(*one) for one in objects))
image, empty_page = (render(s, config.vision.tile_size) for s in (scene, Scene("objects", "white")))
questions = ["What colour is the square?", "What colour is the cross?", "What shape is the blue object?"]


def prompt(question, image):
    parts = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    return encode_chat([{"role": "user", "content": parts}], model.tokenizer, config)


for question in questions:
    ids = model.generate(*prompt(question, image), max_new_tokens=8, temperature=0)
    print(question, model.tokenizer.decode([id for id in ids if id not in config.stop_ids]))

# %%
# Sixteen vectors
# ---------------
# The tower cuts the image into 64 patches, encodes them together, and merges every four into a token.  How far is each
# from the tokens of an empty page?  Tokens under an object stand out; others encode little more than their position.

features, empty_features = (scout.image_features(prompt("?", page).images, model.weights, config)
                            for page in (image, empty_page))
figure, axes = plt.subplots(1, 2, figsize=(5.5, 2.8), num="Image tokens that differ from the background")
axes[0].imshow(image)
axes[1].imshow(np.linalg.norm(features - empty_features, axis=1).reshape(side, side), cmap="viridis")
for axis, title in zip(axes, ("the image", "distance from an empty page"), strict=True):
    axis.set(xticks=[], yticks=[], title=title)
plt.show()

# %%
# Which tokens an answer depends on
# ---------------------------------
# Each token in turn is replaced by that of the empty page, and the probability of the answer's first token is computed
# again.  Dark squares are tokens for which it falls.

figure, axes = plt.subplots(1, len(questions), figsize=(8, 2.8), num="What the answer depends on")
for axis, question in zip(axes, questions, strict=True):
    tokens, images = prompt(question, image)
    positions = np.flatnonzero(np.array(tokens) == config.patch_id)
    x = scout.embed_inputs(tokens, images, model.weights, config)
    rows = np.repeat(x[None], len(positions) + 1, axis=0)
    rows[np.arange(len(positions)), positions] = empty_features                 # the last row stays unchanged
    last = text_model(rows, model.weights.text, config.text)[:, -1]
    probs = softmax(reference.linear(last, model.weights.text.output))
    probs = probs[:, probs[-1].argmax()]
    axis.imshow((probs[:-1] / probs[-1]).reshape(side, side), cmap="bone", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{question}\n{probs[-1]:.0%} sure", fontsize=7)
plt.show()
