"""
A backend that records attention
================================

A backend is the reference with some names replaced.  This one replaces one function: it computes attention as usual,
and records the weights of the last token, which predicts the first token of the answer.
"""
from types import SimpleNamespace

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
image = render(scene, config.vision.tile_size)
notes: list = []


def grouped_query_attention(q, k, v, causal=True, chunk=None, kv_start=0):
    keys = np.repeat(k[0], q.shape[2] // k.shape[2], axis=1)                    # (S, H, d)
    notes.append(softmax(np.einsum("hd,shd->hs", q[0, -1], keys) / q.shape[-1] ** 0.5))
    return reference.grouped_query_attention(q, k, v, causal, chunk, kv_start)


noting = SimpleNamespace(**{name: getattr(reference, name) for name in dir(reference)}
                         | {"grouped_query_attention": grouped_query_attention})

# %%
# Attention to the image
# ----------------------
# The weights of the sixteen image tokens; for each layer, those of the head that gives them the most weight.

questions = ["What colour is the square?", "What colour is the cross?", "What shape is the blue object?"]
figure, axes = plt.subplots(len(questions), 5, figsize=(9, 5.4), num="Attention from the last token, by layer")
for row, question in zip(axes, questions, strict=True):
    parts = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    prompt = encode_chat([{"role": "user", "content": parts}], model.tokenizer, config)
    x = scout.embed_inputs(prompt.tokens, prompt.images, model.weights, config)
    notes.clear()
    last = text_model(x[None], model.weights.text, config.text, ops=noting)[0, -1:]
    answer = model.tokenizer.decode([int(reference.linear(last, model.weights.text.output).argmax())])
    image_positions = np.flatnonzero(np.array(prompt.tokens) == config.patch_id)
    row[0].imshow(image)
    row[0].set_title(f"{question}\n{answer}", fontsize=7)
    for n, (axis, weights) in enumerate(zip(row[1:], notes, strict=True), 1):
        best = weights[weights[:, image_positions].sum(1).argmax(), image_positions]
        axis.imshow(best.reshape(side, side), cmap="magma", vmin=0)
        axis.set_title(f"layer {n}: {best.sum():.0%} of the weight", fontsize=7)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
plt.show()
