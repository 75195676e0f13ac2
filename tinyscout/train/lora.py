"""Low-rank adapters (LoRA): for each weight matrix, train two thin matrices whose product is added to it."""
import numpy as np

TARGET_MODULES = ("w_q", "w_k", "w_v", "w_o", "w_gate", "w_up", "w_down", "w_1", "w_2", "w_projector")


def init_lora(weights, rank, seed):
    """Make a pair A, B for each matrix: A random and B zero, so that the model is unchanged at first, equation (lora).

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
    """The weights with A B added, for computing and for saving.  dicts  ->  dict"""
    return {path: w + lora[f"{path}.a"] @ lora[f"{path}.b"] if f"{path}.a" in lora else w
            for path, w in weights.items()}


def lora_gradients(lora, gradients):
    """Gradients of A and B from those of the merged matrices.  dicts  ->  dict"""
    result = {}
    for path, g in gradients.items():
        if f"{path}.a" in lora:
            result[f"{path}.a"] = g @ lora[f"{path}.b"].swapaxes(-1, -2)
            result[f"{path}.b"] = lora[f"{path}.a"].swapaxes(-1, -2) @ g
    return result
