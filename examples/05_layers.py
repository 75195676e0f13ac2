"""
How far does a word reach?
==========================

A local layer looks back to the start of its chunk and no further.  Does a stack of many see further?  Find out by
experiment: change one token, run the layers, and see which outputs change.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.config import layer_plan, tiny_config
from tinyscout.nn.text import text_model
from tinyscout.nn.weights import init_weights

T = 32                                      # tokens; the chunks of this small model hold eight

# %%
# One row of the batch for each changed token
# -------------------------------------------
# Row j of the batch is the same sequence of vectors with a new vector at position j; the last row is unchanged.  In
# double precision, a token that does not depend on the change differs by rounding errors of :math:`10^{-16}`, far below
# any influence.

rng = np.random.default_rng(0)


def influence(layers):
    """How much a change at s changes the output at t.  tuple of Layer  ->  (T, T), row t, column s"""
    config = tiny_config(vision=False, layers=layers)
    weights = init_weights(config, seed=1, dtype=np.float64).text
    x = np.repeat(rng.standard_normal((1, T, config.text.dim)), T + 1, axis=0)
    x[np.arange(T), np.arange(T)] = rng.standard_normal((T, config.text.dim))
    y = text_model(x, weights, config.text)
    return np.abs(y[:T] - y[T]).max(-1).T


stacks = {
    "one local layer": layer_plan(1),
    "three local layers": layer_plan(3),
    "four local layers": layer_plan(4, nope_every=5),
    "three local, one global": layer_plan(4),
}
figure, axes = plt.subplots(1, 4, figsize=(9, 2.9), sharey=True, num="Which tokens a changed token affects")
for axis, (name, layers) in zip(axes, stacks.items(), strict=True):
    change = influence(layers)
    axis.imshow(np.log10(np.where(change > 1e-12, change, np.nan)), vmin=-3, vmax=0.7)
    axis.set(title=name, xticks=range(0, T, 8), yticks=range(0, T, 8), xlabel="changed token")
    print(f"{name:24} the last token depends on {(change[-1] > 1e-12).sum():2} of {T} tokens")
axes[0].set_ylabel("affected token")
plt.show()

# %%
# Local layers fill in their triangles, but no information leaves a chunk: it is a room without a door.  The global
# layer opens one.  A single such layer is enough, since each token it reads has gathered its own chunk.
#
# A layer without positions
# -------------------------
# The global layer does not encode positions.  If you shuffle the past, the output of the last token is the same: the
# mask only separates the past from the future.  The output of a layer with RoPE, in one chunk as long as the text, does
# change.

order = np.append(rng.permutation(T - 1), T - 1)
for name, layer in {"RoPE": layer_plan(1)[0]._replace(chunked=False), "NoPE": layer_plan(4)[3]}.items():
    config = tiny_config(vision=False, layers=(layer,), attn_temperature=False)
    weights = init_weights(config, seed=1, dtype=np.float64).text
    x = rng.standard_normal((1, T, config.text.dim))
    change = np.abs(text_model(x[:, order], weights, config.text) - text_model(x, weights, config.text))[0, -1].max()
    print(f"{name} layer: shuffling the past changes the last token by {change:.1e}")
