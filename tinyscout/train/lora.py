"""Low-rank adapters (LoRA): two thin matrices learn instead of a wide one, and are added to it at the end."""
import numpy as np

TARGET_MODULES = ("w_q", "w_k", "w_v", "w_o", "w_gate", "w_up", "w_down", "w_1", "w_2", "w_projector")


def init_lora(weights, rank, seed):
    """A pair A, B for each matrix: A random and B zero, so that at first nothing changes, equation (lora).

    weights dict of arrays, rank int, seed int  ->  {path.a: (..., I, rank), path.b: (..., rank, O)}
    """
    rng, lora = np.random.default_rng(seed), {}
    for path, w in weights.items():
        if path.endswith(TARGET_MODULES):
            *stack, I, O = w.shape
            lora[f"{path}.a"] = (rng.standard_normal((*stack, I, rank)) * I ** -0.5).astype(w.dtype)
            lora[f"{path}.b"] = np.zeros((*stack, rank, O), w.dtype)
    return lora


def merge_lora(weights, lora):
    """The weights with A B added: what is computed with, and what is saved.  dicts  ->  dict"""
    return {path: w + lora[f"{path}.a"] @ lora[f"{path}.b"] if f"{path}.a" in lora else w
            for path, w in weights.items()}


def lora_gradients(lora, gradients):
    """From the gradients of the merged matrices to those of A and B.  dicts  ->  dict"""
    result = {}
    for path, g in gradients.items():
        if f"{path}.a" in lora:
            result[f"{path}.a"] = g @ lora[f"{path}.b"].swapaxes(-1, -2)
            result[f"{path}.b"] = lora[f"{path}.a"].swapaxes(-1, -2) @ g
    return result
