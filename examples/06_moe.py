"""
Which expert each token uses
============================

Four experts in four layers, random weights, and thirty-two tokens.  The router's decisions are made inside the model;
to see them, give the model a router that records them.
"""
from dataclasses import replace
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np

from tinyscout import random_model, reference
from tinyscout.config import tiny_config
from tinyscout.kernels import c

# %%
# A backend that records
# ----------------------
# A backend is a module with the reference's names, some of them replaced.  This one replaces ``router``.

notes = []


def router(x, w_router, top_k=1):
    expert, gate = reference.router(x, w_router, top_k)
    notes.append((expert[:, 0], gate[:, 0]))
    return expert, gate


recording_ops = ModuleType("recording_ops")
vars(recording_ops).update({name: getattr(reference, name) for name in reference.__all__}, router=router)
model = random_model(tiny_config(vision=False), backend=recording_ops, seed=5)
tokens = np.random.default_rng(2).integers(0, 512, 32)
gap = np.abs(replace(model, ops=c).logits(tokens) - model.logits(tokens)).max()
print(f"C, whose router records nothing, gives the same logits to within {gap:.0e}")

# %%
# A column is a token, a row is a layer.  The colour is the expert that the token was sent to; the paler the square, the
# smaller the gate.  Neighbours often use the same expert, because attention gave them similar inputs: the tokens of a
# chunk of eight read the same text.  The numbers of the experts of different layers are unrelated.

chosen, gates = (np.stack(layers) for layers in zip(*notes, strict=True))    # (layers, T) each
colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.95, 4))
squares = colours[chosen]
squares[..., 3] = gates
figure, (axis, load) = plt.subplots(1, 2, figsize=(9, 2.2), width_ratios=(4, 1), sharey=True, num="Experts by token")
axis.imshow(squares, aspect="auto")
axis.set(xlabel="token", ylabel="layer", yticks=range(4))
visits = (chosen[..., None] == np.arange(4)).sum(1)     # (layers, E)
for e in range(4):
    load.barh(range(4), visits[:, e], left=visits[:, :e].sum(1), color=colours[e], height=0.7, label=e)
load.set_xlabel("tokens per expert")
figure.legend(title="expert", ncols=4, loc="outside upper right", fontsize="small")
plt.show()

# %%
# Before or after the expert?
# ---------------------------
# The gate multiplies the *input* of the expert.  An expert is not linear, so multiplying its output gives another
# result.  Here is the smallest possible expert: every matrix is the number 1, and the input is 2.

s = np.linspace(0, 1, 101)
figure, axis = plt.subplots(figsize=(7.5, 3), num="Gate before or after the expert")
axis.plot(s, reference.swiglu(s * 2, s * 2), color=colours[0], linewidth=2.5, label="gate scales the input")
axis.plot(s, s * reference.swiglu(np.array(2.0), np.array(2.0)), "--", color=colours[2], label="gate scales the output")
axis.set(xlabel="gate", ylabel="output")
axis.legend()
plt.show()
