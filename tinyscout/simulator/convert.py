"""Moves and conversions between types."""
from typing import Any

import numpy as np

from tinyscout.simulator.operands import KINDS, RAW, elementwise
from tinyscout.simulator.registry import register_builder, unknown_instruction


@register_builder("mov")
def mov(instruction):
    """A copy; with braces several registers are joined into one, lower bits first, or one is split."""
    result, source = instruction.operands
    if isinstance(result, list):
        part = 8 * KINDS[instruction.kind].itemsize // len(result)
        steps = [elementwise(instruction, lambda x, n=n: (x >> x.dtype.type(n * part)).astype(RAW[part // 8]),
                             f"b{part}",
                             f"b{8 * KINDS[instruction.kind].itemsize}", operands=[register, source])
                 for n, register in enumerate(result)]

        def split(m):
            for step in steps:
                step(m)
        return split
    if isinstance(source, list):
        bits = 8 * KINDS[instruction.kind].itemsize
        part, wide_type = bits // len(source), RAW[bits // 8]

        def join(*parts):
            total = parts[0].astype(wide_type)
            for n, x in enumerate(parts[1:], 1):
                total = total | x.astype(wide_type) << wide_type.type(n * part)
            return total
        return elementwise(instruction, join, f"b{bits}", *[f"b{part}"] * len(source), operands=[result, *source])
    return elementwise(instruction, lambda x: x, instruction.kind, instruction.kind)


ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@register_builder("cvt")
def cvt(instruction):
    """From the last type to the one before it."""
    words = [word for word in instruction.modifiers if word not in ("ftz", "sat", "rn", "relu", *ROUND)]
    if len(words) != 1 or words[0] not in {*KINDS, "bf16", "f16x2", "bf16x2"}:
        raise unknown_instruction(instruction)
    [result], source = words, instruction.kind
    if result.endswith("x2"):               # the first operand becomes the upper half
        function = conversion(result[:-2], instruction)
        return elementwise(instruction, lambda high, low: np.array(np.broadcast_arrays(function(low), function(high))),
                           result, source, source)
    return elementwise(instruction, conversion(result, instruction), result, source)


def conversion(result, instruction):
    """The function that makes numbers of one type from those of another, as an instruction's words say."""
    rounding = next((ROUND[word] for word in instruction.modifiers if word in ROUND), None)
    dtype: Any = np.dtype(np.float32) if result == "bf16" else KINDS[result]

    def convert(x):
        if rounding:
            x = rounding(x)
        if dtype.kind in "iu" and (x.dtype.kind == "f" or "sat" in instruction.modifiers):
            return convert_saturating(x, dtype)
        if dtype.kind == "f" and "sat" in instruction.modifiers:
            x = np.where(x > 0, np.minimum(x, 1), 0)
        if "relu" in instruction.modifiers:
            x = np.maximum(x, x.dtype.type(0))
        return x.astype(dtype)[()]
    return convert


def convert_saturating(x, dtype):
    """A number as the nearest whole one of a type; NaN is 0."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if x.dtype.kind != "f":
        return np.where(x < low, low, np.where(x > high, high, x)).astype(dtype)[()]
    inside = np.where((x > low) & (x < high), x, 0).astype(dtype)
    return np.where(x >= high, dtype.type(high), np.where(x <= low, dtype.type(low), inside))[()]
