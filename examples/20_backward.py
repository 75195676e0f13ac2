"""
Checking a gradient, and why deep networks can learn
====================================================

How to check a gradient with measured differences, and how the residual stream carries gradients through 48 layers.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout import reference as ops
from tinyscout.nn.text import feed_forward
from tinyscout.nn.text_backward import feed_forward_backward
from tinyscout.nn.weights import FeedForward

# %%
# The step of a difference
# ------------------------
# The gradient of one weight of a small model, against (loss(w + h) - loss(w - h)) / 2h.  A large h has an error that
# grows as the square of h.  A small h leaves few digits in the difference of two losses that are nearly equal.

x, target, unit = np.array([[1.0, 2.0]]), np.array([1]), np.array([[0.0, 0, 0], [1, 0, 0]])
w = np.array([[0.5, -1.0, 0.0], [1.0, 0.25, 0.0]])
_, dw, _ = ops.linear_backward(ops.cross_entropy_backward(1.0, ops.linear(x, w), target), x, w)


def loss(w, dtype):
    return dtype(ops.cross_entropy(ops.linear(x.astype(dtype), w.astype(dtype)), target))


colours = plt.get_cmap("viridis")((0.1, 0.75))

figure, axis = plt.subplots(figsize=(7.6, 3.4), num="Error of a central difference, by its step")
for dtype, colour in zip((np.float64, np.float32), colours, strict=True):
    errors = {}
    for h in np.geomspace(1e-12, 1, 73):
        difference = (loss(w + h * unit, dtype) - loss(w - h * unit, dtype)) / (2 * h)
        errors[h] = max(abs(difference - dw[1, 0]), 1e-13)
    axis.loglog(errors.keys(), errors.values(), ".-", color=colour, linewidth=1, label=dtype.__name__)
    print(f"{dtype.__name__}: smallest error {min(errors.values()):.1e} at h = {min(errors, key=errors.get):.1e}")
axis.set(xlabel="step h", ylabel="error of the difference")
axis.legend()
plt.show()

# %%
# Forty-eight layers backward
# ---------------------------
# Random feed-forward layers with norms, once added to the residual stream and once in place of it.  With the stream the
# gradient roughly keeps its length.  Without it, each layer rescales the gradient, and the factors multiply.

D, F, layers = 64, 128, 48
rng = np.random.default_rng(0)
weights = [FeedForward(*(rng.normal(size=shape, scale=0.7 * shape[0] ** -0.5) for shape in ((D, F), (D, F), (F, D))))
           for _ in range(layers)]
figure, axis = plt.subplots(figsize=(7.6, 3.4), num="Length of the gradient at each of 48 layers")
for residual, colour in zip((1, 0), colours, strict=True):
    inputs = [rng.normal(size=(16, D))]
    for layer in weights:
        inputs.append(residual * inputs[-1] + feed_forward(ops.rms_norm(inputs[-1]), layer))
    dy = rng.normal(size=(16, D))
    lengths = [np.linalg.norm(dy)]
    for layer, given in zip(reversed(weights), reversed(inputs[:-1]), strict=True):
        d_normed, _ = feed_forward_backward(dy, ops.rms_norm(given), layer)
        dy = residual * dy + ops.rms_norm_backward(d_normed, given)[0]
        lengths.append(np.linalg.norm(dy))
    name = "with the residual stream" if residual else "without"
    axis.semilogy(range(layers, -1, -1), np.array(lengths) / lengths[0], color=colour, label=name, linewidth=2)
    print(f"{name}: {lengths[-1] / lengths[0]:.2g} of the gradient's length at the first layer")
axis.set(xlabel="layer, from the last to the first", ylabel="length of the gradient", xlim=(layers, 0))
axis.legend()
plt.show()
