"""The optimizer: learning-rate schedule, gradient clipping, and the AdamW and Muon updates.

Weights, gradients and the optimizer's running means are dicts by path, with the names of `weights.named_arrays`.
"""
import math

import numpy as np

from tinyscout import reference

ADAMW_ONLY = ("embedding", "output", "w_router", "w_patch")    # matrices of one-hot rows, choices or pixels


def lr_schedule(recipe, step):
    """The learning rate at a step (from 1), relative to the peak: warmup, then half a cosine, equation (schedule).

    If the recipe has several cycles, each is a separate cosine with a separate height.
    """
    ends = [0, *(round(until * recipe.steps) for until, _ in recipe.cycles)]
    begin, end, height = next((begin, end, height) for begin, end, (_, height)
                              in zip(ends, ends[1:], recipe.cycles, strict=False) if step <= end)
    cosine = 0.5 * (1 + math.cos(math.pi * (step - begin - 1) / (end - begin)))
    warmup = min(1.0, step / recipe.warmup if recipe.warmup else 1.0)
    return height * warmup * (recipe.min_lr_ratio + (1 - recipe.min_lr_ratio) * cosine)


def uses_muon(path, array, recipe):
    """True if Muon updates this array: a hidden matrix, or a stack of experts' matrices."""
    return recipe.optimizer == "muon" and array.ndim >= 2 and not path.endswith(ADAMW_ONLY)


def mean_gradients(batch_gradients):
    """Mean of several gradient dicts; a missing entry counts as zero."""
    total: dict = {}
    for gradients in batch_gradients:
        for path, g in gradients.items():
            total[path] = total[path] + g if path in total else g
    return {path: g / len(batch_gradients) for path, g in total.items()} if len(batch_gradients) > 1 else total


def global_norm(gradients):
    """The norm of all gradients as one vector.  dict  ->  float"""
    return math.sqrt(sum(float((g * g).sum(dtype=np.float64)) for g in gradients.values()))


def optimizer_step(weights, gradients, opt_state, recipe, step, ops=reference):
    """Update all weights.

    weights, gradients dicts of arrays, opt_state dict of {path: (m,) or (m, v)}, step int from 1
    ->  weights, opt_state, the gradient's norm before clipping.  Weights without a gradient are unchanged.
    """
    norm, lr_scale = global_norm(gradients), lr_schedule(recipe, step)
    clip_scale = min(1.0, recipe.grad_clip / norm) if norm else 1.0
    weights, opt_state = dict(weights), dict(opt_state)
    for path, g in gradients.items():
        w, g = weights[path], g * np.float32(clip_scale)
        if uses_muon(path, w, recipe):
            [m] = opt_state.get(path) or [np.zeros_like(w)]
            w, *moments = ops.muon_step(w, g, m, lr_scale * recipe.muon_lr, decay=recipe.weight_decay)
        else:
            m, v = opt_state.get(path) or [np.zeros_like(w)] * 2
            decay = recipe.weight_decay if w.ndim > 1 else 0.0
            w, *moments = ops.adamw_step(w, g, m, v, step, lr_scale * recipe.lr, *recipe.betas, decay=decay)
        weights[path], opt_state[path] = w, tuple(moments)
    return weights, opt_state, norm
