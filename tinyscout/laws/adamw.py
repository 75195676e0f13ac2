"""Laws of a step of AdamW."""
import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import lengths, random_normal, rngs, small_sizes
from tinyscout.laws.universal import EPS, assert_close, compute_by_definition

steps = st.sampled_from([1, 2, 10, 100_000])
learning_rates = st.sampled_from([1e-2, 3e-4])


@st.composite
def adamw_step_inputs(draw):
    """Moments that gradients of some size can produce: v is at least m squared, otherwise steps have any length."""
    rng, shape, size = draw(rngs()), (draw(small_sizes), draw(lengths)), draw(st.sampled_from([1.0, 1e-3, 1e2]))
    m = random_normal(rng, *shape, size=size / 3)
    v = m * m + np.square(random_normal(rng, *shape, size=size))
    return (random_normal(rng, *shape), random_normal(rng, *shape, size=size), m, v, draw(steps), draw(learning_rates),
            draw(st.sampled_from([0.9, 0.8])), draw(st.sampled_from([0.95, 0.999])),
            draw(st.sampled_from([1e-8, 1e-2])), draw(st.sampled_from([0.0, 0.1])))


def a_step_is_its_definition(ops, w, g, m, v, step, lr, beta1, beta2, eps, decay):
    """Weight decay comes before the update, as in torch.optim.AdamW."""
    def by_definition(w, g, m, v, *_):
        w = w * (1 - lr * decay)
        m, v = m + (1 - beta1) * (g - m), v + (1 - beta2) * (g * g - v)
        return w - lr / (1 - beta1 ** step) * m / (np.sqrt(v) / np.sqrt(1 - beta2 ** step) + eps)

    def new_weights(*args):
        return reference.adamw_step(*args)[0]

    args = w, g, m, v, step, lr, beta1, beta2, eps, decay
    assert_close(ops.adamw_step(*args)[0], compute_by_definition(new_weights, by_definition, *args))


def the_first_step_is_as_long_as_the_rate(ops, w, g, m, v, step, lr, beta1, beta2, eps, decay):
    """After bias correction, the first moments are the gradient and its square, so the step is lr times its sign."""
    zeros, g = np.zeros_like(w), np.where(np.abs(g) < 1e-6, np.float32(1), g)
    stepped, _, _ = ops.adamw_step(zeros, g, zeros, zeros, 1, lr, beta1, beta2, 0.0, decay)
    np.testing.assert_allclose(stepped, -lr * np.sign(g), rtol=16 * EPS)


def decay_is_apart_from_the_gradient(ops, w, g, m, v, step, lr, beta1, beta2, eps, decay):
    """Without present or past gradients, weights only shrink by the decay; the moments do not depend on the decay."""
    zeros = np.zeros_like(w)
    shrunk, *means = ops.adamw_step(w, zeros, zeros, zeros, step, lr, beta1, beta2, 1e-8, 0.5)
    np.testing.assert_allclose(shrunk, (1 - 0.5 * lr) * w, rtol=2 * EPS)
    assert not any(mean.any() for mean in means)
    with_decay, without = (ops.adamw_step(w, g, m, v, step, lr, beta1, beta2, eps, d)[1:] for d in (0.5, 0.0))
    np.testing.assert_array_equal(with_decay, without)


def the_size_of_the_gradients_does_not_matter(ops, w, g, m, v, step, lr, beta1, beta2, eps, decay):
    """With eps 0, gradients four times as large give the same step."""
    stepped, _, _ = ops.adamw_step(w, g, m, v, step, lr, beta1, beta2, 0.0, decay)
    scaled, _, _ = ops.adamw_step(w, 4 * g, 4 * m, 16 * v, step, lr, beta1, beta2, 0.0, decay)
    np.testing.assert_allclose(scaled, stepped, rtol=2 * EPS, atol=4 * EPS * lr)


INPUTS = {"adamw_step": adamw_step_inputs()}
LAWS = {
    a_step_is_its_definition: adamw_step_inputs(),
    the_first_step_is_as_long_as_the_rate: adamw_step_inputs(),
    decay_is_apart_from_the_gradient: adamw_step_inputs(),
    the_size_of_the_gradients_does_not_matter: adamw_step_inputs(),
}
