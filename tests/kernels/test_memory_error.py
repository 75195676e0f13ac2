"""A kernel that gets no memory raises MemoryError, gives back what it had, and works again the next time.

Which allocation fails is said to C: the first, then the second and so on, until the kernel comes through.
"""
import numpy as np
import pytest

from tinyscout import reference

c = pytest.importorskip("tinyscout.kernels.c", reason="the C extension is not built")
library = pytest.importorskip("tinyscout.kernels.c.library")
lib = library.lib


def normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


X, W, STACK, DOWN = normal(5, 32), normal(32, 48), normal(3, 32, 48), normal(3, 48, 32)
Q, K = normal(1, 7, 4, 8), normal(1, 9, 2, 8)
EXPERT, GATE = np.array([[0], [2], [2], [1], [0]]), np.abs(normal(5, 1))
CALLS = {                       # {operation: arguments with which it takes memory}
    "grouped_query_attention": [(Q, K, K)],
    "grouped_query_attention_backward": [(Q, Q, K, K)],
    "linear": [(X, reference.quantize(W, 8)), (X, reference.quantize(W, 4))],
    "linear_backward": [(normal(5, 48), X, W, normal(48))],
    "router": [(X, W, 2), (X, reference.quantize(W, 4), 2)],
    "router_backward": [(normal(5, 2), X, W, 2)],
    "load_balance": [(X, W, 2), (X, reference.quantize(W, 4), 2)],
    "load_balance_backward": [(0.5, X, W, 2)],
    "experts": [(X, EXPERT, GATE, STACK, STACK, DOWN),
                (X, EXPERT, GATE, *(reference.quantize(w, 4) for w in (STACK, STACK)), DOWN)],
    "experts_backward": [(X, X, EXPERT, GATE, STACK, STACK, DOWN)],
    "rms_norm_backward": [(X, X, normal(32))],
    "layer_norm_backward": [(X, X, normal(32), normal(32))],
    "muon_step": [(W, W, W, 0.1), (STACK, STACK, STACK, 0.1)],
    "top_p": [(np.abs(X), 0.5)],
    "sample": [(normal(40), 0.5, 1.0, 5, 0.9)],
}
WITHOUT = {                     # operations of C that take none
    "rms_norm": (X, normal(32)), "layer_norm": (X, normal(32), normal(32)), "softmax": (X,), "softmax_backward": (X, X),
    "apply_rope": (Q, normal(7, 4), normal(7, 4)), "sigmoid": (X,), "sigmoid_backward": (X, X), "swiglu": (X, X),
    "swiglu_backward": (X, X, X), "gelu": (X,), "gelu_backward": (X, X), "embed": (np.arange(3), W),
    "embed_backward": (normal(3, 48), np.arange(3), W), "patchify": (normal(1, 3, 4, 4), 2),
    "pixel_shuffle": (normal(1, 4, 8), 2), "fuse": (X, np.arange(5) < 2, X[:2]), "top_k": (X, 3),
    "cross_entropy": (X, np.arange(5)), "cross_entropy_backward": (0.5, X, np.arange(5)),
    "soft_cross_entropy": (X, X), "soft_cross_entropy_backward": (0.5, X, X),
    "adamw_step": (X, X, X, np.abs(X), 1, 0.1),
}
HELD = [(name, n) for name, calls in CALLS.items() for n in range(len(calls))]


def same(a, b):
    for x, y in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
        np.testing.assert_array_equal(x, y)


def exhaust(function, arguments):
    """Let each allocation of a call fail in turn  ->  how many there are"""
    expected = function(*arguments)
    for count in range(1, 20):
        lib.fail_allocation(count)
        try:
            given = function(*arguments)
        except MemoryError:
            assert lib.fail_allocation(0) == 0, "an error although nothing failed yet"
        else:
            assert lib.fail_allocation(0) > 0, "an allocation failed and nobody said so"
            same(given, expected)
            return count - 1
        finally:
            lib.fail_allocation(0)
        assert lib.live_allocations() == 0, "memory is lost"
        assert not lib.allocation_failed(), "the failure is still said"
    raise AssertionError("too many allocations for one call")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("name", "n"), HELD)
def test_every_allocation_may_fail(name, n, threads):
    before = c.set_threads(threads)
    try:
        assert exhaust(getattr(c, name), CALLS[name][n]) > 0
    finally:
        c.set_threads(before)


def test_the_numbered_attention_too():
    assert exhaust(c.versions()["grouped_query_attention"]["grouped_query_attention_1"], (Q, K, K)) == 1


@pytest.mark.parametrize("name", WITHOUT)
def test_the_others_need_none(name):
    assert exhaust(getattr(c, name), WITHOUT[name]) == 0


def test_every_operation_is_in_one_of_the_lists():
    kernels = set(vars(lib)) & set(reference.__all__)
    assert kernels == CALLS.keys() | WITHOUT.keys()
    assert CALLS.keys() <= library.ALLOCATING
