"""Comparisons, and selections between two numbers."""
from typing import Any

import numpy as np

from tinyscout.simulator.operands import DTYPES, elementwise
from tinyscout.simulator.registry import register_builder, register_instruction, unknown_instruction


def is_unordered(x, y):
    """True if x or y is NaN."""
    return np.isnan(x) | np.isnan(y)


COMPARISONS: dict[str, Any] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
    "num": lambda x, y: ~is_unordered(x, y), "nan": is_unordered}
UNORDERED = {f"{name}u": COMPARISONS[name] for name in ("eq", "ne", "lt", "le", "gt", "ge")}     # or one is NaN
LOGICAL = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def make_comparison(instruction):
    """Return the comparison of two numbers that the instruction's first modifier names."""
    name = instruction.modifiers[0]
    if name in UNORDERED:
        return lambda x, y: UNORDERED[name](x, y) | is_unordered(x, y)
    if name not in COMPARISONS:
        raise unknown_instruction(instruction)
    if name == "ne" and instruction.type in ("f16", "f32", "f64", "bf16", "f16x2", "bf16x2"):
        return lambda x, y: (x != y) & ~is_unordered(x, y)
    return COMPARISONS[name]


@register_builder("setp")
def setp(instruction):
    """Set a predicate from a comparison, or two opposite ones; .and, .or and .xor combine it with another predicate."""
    combine = next((LOGICAL[modifier] for modifier in instruction.modifiers[1:] if modifier in LOGICAL), None)
    if set(instruction.modifiers[1:]) - {*LOGICAL, "ftz"}:
        raise unknown_instruction(instruction)
    compare = make_comparison(instruction)
    source_types = [instruction.type, instruction.type] + (["pred"] if combine else [])
    results = instruction.operands[0] if isinstance(instruction.operands[0], list) else [instruction.operands[0]]

    def make_function(is_opposite):
        def compute(x, y, other=None):
            result = ~compare(x, y) if is_opposite else compare(x, y)
            return combine(result, other) if combine else result
        return compute
    steps = [elementwise(instruction, make_function(n == 1), "pred", *source_types,
                         operands=[result, *instruction.operands[1:]]) for n, result in enumerate(results)]
    return steps[0] if len(steps) == 1 else run_both(*steps)


def run_both(first, second):
    return lambda m: (first(m), second(m))[0]


@register_builder("set")
def set_(instruction):
    """Compare; the result is 1.0 or all ones if true, else 0, and separate for each half of packed numbers."""
    compare, result_type = make_comparison(instruction), instruction.modifiers[-1]
    float_dtype = np.float16 if result_type in ("f16", "f16x2") else np.float32

    def compute(x, y):
        holds: Any = compare(x, y)
        if result_type[0] in "us":
            return (holds * np.uint32(0xffffffff)).view(DTYPES[result_type])
        return holds.astype(float_dtype)
    return elementwise(instruction, compute, result_type, instruction.type, instruction.type)


@register_instruction("selp", "T T T pred")
def selp(x, y, predicate):
    """x if the predicate is true, else y."""
    return (x if predicate else y) if predicate.ndim == 0 else np.where(predicate, x, y)


@register_builder("slct")
def slct(instruction):
    """The first operand if the third is not negative, else the second."""
    ptx_type = instruction.modifiers[-1]
    return elementwise(instruction, lambda x, y, z: selp(x, y, z >= 0), ptx_type, ptx_type, ptx_type, instruction.type)


FLOAT_CLASSES = {"finite": np.isfinite, "infinite": np.isinf, "number": lambda x: ~np.isnan(x), "notanumber": np.isnan}


@register_builder("testp")
def testp(instruction):
    """Test the class of a float: finite, infinite, a number, or not a number."""
    if instruction.modifiers[0] not in FLOAT_CLASSES:
        raise unknown_instruction(instruction)
    return elementwise(instruction, FLOAT_CLASSES[instruction.modifiers[0]], "pred", instruction.type)
