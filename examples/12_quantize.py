"""
Quantization steps and their errors
===================================

A weight in four bits is an integer times a step.  How many weights should share a step, and where do errors come from?
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.reference import dequantize, quantize

# %%
# A staircase
# -----------
# Weights from −1 to 1, in one column, share a step.  Four bits count from −8 to 7, so the stairs reach one step further
# down than up: the largest weights are clipped.

# sphinx_gallery_capture_repr_block = ()
w = np.tile(np.linspace(-1, 1, 8192, dtype=np.float32)[:, None], (1, 16))
colours = plt.get_cmap("viridis")(np.linspace(0.1, 0.85, 3))
figure, (stairs, error) = plt.subplots(1, 2, figsize=(9, 3), num="Quantized weights and their errors")
for bits, colour in [(8, colours[0]), (4, colours[2])]:
    quantized = dequantize(quantize(w, bits, 8192))[:, 0]
    stairs.plot(w[:, 0], quantized, color=colour, linewidth=1.5, label=f"{bits} bits")
    error.plot(w[:, 0], quantized - w[:, 0], color=colour, linewidth=1.5)
stairs.set(xlabel="weight", ylabel="quantized weight")
error.set(xlabel="weight", ylabel="error")
stairs.legend()
plt.show()

# %%
# Short groups and long ones
# --------------------------
# One large weight makes the step coarse for all weights that share it.  So a longer group takes less memory, having
# fewer scales, but has a larger error.  With normal weights, as at initialisation, the error is small; with heavy
# tails, as after training, it is larger.

rng = np.random.default_rng(0)
distributions = {"normal": rng.standard_normal((4096, 64)), "heavy tails": rng.standard_t(4, (4096, 64))}
groups = [8, 16, 32, 64, 128, 256, 512, 1024]
figure, axis = plt.subplots(figsize=(7.5, 3.2), num="Error against bits per weight, by group size")
for (name, weights), colour in zip(distributions.items(), colours, strict=False):
    plain = weights.astype(np.float32)
    errors = [np.linalg.norm(dequantize(quantize(plain, 4, group)) - plain) / np.linalg.norm(plain) for group in groups]
    axis.plot([4 + 16 / group for group in groups], errors, "o-", color=colour, label=name)
for group in groups[:5]:
    axis.annotate(f"{group}", (4 + 16 / group, 0.02), ha="center")
axis.set(ylim=0, xlabel="bits per weight, including scales of 16 bits (labels: group size)", ylabel="relative error")
axis.legend()
plt.show()
