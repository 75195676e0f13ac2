"""Laws of a step of Muon."""
import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import random_normal, rngs
from tinyscout.laws.universal import assert_close, compute_expected

sides = st.sampled_from([1, 2, 16, 31, 33, 65])
stacks = st.sampled_from([(), (1,), (3,)])          # one matrix, or one for each of several experts


@st.composite
def muon_step_inputs(draw):
    rng, shape = draw(rngs()), (*draw(stacks), draw(sides), draw(sides))
    size = draw(st.sampled_from([1.0, 1e-3, 1e2]))
    return (random_normal(rng, *shape), random_normal(rng, *shape, size=size),
            random_normal(rng, *shape, size=size / 3),
            draw(st.sampled_from([0.02, 1e-3])), draw(st.sampled_from([0.95, 0.5])), draw(st.sampled_from([0.0, 0.1])))


def a_step_is_long_in_every_direction(ops, w, g, m, lr, momentum, decay):
    """For any gradient, the step's singular values are between 0.3 and 1.3, except if the gradient's are near zero."""
    stepped, _ = ops.muon_step(np.zeros_like(w), g, np.zeros_like(g), lr, momentum, decay)
    length = lr * max(1, w.shape[-1] / w.shape[-2]) ** 0.5
    step_values = np.linalg.svd(stepped.astype(np.float64), compute_uv=False) / length
    g_values = np.linalg.svd(g.astype(np.float64), compute_uv=False)
    is_large = g_values > 0.02 * np.sqrt((g_values ** 2).sum(-1, keepdims=True))
    assert (step_values < 1.3).all()
    assert (step_values[is_large] > 0.3).all()


def experts_do_not_see_each_other(ops, w, g, m, lr, momentum, decay):
    """A step of a stack of matrices equals the steps of the single matrices."""
    truth = compute_expected(lambda w, g, m: np.stack(reference.muon_step(w, g, m, lr, momentum, decay)), w, g, m)
    matrices = zip(*(a.reshape(-1, *w.shape[-2:]) for a in (w, g, m)), strict=True)
    results = [ops.muon_step(*w_g_m, lr, momentum, decay) for w_g_m in matrices]           # (w, m) of each matrix
    assert_close(np.stack([np.stack(stack).reshape(w.shape) for stack in zip(*results, strict=True)]), truth)


INPUTS = {"muon_step": muon_step_inputs()}
LAWS = {a_step_is_long_in_every_direction: muon_step_inputs(), experts_do_not_see_each_other: muon_step_inputs()}
