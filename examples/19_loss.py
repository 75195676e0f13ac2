"""
Surprise, and two ways down a valley
====================================

How much a token costs, and the steps that gradient descent and Adam take on a loss with one steep and one flat weight.
"""
import matplotlib.pyplot as plt
import numpy as np

from tinyscout.reference import adamw_step, cross_entropy

# %%
# The cost of a token
# -------------------
# The loss of a token is minus the logarithm of its probability, in nats.  The exponential of the mean loss is the
# perplexity: the number of equally likely tokens that would be as hard to guess.

for probability in (1.0, 0.5, 0.25, 0.125, 1e-6):
    logits = np.log([[probability, 1 - probability + 1e-300]])
    print(f"probability {probability:<8g} loss {abs(cross_entropy(logits, np.array([0]))):7.4f} nats")

print("perplexity of three tokens with 1/2, 1/4 and 1/8:", np.exp(-np.mean(np.log([1 / 2, 1 / 4, 1 / 8]))).round(6))

# %%
# A valley
# --------
# This loss of two weights is a hundred times as steep along the second as along the first.  Gradient descent has one
# rate for both.  If it is a little above 0.02, the second weight overshoots further in every step; below that, the
# first one moves slowly.  Adam divides each weight's step by the size of that weight's gradients.

steepness = np.array([1.0, 100.0])
start, steps = np.array([-1.0, 0.35]), 40


def loss(w):
    return 0.5 * np.sum(steepness * w * w, axis=-1)


def descend(rate):
    """Gradient descent, w <- w - rate * gradient  ->  (steps + 1, 2), the path"""
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - rate * steepness * path[-1])
    return np.array(path)


def adam(rate):
    path, m, v = [start], np.zeros(2), np.zeros(2)
    for step in range(1, steps + 1):
        w, m, v = adamw_step(path[-1], steepness * path[-1], m, v, step, rate, beta1=0.8, decay=0.0)
        path.append(w)
    return np.array(path)


figure, (valley, curves) = plt.subplots(1, 2, figsize=(9, 3.6), num="Paths through a valley, and the loss by step")
x, y = np.meshgrid(np.linspace(-1.15, 0.45, 200), np.linspace(-0.45, 0.45, 200))
valley.contour(x, y, loss(np.stack([x, y], -1)), np.geomspace(0.05, 12, 8), colors="grey", alpha=0.7, linewidths=0.8)
colours = plt.get_cmap("viridis")((0.15, 0.75))
for (name, walk, rates), colour in zip((("gradient descent", descend, (0.005, 0.01, 0.019)),
                                        ("Adam", adam, (0.02, 0.04, 0.08))), colours, strict=True):
    for rate, line in zip(rates, (":", "--", "-"), strict=True):
        curves.semilogy(loss(walk(rate)), line, color=colour, label=f"{name}, rate {rate:g}")
        print(f"{name:16} rate {rate:5g}: loss {loss(walk(rate))[-1]:.2g} after {steps} steps")
    valley.plot(*walk(rates[-1]).T, ".-", color=colour, label=f"{name}, rate {rates[-1]:g}", linewidth=1.2)
valley.set(xlabel="first weight", ylabel="second weight, 100 times as steep", ylim=(-0.68, 0.46))
curves.set(xlabel="step", ylabel="loss", xlim=(0, steps), ylim=(1e-7, 20))
valley.legend(fontsize="small", loc="lower right")
curves.legend(fontsize="small", loc="lower left")
plt.show()
