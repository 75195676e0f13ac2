"""
Who asks which expert
=====================

Four experts in four layers, random weights, and thirty-two tokens.  The router's decisions are made inside the model;
to see them, hand the model a router that takes notes.
"""
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np

import tinyscout
from tinyscout import reference
from tinyscout.config import mini

# %%
# A backend that watches
# ----------------------
# A backend is a module with the reference's names, some of them replaced.  This one replaces ``router``.

notes = []


def router(x, w_router, top_k=1):
    expert, gate = reference.router(x, w_router, top_k)
    notes.append((expert[:, 0], gate[:, 0]))
    return expert, gate


watching = ModuleType("watching")
vars(watching).update({name: getattr(reference, name) for name in reference.__all__}, router=router)

config = mini(vision=False)
model = tinyscout.random_model(config, backend=watching, seed=5)
tokens = np.random.default_rng(2).integers(0, config.text.vocab_size, 32)
model.logits(tokens)

# %%
# A column is a token, a row is a layer.  Colour says which expert it was sent to, and a paler square has a gate that
# is less open.  Neighbours often go the same way, because attention told them the same things: a chunk of eight reads
# one text.  From layer to layer the numbers of the experts mean nothing to each other.

chosen, gates = (np.stack(each) for each in zip(*notes, strict=True))        # (layers, T) each
E = config.text.n_experts
colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.95, E))
squares = colours[chosen]
squares[..., 3] = gates
figure, (axis, load) = plt.subplots(1, 2, figsize=(9, 2.2), width_ratios=(4, 1), sharey=True)
axis.imshow(squares, aspect="auto")
axis.set(xlabel="token", ylabel="layer", yticks=range(len(chosen)))
left = np.zeros(len(chosen))
for e in range(E):
    share = (chosen == e).sum(1)
    load.barh(range(len(chosen)), share, left=left, color=colours[e], height=0.7, label=e)
    left += share
load.set_xlabel("tokens per expert")
figure.legend(title="expert", ncols=E, loc="outside upper right", fontsize="small")
plt.show()
print(f"gates from {gates.min():.2f} to {gates.max():.2f}; in training, experts that sit idle would be a worry")

# %%
# In front of the expert or behind it?
# ------------------------------------
# The gate multiplies what the expert *reads*.  An expert is not linear, so this is something else than multiplying
# what it says.  Left, the smallest expert there is, every matrix the number 1, reading a 2.  Right, an expert of the
# model: how far apart the two orders end up, relative to the answer at a gate of one.

s = np.linspace(0, 1, 101)
x = np.full(101, 2.0)
before, behind = reference.swiglu(s * x, s * x), s * reference.swiglu(x, x)

w = model.weights.text.blocks[0].feed_forward.experts
row = np.random.default_rng(3).standard_normal((1, config.text.dim)).astype(np.float32)
rows, here = np.repeat(row, 101, axis=0), np.zeros((101, 1), int)
opened = s.astype(np.float32)[:, None]
inside = reference.experts(rows, here, opened, *w)
outside = opened * reference.experts(rows, here, np.ones_like(opened), *w)
apart = np.linalg.norm(inside - outside, axis=1) / np.linalg.norm(outside[-1])

figure, (one, many) = plt.subplots(1, 2, figsize=(9, 2.8))
one.plot(s, before, color=colours[0], linewidth=2.5, label="gate scales the input")
one.plot(s, behind, color=colours[2], linestyle="--", label="gate scales the output")
one.set(xlabel="gate", ylabel="answer")
one.legend()
many.plot(s, apart, color=colours[1], linewidth=2.5)
many.set(xlabel="gate", ylabel="relative distance", ylim=(0, None))
plt.show()
print(f"at a gate of one half: {before[50]:.3f} before, {behind[50]:.3f} behind; "
      f"in the model they differ by {100 * apart[50]:.0f}% of the full answer")

# %%
# Nobody else is woken
# --------------------
# One token visits one expert per layer.  The others are not multiplied by zero; they are not read.

notes.clear()
model.logits(tokens[:1])
print("one token visits", ", ".join(f"expert {int(e[0])} in layer {n}" for n, (e, _) in enumerate(notes)))
one_expert = sum(part[0].nbytes for part in w)
print(f"reading {len(notes) * one_expert:,} bytes of routed experts out of {len(notes) * E * one_expert:,}")
