"""What must hold: strategies that draw inputs, and laws that every backend obeys, ours and yours.

One file per component.  Its INPUTS maps each operation to the strategy of its arguments, for the laws that
hold for all operations (universal.py); its LAWS maps each law of its own, `law(ops, *drawn)`, to what it is drawn from.
The tokenizer's and the pictures' laws (bpe.py, image.py) are alike, but about other things than a backend.
"""
from functools import partial
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
MOVES = {"asarray", "asnumpy"}          # into and out of a backend's own arrays: nothing to compute


class Case(NamedTuple):
    """One law about some operations."""

    name: str
    operations: frozenset       # those that it speaks of; empty for a law of the whole model
    law: Any                    # law(ops, *drawn)
    inputs: Any                 # strategy of tuples


def _cases():
    for component in COMPONENTS:
        short = component.__name__.rsplit(".", 1)[-1]
        for name, inputs in component.INPUTS.items():
            yield from _universal(name, inputs)
            if name in reference.DIFFERENTIABLE:
                drawn = gradient.backward_inputs(name, inputs)
                yield from _universal(f"{name}_backward", drawn, gradient.backward_is_the_derivative)
        for law, inputs in component.LAWS.items():
            yield Case(f"{short}: {law.__name__.replace('_', ' ')}", frozenset(component.INPUTS), law, inputs)


def _universal(name, inputs, *more):
    for law in (universal.same_signature, universal.same_as_reference, *more):
        drawn = st.just(()) if law is universal.same_signature else inputs
        yield Case(f"{name}: {law.__name__.replace('_', ' ')}", frozenset({name}), partial(_call, law, name), drawn)


def _call(law, name, ops, *drawn):
    law(ops, name, *drawn)


CASES = tuple(_cases())


def run_law(case, ops, examples=100, seed=None):
    """Look for an input that breaks a law, up to `examples` times.

    case Case, ops module.  Raises what the law raised on the smallest such input, which its notes show.
    """
    @settings(max_examples=examples, deadline=None, database=None, derandomize=seed is None,
              suppress_health_check=list(HealthCheck))
    @given(drawn=case.inputs)
    def law_holds(drawn):
        case.law(ops, *drawn)

    if seed is not None:
        from hypothesis import seed as seeded
        law_holds = seeded(seed)(law_holds)
    with np.printoptions(threshold=32, edgeitems=2, precision=4):       # what broke it should fit on a screen
        law_holds()


def replaced_names(ops):
    """The names that are no longer the reference's own."""
    return [name for name in reference.__all__
            if name not in MOVES and getattr(ops, name, None) is not getattr(reference, name)]


def check(ops, names=None, examples=100):
    """Hold a backend to the laws of the operations it replaces.

    ops module, names list of operations or None for all that are not the reference's own, examples int per law
    ->  yields (law's name, None or what broke it) one by one
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
