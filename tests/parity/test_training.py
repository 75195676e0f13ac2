"""The loss and AdamW against torch's own."""
import numpy as np
import pytest

from tinyscout.laws.universal import EPS

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(("N", "V", "ignored"), [(1, 5, 0), (33, 257, 0), (33, 257, 12)])
def test_cross_entropy(ops, N, V, ignored):
    rng = np.random.default_rng(N)
    logits, targets = rng.normal(size=(N, V)) * 5, rng.integers(0, V, N)
    targets[:ignored] = -100
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(targets)).item()
    assert ops.cross_entropy(logits, targets) == pytest.approx(expected, rel=1e-12)
    assert ops.cross_entropy(logits.astype(np.float32), targets) == pytest.approx(expected, rel=4 * EPS)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.8, 0.999)])
def test_adamw(ops, decay, betas):
    """Ten steps with a gradient that changes sign and size."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(7, 33))
    theirs = torch.nn.Parameter(torch.tensor(w))
    optimiser = torch.optim.AdamW([theirs], lr=1e-2, betas=betas, eps=1e-8, weight_decay=decay)
    state = w, np.zeros_like(w), np.zeros_like(w)
    state32 = tuple(a.astype(np.float32) for a in state)
    for step in range(1, 11):
        g = rng.normal(size=w.shape) * 10.0 ** rng.integers(-3, 2)
        theirs.grad = torch.tensor(g)
        optimiser.step()
        arguments = step, 1e-2, *betas, 1e-8, decay
        state = ops.adamw_step(state[0], g, *state[1:], *arguments)
        state32 = ops.adamw_step(state32[0], g.astype(np.float32), *state32[1:], *arguments)
    expected = theirs.detach().numpy()
    np.testing.assert_allclose(state[0], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state32[0], expected, atol=10 * 4 * EPS * np.abs(expected).max())     # a few per step
