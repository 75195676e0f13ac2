"""Every law, on every backend."""
import pytest

from tinyscout import laws, reference

NAMES = [case.name.replace(": ", ":").replace(" ", "_") for case in laws.CASES]
LONG = {            # one input takes the simulator seconds: so many of them by default, and all with -m slow
    "text: reading in pieces is reading at once": 3, "sampling: a sweep of draws has the right shares": 3,
    "text: a cache holds no more than it must": 3, "linear: a long sum does not drift": 1,
}


@pytest.mark.parametrize("case", laws.CASES, ids=NAMES)
def test_law(ops, case, examples, simulated):
    if ops is reference and case.name.endswith(": same as reference"):
        examples = min(examples, 5)         # what computes twice gives the same twice
    laws.hold(case, ops, min(examples, LONG.get(case.name, examples)) if simulated else examples)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_long_law(ops, name, examples):
    [case] = [case for case in laws.CASES if case.name == name]
    laws.hold(case, ops, examples)


def test_every_operation_has_inputs():
    drawn = set().union(*(component.INPUTS for component in laws.COMPONENTS))
    gradients = {f"{name}_backward" for name in reference.DIFFERENTIABLE}       # theirs are made of those of f
    assert drawn == set(reference.__all__) - laws.MOVES - gradients


def test_check_looks_at_what_was_replaced():
    from tinyscout.kernels import c
    assert laws.replaced(reference) == []
    by_numpy = {"causal_mask", "chunked_mask", "attention_temperature", "rope_angles", "rope_angles_2d",
                "rope_frequencies", "quantize", "quantize_rows", "dequantize", "fuse_backward", "patchify_backward",
                "pixel_shuffle_backward"}
    assert set(reference.__all__) - laws.MOVES - set(laws.replaced(c)) == by_numpy


def test_check_says_what_is_broken():
    class Broken:
        """The reference with a shut gate that is open."""

        def __getattr__(self, name):
            return getattr(reference, name)

        def swiglu(self, gate, up):
            return gate * up

    said = dict(laws.check(Broken(), ["swiglu"], examples=5))
    assert said["swiglu: same signature"] is None
    assert "off by" in said["swiglu: same as reference"]
