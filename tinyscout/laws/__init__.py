"""Laws that every backend must obey, ours and yours, and the strategies that draw their inputs.

One file per component.  Its INPUTS maps each operation to the strategy of its arguments, for the laws of all
operations (universal.py); its LAWS maps each special law, `law(ops, *drawn)`, to the strategy of its inputs.
The laws of the tokenizer and of images (bpe.py, image.py) are similar, but do not concern a backend.
"""
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyscout import reference
from tinyscout.laws import (
    activation,
    adamw,
    attention,
    fusion,
    gradient,
    linear,
    loss,
    moe,
    muon,
    norm,
    patches,
    quantize,
    rope,
    sampling,
    text,
    universal,
    vision,
)

COMPONENTS = (norm, rope, attention, activation, linear, moe, quantize, patches, fusion, sampling, loss, adamw, muon,
              text, vision)
MOVES = {"asarray", "asnumpy"}          # to and from a backend's own arrays: nothing to compute


class Case(NamedTuple):
    """One law about some operations."""

    name: str
    operations: frozenset[str]  # that it concerns; empty for a law of the whole model
    law: Callable               # law(ops, *drawn)
    inputs: Any                 # strategy of tuples


def _cases():
    for component in COMPONENTS:
        component_name = component.__name__.rsplit(".", 1)[-1]
        for name, inputs in component.INPUTS.items():
            yield from _universal_cases(name, inputs)
            if name in reference.DIFFERENTIABLE:
                backward_inputs = gradient.backward_inputs(name, inputs)
                yield from _universal_cases(f"{name}_backward", backward_inputs, gradient.backward_is_the_derivative)
        for law, inputs in component.LAWS.items():
            yield Case(f"{component_name}: {law.__name__.replace('_', ' ')}", frozenset(component.INPUTS), law, inputs)


def _universal_cases(name, inputs, *laws):
    for law in (universal.same_signature, universal.same_as_reference, *laws):
        law_inputs = st.just(()) if law is universal.same_signature else inputs
        yield Case(f"{name}: {law.__name__.replace('_', ' ')}", frozenset({name}), partial(_call_law, law, name),
                   law_inputs)


def _call_law(law, name, ops, *drawn):
    law(ops, name, *drawn)


CASES = tuple(_cases())


def run_law(case: Case, ops: Any, examples: int = 100, seed: int | None = None) -> None:
    """Search up to `examples` inputs for one that breaks a law.

    Raises the law's error for the smallest such input, which the error's notes show.
    """
    @settings(max_examples=examples, deadline=None, database=None, derandomize=seed is None,
              suppress_health_check=list(HealthCheck))
    @given(drawn=case.inputs)
    def law_holds(drawn):
        case.law(ops, *drawn)

    if seed is not None:
        from hypothesis import seed as set_seed
        law_holds = set_seed(seed)(law_holds)
    with np.printoptions(threshold=32, edgeitems=2, precision=4):       # the input should fit on a screen
        law_holds()


def overlay(base: Any, **operations: Callable) -> ModuleType:
    """Make a backend from another one, with some operations replaced."""
    module = ModuleType("overlay")
    vars(module).update({name: getattr(base, name) for name in reference.__all__} | operations)
    return module


def replaced_names(ops: Any) -> list[str]:
    """Names that a backend replaces: those that differ from the reference."""
    return [name for name in reference.__all__
            if name not in MOVES and getattr(ops, name, None) is not getattr(reference, name)]


def check(ops: Any, names: Iterable[str] | None = None, examples: int = 100) -> Iterator[tuple[str, str | None]]:
    """Check a backend against the laws of the operations that it replaces.

    ops module, names of operations or None for all that it replaces, examples for each law
    ->  yields (law's name, None or its error) one by one
    """
    names = set(replaced_names(ops) if names is None else names)
    for case in CASES:
        if not (case.operations & names or (names and not case.operations)):
            continue
        try:
            run_law(case, ops, examples)
        except Exception as error:      # a kernel under test may raise anything
            yield case.name, "\n".join([f"{type(error).__name__}: {error}".rstrip(), *getattr(error, "__notes__", [])])
        else:
            yield case.name, None
