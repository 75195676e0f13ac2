"""
Forty-eight layers with and without a norm
==========================================

What `rms_norm` does to a cloud of points, and what happens to a deep network without it.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.nn.text import feed_forward
from tinyscout.nn.weights import FeedForward
from tinyscout.reference import layer_norm, rms_norm

print(rms_norm(np.array([3.0, 4.0])))

# %%
# The direction is kept, the length is not
# ----------------------------------------
# With two channels, a token is a point.  RMS norm moves every point along its ray from the origin until its root mean
# square is one: onto a circle of radius √2.  Layer norm subtracts the mean first, which leaves one degree of freedom
# out of two: all points land on only two.  With 5120 channels it removes one direction of 5120, so a model can do
# without that step.

rng = np.random.default_rng(4)
points = rng.normal(size=(200, 2)) * [1.4, 0.9] + [0.5, 0.2]
colour = np.arctan2(points[:, 1], points[:, 0])
weight, bias = np.ones(2), np.zeros(2)
results = {"x": points, "rms_norm(x)": rms_norm(points), "layer_norm(x)": layer_norm(points, weight, bias)}

figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.8), sharex=True, sharey=True, num="200 points before and after norms")
for axis, (name, y) in zip(axes, results.items(), strict=True):
    axis.scatter(*y.T, c=colour, s=12, cmap="viridis")
    axis.set(title=name, xlabel="channel 0", aspect="equal")
axes[0].set_ylabel("channel 1")
plt.show()

# %%
# Depth
# -----
# Forty-eight random feed-forward layers, each of which adds its output to the residual stream.  SwiGLU multiplies two
# branches, so twice the input gives about four times the output.  Without a norm, a stream that starts large grows
# quadratically from layer to layer until float32 overflows; to one that starts small, the layers add almost nothing.
# With a norm, every layer reads an input of the same size and adds an output of the same size, whatever the initial
# size of the stream.

D, F, layers = 64, 128, 48
weights = [FeedForward(*(rng.normal(size=shape, scale=shape[0] ** -0.5) for shape in ((D, F), (D, F), (F, D))))
           for _ in range(layers)]
start = rms_norm(rng.normal(size=(16, D)))

figure, axis = plt.subplots(figsize=(7.6, 3.6), num="The size of the stream over 48 layers")
for scale, shade in zip((0.03, 0.3, 3.0), plt.get_cmap("viridis")((0.15, 0.5, 0.85)), strict=True):
    for has_norm, line in ((True, "-"), (False, "--")):
        x, sizes = scale * start, [scale]
        for w in weights:
            x = x + feed_forward(rms_norm(x) if has_norm else x, w)
            sizes.append(np.sqrt(np.mean(x * x)))
            if sizes[-1] > np.finfo(np.float32).max:
                break                                   # float32 would overflow
        name = f"starts at {scale:g}, {'with' if has_norm else 'without'}"
        axis.semilogy(sizes, line, color=shade, label=name, linewidth=2 if has_norm else 1.5)
        print(f"{name:25} layer {len(sizes) - 1:2}: {sizes[-1]:.3g}")
axis.set(xlabel="layer", ylabel="root mean square of the stream", ylim=(1e-2, 1e8), xlim=(0, layers))
axis.grid(True)
axis.legend(ncols=3, fontsize="small", loc="upper right")
plt.show()
