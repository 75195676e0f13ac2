"""Every law, on every backend."""
import pytest

from tinyscout import laws, reference

NAMES = [case.name.replace(": ", ":").replace(" ", "_") for case in laws.CASES]


@pytest.mark.parametrize("case", laws.CASES, ids=NAMES)
def test_law(ops, case, examples):
    laws.hold(case, ops, examples)


def test_every_operation_has_inputs():
    drawn = set().union(*(component.INPUTS for component in laws.COMPONENTS))
    assert drawn == set(reference.__all__) - laws.MOVES


def test_check_looks_at_what_was_replaced(ops):
    assert all(name in laws.replaced(ops) for name in ("linear",)) or ops is reference
