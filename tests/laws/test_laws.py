"""Every law, on every backend."""
import numpy as np
import pytest
from hypothesis import given, settings

from tinyscout import laws, reference
from tinyscout.laws.attention import attention_inputs
from tinyscout.laws.universal import as_float64
from tinyscout.reference import attention

NAMES = [case.name.replace(": ", ":").replace(" ", "_") for case in laws.CASES]
LONG = {            # one input takes the simulator seconds: so many of them by default, and all with -m slow
    "text: reading in pieces is reading at once": 3, "sampling: a sweep of draws has the right shares": 3,
    "text: a cache holds no more than it must": 3, "linear: a long sum does not drift": 1,
}


@pytest.mark.parametrize("case", laws.CASES, ids=NAMES)
def test_law(ops, case, examples, simulated):
    if ops is reference and case.name.endswith(": same as reference"):
        examples = min(examples, 5)         # what computes twice gives the same twice
    laws.run_law(case, ops, min(examples, LONG.get(case.name, examples)) if simulated else examples)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_long_law(ops, name, examples):
    [case] = [case for case in laws.CASES if case.name == name]
    laws.run_law(case, ops, examples)


def test_every_operation_has_inputs():
    drawn = set().union(*(component.INPUTS for component in laws.COMPONENTS))
    gradients = {f"{name}_backward" for name in reference.DIFFERENTIABLE}       # whose inputs are made of those of f
    assert drawn == set(reference.__all__) - laws.MOVES - gradients


def test_check_looks_at_what_was_replaced():
    from tinyscout.kernels import c
    assert laws.replaced_names(reference) == []
    not_replaced = {"causal_mask", "chunked_mask", "attention_temperature", "rope_angles", "rope_angles_2d",
                    "rope_frequencies", "quantize", "quantize_rows", "dequantize", "fuse_backward", "patchify_backward",
                    "pixel_shuffle_backward"}
    assert set(reference.__all__) - laws.MOVES - set(laws.replaced_names(c)) == not_replaced


def test_check_says_what_is_broken():
    class Broken:
        """The reference with a gate that never closes."""

        def __getattr__(self, name):
            return getattr(reference, name)

        def swiglu(self, gate, up):
            return gate * up

    results = dict(laws.check(Broken(), ["swiglu"], examples=5))
    assert results["swiglu: same signature"] is None
    assert "off by" in results["swiglu: same as reference"]


@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(attention_inputs())
def test_attention_in_blocks_is_the_formula(args):
    """With blocks so small that there are several of queries and of keys: the same to the last digits of float64."""
    q, k, v, *mask_args = as_float64(args)
    expected = attention.naive_attention(q, k, v, *mask_args)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "MAX_SCORES_PER_BLOCK", 300)
        patch.setattr(attention, "KEYS_PER_BLOCK", 16)
        actual = reference.grouped_query_attention(q, k, v, *mask_args)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)
