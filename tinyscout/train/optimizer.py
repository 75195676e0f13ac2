"""From gradients to new weights: a rate that rises and falls, gradients that are not too long, and two kinds of steps.

Weights, gradients and their running means are dicts by path here, as `weights.named` names them.
"""
import math

import numpy as np

from tinyscout import reference

ADAMW_ONLY = ("embedding", "output", "w_router", "w_patch")    # matrices that meet one-hot rows, choices or pixels


def lr_schedule(recipe, step):
    """The part of the full rate at a step from 1: a straight line up, then half a cosine down, equation (schedule).

    Where the recipe has several rounds, each is a cosine of its own, from its own height.
    """
    ends = [0, *(round(until * recipe.steps) for until, _ in recipe.cycles)]
    begin, end, height = next((begin, end, height) for begin, end, (_, height)
                              in zip(ends, ends[1:], recipe.cycles, strict=False) if step <= end)
    fall = 0.5 * (1 + math.cos(math.pi * (step - begin - 1) / (end - begin)))
    warm = min(1.0, step / recipe.warmup if recipe.warmup else 1.0)
    return height * warm * (recipe.min_lr_ratio + (1 - recipe.min_lr_ratio) * fall)


def uses_muon(path, array, recipe):
    """Is this a hidden matrix, or a stack of experts' matrices, which Muon steps?"""
    return recipe.optimizer == "muon" and array.ndim >= 2 and not path.endswith(ADAMW_ONLY)


def mean_gradients(several):
    """The mean of dicts of gradients, in which what was not met is missing and counts as zero."""
    total: dict = {}
    for gradients in several:
        for path, g in gradients.items():
            total[path] = total[path] + g if path in total else g
    return {path: g / len(several) for path, g in total.items()} if len(several) > 1 else total


def global_norm(gradients):
    """The length of all gradients as one vector.  dict  ->  float"""
    return math.sqrt(sum(float((g * g).sum(dtype=np.float64)) for g in gradients.values()))


def optimizer_step(weights, gradients, means, recipe, step, ops=reference):
    """All weights one step on.

    weights, gradients dicts of arrays, means dict of {path: (m,) or (m, v)}, step int from 1
    ->  weights, means, the gradient's length before it was cut.  Weights without a gradient stay as they are.
    """
    norm, share = global_norm(gradients), lr_schedule(recipe, step)
    scale = min(1.0, recipe.grad_clip / norm) if norm else 1.0
    weights, means = dict(weights), dict(means)
    for path, g in gradients.items():
        w, g = weights[path], g * np.float32(scale)
        if uses_muon(path, w, recipe):
            [m] = means.get(path) or [np.zeros_like(w)]
            w, *kept = ops.muon_step(w, g, m, share * recipe.muon_lr, decay=recipe.weight_decay)
        else:
            m, v = means.get(path) or [np.zeros_like(w)] * 2
            decay = recipe.weight_decay if w.ndim > 1 else 0.0
            w, *kept = ops.adamw_step(w, g, m, v, step, share * recipe.lr, *recipe.betas, decay=decay)
        weights[path], means[path] = w, tuple(kept)
    return weights, means, norm
