"""Laws of the mixture of experts."""
import numpy as np
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws.draw import counts, random_normal, rngs
from tinyscout.laws.universal import assert_close, compute_by_definition, compute_expected


@st.composite
def router_inputs(draw):
    """Scores so far apart that rounding cannot change a choice: integers plus a small random part."""
    rng, N, E = draw(rngs()), draw(counts), draw(st.integers(1, 17))
    scores = rng.permuted(np.tile(np.arange(E), (N, 1)), axis=1) + rng.uniform(-0.2, 0.2, (N, E))
    rotation = np.linalg.qr(rng.standard_normal((E, E)))[0]             # so that every channel takes part
    x, w = (scores - E / 2) @ rotation.T, rotation
    return x.astype(np.float32), w.astype(np.float32), draw(st.integers(1, E))


@st.composite
def experts_inputs(draw):
    """Experts that no token chose, one expert for all tokens, and cases in between."""
    rng, N, E = draw(rngs()), draw(counts), draw(st.integers(1, 5))
    D, F = draw(st.sampled_from([1, 3, 33])), draw(st.sampled_from([1, 2, 31]))
    k = draw(st.integers(1, E))
    order = rng.permuted(np.tile(np.arange(E), (N, 1)), axis=1)[:, :k]
    expert = np.tile(order[:1], (N, 1)) if draw(st.booleans()) else order
    gate = rng.uniform(0.01, 1, (N, k)).astype(np.float32)
    return (random_normal(rng, N, D), expert, gate, random_normal(rng, E, D, F, size=D ** -0.5),
            random_normal(rng, E, D, F, size=D ** -0.5), random_normal(rng, E, F, D, size=F ** -0.5))


def the_best_are_chosen(ops, x, w_router, top_k):
    """The chosen experts are those with the highest scores, best first, each only once."""
    expert, gate = ops.router(x, w_router, top_k)
    scores = x.astype(np.float64) @ w_router
    np.testing.assert_array_equal(expert, np.argsort(-scores, axis=1)[:, :top_k])
    assert ((gate > 0) & (gate < 1)).all()


def gates_do_not_compete(ops, x, w_router, top_k):
    """A gate depends only on the score of its expert, not on how many experts are chosen."""
    expert, gate = ops.router(x, w_router, top_k)
    top_expert, top_gate = ops.router(x, w_router, 1)
    np.testing.assert_array_equal(expert[:, :1], top_expert)
    np.testing.assert_array_equal(gate[:, :1], top_gate)


def renaming_experts_renames_the_choice(ops, x, w_router, top_k):
    order = np.random.default_rng(0).permutation(w_router.shape[1])
    expert, _ = ops.router(x, w_router, top_k)
    renamed, _ = ops.router(x, np.ascontiguousarray(w_router[:, order]), top_k)
    np.testing.assert_array_equal(order[renamed], expert)


def of_equals_the_lower_expert_wins(ops, x, w_router, top_k):
    expert, gate = ops.router(np.zeros_like(x), w_router, top_k)
    np.testing.assert_array_equal(expert, np.tile(np.arange(top_k), (len(x), 1)))
    assert (gate == 0.5).all()


def an_even_spread_costs_one_and_one_for_all_costs_most(ops, x, w_router, top_k):
    """Equal scores cost 1, whichever experts are chosen; a probability of one for one expert costs E."""
    E = w_router.shape[1]
    np.testing.assert_allclose(ops.load_balance(x, np.zeros_like(w_router), top_k), 1, rtol=1e-6)
    one_sided = np.zeros_like(w_router)
    one_sided[:, 0] = 1e4
    np.testing.assert_allclose(ops.load_balance(np.ones_like(x), one_sided, 1), E, rtol=1e-6)


def dispatch_is_the_dense_loop(ops, x, expert, gate, w_gate, w_up, w_down):
    """The result equals that of all experts on all tokens with gate 0 if not chosen, which transformers computes."""
    def dense(x, expert, gate, w_gate, w_up, w_down):
        gates = np.zeros((len(x), len(w_gate)), x.dtype)
        np.put_along_axis(gates, expert, gate, axis=1)
        y = np.zeros_like(x)
        for e in range(len(w_gate)):
            gated = x * gates[:, e:e + 1]
            y += reference.swiglu(gated @ w_gate[e], gated @ w_up[e]) @ w_down[e]
        return y
    args = x, expert, gate, w_gate, w_up, w_down
    assert_close(ops.experts(*args), compute_by_definition(reference.experts, dense, *args))


def experts_that_nobody_chose_are_not_touched(ops, x, expert, gate, w_gate, w_up, w_down):
    """Their weights may be NaN: if a checkpoint is larger than memory, only the chosen experts are read."""
    idle = np.setdiff1d(np.arange(len(w_gate)), expert)
    weights = [w.copy() for w in (w_gate, w_up, w_down)]
    before = ops.experts(x, expert, gate, *weights)
    for w in weights:
        w[idle] = np.nan
    np.testing.assert_array_equal(ops.experts(x, expert, gate, *weights), before)


def tokens_do_not_see_each_other(ops, x, expert, gate, w_gate, w_up, w_down):
    """Shuffling the tokens shuffles the results."""
    order = np.random.default_rng(0).permutation(len(x))
    weights = (w_gate, w_up, w_down)
    truth = compute_expected(reference.experts, x, expert, gate, *weights)
    assert_close(ops.experts(x[order], expert[order], gate[order], *weights), truth[order])


INPUTS = {"router": router_inputs(), "load_balance": router_inputs(), "experts": experts_inputs()}
LAWS = {
    the_best_are_chosen: router_inputs(),
    gates_do_not_compete: router_inputs(),
    renaming_experts_renames_the_choice: router_inputs(),
    of_equals_the_lower_expert_wins: router_inputs(),
    an_even_spread_costs_one_and_one_for_all_costs_most: router_inputs(),
    dispatch_is_the_dense_loop: experts_inputs(),
    experts_that_nobody_chose_are_not_touched: experts_inputs(),
    tokens_do_not_see_each_other: experts_inputs(),
}
