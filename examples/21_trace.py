"""
One prompt through the whole model
==================================

A backend is the reference with some names replaced.  Replace all of them by functions that record their arguments
and results, and one pass of the model leaves a complete record: every operation, every shape, every value.
"""
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np

import tinyscout
from tinyscout import reference
from tinyscout.data.scenes import Scene, SceneObject, render
from tinyscout.inputs.chat import encode_chat

calls = []      # (name, arguments, result) of every operation, in order


def record(name):
    """The operation of that name, which also writes down each call."""
    def call(*args):
        calls.append((name, args, result := getattr(reference, name)(*args)))
        return result
    return call


recorder = ModuleType("recorder")
vars(recorder).update({name: record(name) for name in reference.__all__})
model = tinyscout.load(backend=recorder, dtype="float32")
objects = (("square", "purple", "large", 2), ("cross", "green", "small", 3), ("circle", "orange", "large", 7))
image = render(Scene("objects", "white", tuple(SceneObject(*one) for one in objects)), model.config.vision.tile_size)
parts = [{"type": "image", "image": image}, {"type": "text", "text": "Where is the square?"}]
tokens, images = encode_chat([{"role": "user", "content": parts}], model.tokenizer, model.config)
calls.clear()
logits = model.logits(tokens, images)
print("The next token:", model.tokenizer.decode([int(logits[-1].argmax())]))

# %%
# The table has the vision tower first, then the layers of the text model, each from one attention norm to the next.

for name, args, result in calls:
    if name in ("asarray", "asnumpy", "attention_temperature") or name.startswith("rope_angles"):
        continue                                            # not about the vectors
    y = result[1] if name == "router" else result           # of the router the gates; result[0] are the experts
    inputs = " ".join(str(a.shape) for a in args if np.ndim(a))
    print(f"{name:24}{inputs:>52}  {y.shape!s:16}{np.min(y):8.2f} to {np.max(y):.2f}")

# %%
# The last token, layer by layer
# ------------------------------
# The size of its vector before each norm of the residual stream, the tokens it attends to, and the expert it visits.

normed = [args[0] for name, args, _ in calls if name == "rms_norm" and args[1] is not None]     # not the QK norm
stream = [np.sqrt(np.mean(x[0, -1] ** 2)) for x in normed]
visited = [result[0][-1, 0] for name, _, result in calls if name == "router"]
reads = [args[:2] for name, args, _ in calls if name == "grouped_query_attention" and args[3]]      # causal: the text's
figure, (left, right) = plt.subplots(1, 2, num="The last token by layer", figsize=(8.6, 3.6), width_ratios=(1, 2.6))
left.plot(np.arange(len(stream)) / 2, stream, "o-", color=plt.get_cmap("viridis")(0.35))
left.set(xlabel="layers done", ylabel="size of the last token's vector", xticks=range(len(visited) + 1))
for n, expert in enumerate(visited):
    left.annotate(f"expert {expert}", (n + 1, stream[2 * n + 2] + 0.06), ha="right", fontsize=7)
H, K, d = model.config.text.n_heads, model.config.text.n_kv_heads, model.config.text.head_dim
weights = [reference.softmax(k[0, :, h * K // H] @ q[0, -1, h] / np.sqrt(d)) for q, k in reads for h in range(H)]
right.imshow(weights, cmap="viridis", aspect="auto")
right.set(yticks=range(0, len(weights), H), yticklabels=[f"layer {n + 1}" for n in range(len(reads))])
right.set_xticks(range(len(tokens)), [model.tokenizer.decode([t]).strip() for t in tokens], rotation=90, fontsize=6)
right.set_title(f"attention of the last token, {H} heads in each layer")
plt.show()
