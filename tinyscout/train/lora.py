"""Low-rank adapters (LoRA): two thin matrices learn in a wide one's place, and are added into it at the end."""
import numpy as np

TARGET_MODULES = ("w_q", "w_k", "w_v", "w_o", "w_gate", "w_up", "w_down", "w_1", "w_2", "w_projector")


def init_lora(weights, rank, seed):
    """A pair for each matrix: the first random, the second zero, so that at first nothing changes, equation (lora).

    weights dict of arrays, rank int, seed int  ->  {path.a: (..., I, rank), path.b: (..., rank, O)}
    """
    rng, made = np.random.default_rng(seed), {}
    for path, w in weights.items():
        if path.endswith(TARGET_MODULES):
            *stack, I, O = w.shape
            made[f"{path}.a"] = (rng.standard_normal((*stack, I, rank)) * I ** -0.5).astype(w.dtype)
            made[f"{path}.b"] = np.zeros((*stack, rank, O), w.dtype)
    return made


def merge_lora(weights, pairs):
    """The weights with the adapters added in: what is computed with, and what is saved.  dicts  ->  dict"""
    return {path: w + pairs[f"{path}.a"] @ pairs[f"{path}.b"] if f"{path}.a" in pairs else w
            for path, w in weights.items()}


def lora_gradients(pairs, gradients):
    """From the gradients of the merged matrices to those of the adapters.  dicts  ->  dict"""
    found = {}
    for path, g in gradients.items():
        if f"{path}.a" in pairs:
            found[f"{path}.a"] = g @ pairs[f"{path}.b"].swapaxes(-1, -2)
            found[f"{path}.b"] = pairs[f"{path}.a"].swapaxes(-1, -2) @ g
    return found
