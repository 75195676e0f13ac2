"""AdamW: steps of about the same size for every weight, whatever the scale of its gradients."""
import numpy as np


def adamw_step(w, g, m, v, step, lr, beta1=0.9, beta2=0.95, eps=1e-8, decay=0.1):
    """One AdamW step, scaled by the moments of past gradients, equations (adamw-moments) and (adamw).

    w weights, g their gradient, m and v running means of g and g * g, all (...); step int from 1; lr, beta1, beta2,
    eps and decay float  ->  new w, m, v

    m and v start as zeros; dividing by 1 - beta**step corrects this bias.  Raises ValueError for a step below 1.
    """
    if step < 1:
        raise ValueError(f"steps are counted from 1, not {step}")
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    update = m / (1 - beta1 ** step) / (np.sqrt(v / (1 - beta2 ** step)) + eps)
    return (1 - lr * decay) * w - lr * update, m, v
