"""Comparisons and choices between two numbers."""
from typing import Any

import numpy as np

from tinyscout.simulator.operands import KINDS, elementwise
from tinyscout.simulator.registry import register_builder, register_instruction, unknown_instruction

COMPARISONS: dict[str, Any] = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
                               "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater,
                               "hs": np.greater_equal,
                               "num": lambda x, y: ~(np.isnan(x) | np.isnan(y)), "nan": lambda x,
                               y: np.isnan(x) | np.isnan(y)}
UNORDERED = {f"{name}u": COMPARISONS[name] for name in ("eq", "ne", "lt", "le", "gt", "ge")}     # or one is NaN
JOINS = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def comparison(instruction):
    """The function of two numbers that the instruction's first word names."""
    name = instruction.modifiers[0]
    if name in UNORDERED:
        return lambda x, y: UNORDERED[name](x, y) | np.isnan(x) | np.isnan(y)
    if name not in COMPARISONS:
        raise unknown_instruction(instruction)
    if name == "ne" and instruction.kind[0] in "fb" and instruction.kind not in ("b16", "b32", "b64"):
        return lambda x, y: (x != y) & ~np.isnan(x) & ~np.isnan(y)
    return COMPARISONS[name]


@register_builder("setp")
def setp(instruction):
    """A predicate from a comparison, and its opposite too; joined with another predicate where the words say so."""
    join = next((JOINS[word] for word in instruction.modifiers[1:] if word in JOINS), None)
    if set(instruction.modifiers[1:]) - {*JOINS, "ftz"}:
        raise unknown_instruction(instruction)
    compare, more = comparison(instruction), ["pred"] if join else []
    both = instruction.operands[0] if isinstance(instruction.operands[0], list) else [instruction.operands[0]]

    def function(opposite):
        def compute(x, y, other=None):
            result = ~compare(x, y) if opposite else compare(x, y)
            return join(result, other) if join else result
        return compute
    steps = [elementwise(instruction, function(n == 1), "pred", instruction.kind, instruction.kind, *more,
                         operands=[p, *instruction.operands[1:]])
             for n, p in enumerate(both)]
    return steps[0] if len(steps) == 1 else both_steps(*steps)


def both_steps(first, second):
    return lambda m: (first(m), second(m))[0]


@register_builder("set")
def set_(instruction):
    """A comparison whose yes is 1.0 or all ones; of packed numbers for each half."""
    compare, result = comparison(instruction), instruction.modifiers[-1]
    yes = None if result[0] in "us" else 1

    def compute(x, y):
        answer: Any = compare(x, y)
        if yes is None:
            return (answer * np.uint32(0xffffffff)).view(KINDS[result])
        return answer.astype(np.float32 if "bf16" in result else np.float16 if "16" in result else np.float32)
    return elementwise(instruction, compute, result, instruction.kind, instruction.kind)


@register_instruction("selp", "T T T pred")
def selp(yes, no, which):
    """The first where the predicate holds, or else the second."""
    return (yes if which else no) if which.ndim == 0 else np.where(which, yes, no)


@register_builder("slct")
def slct(instruction):
    """The first where the third is not negative, or else the second."""
    kind = instruction.modifiers[-1]
    return elementwise(instruction, lambda x, y, sign: selp(x, y, sign >= 0), kind, kind, kind, instruction.kind)


TESTS = {"finite": np.isfinite, "infinite": np.isinf, "number": lambda x: ~np.isnan(x), "notanumber": np.isnan}


@register_builder("testp")
def testp(instruction):
    """What sort of float it is."""
    if instruction.modifiers[0] not in TESTS:
        raise unknown_instruction(instruction)
    return elementwise(instruction, TESTS[instruction.modifiers[0]], "pred", instruction.kind)
