"""Moves and conversions between types."""
from typing import Any

import numpy as np

from tinyscout.simulator.operands import DTYPES, RAW_DTYPES, STORAGE_TYPES, elementwise
from tinyscout.simulator.registry import register_builder, unknown_instruction


@register_builder("mov")
def mov(instruction):
    """Copy a register; with braces, pack several registers into one, the lowest bits first, or unpack one."""
    result, source = instruction.operands
    if isinstance(result, list):
        return unpack(instruction, result, source)
    if isinstance(source, list):
        return pack(instruction, result, source)
    return elementwise(instruction, lambda x: x, instruction.type, instruction.type)


def unpack(instruction, registers, source):
    """mov.b32 {a, b}, c"""
    bits = 8 * DTYPES[instruction.type].itemsize
    width = bits // len(registers)
    dtype = RAW_DTYPES[width // 8]
    steps = [elementwise(instruction, lambda x, shift=n * width: (x >> x.dtype.type(shift)).astype(dtype), f"b{width}",
                         f"b{bits}", operands=[register, source])
             for n, register in enumerate(registers)]

    def step(m):
        for unpack_one in steps:
            unpack_one(m)
    return step


def pack(instruction, register, sources):
    """mov.b32 c, {a, b}"""
    bits = 8 * DTYPES[instruction.type].itemsize
    width, dtype = bits // len(sources), RAW_DTYPES[bits // 8]

    def compute(*values):
        packed = values[0].astype(dtype)
        for n, value in enumerate(values[1:], 1):
            packed = packed | value.astype(dtype) << dtype.type(n * width)
        return packed
    return elementwise(instruction, compute, f"b{bits}", *[f"b{width}"] * len(sources), operands=[register, *sources])


ROUNDINGS = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@register_builder("cvt")
def cvt(instruction):
    """Convert from the last type to the one before it."""
    types = [modifier for modifier in instruction.modifiers
             if modifier not in ("ftz", "sat", "rn", "relu", *ROUNDINGS)]
    if len(types) != 1 or types[0] not in {*DTYPES, *STORAGE_TYPES}:
        raise unknown_instruction(instruction)
    [result_type], source_type = types, instruction.type
    if result_type.endswith("x2"):          # the first operand becomes the upper half
        convert = make_conversion(instruction, result_type[:-2])
        return elementwise(instruction, lambda high, low: np.array(np.broadcast_arrays(convert(low), convert(high))),
                           result_type, source_type, source_type)
    return elementwise(instruction, make_conversion(instruction, result_type), result_type, source_type)


def make_conversion(instruction, result_type):
    """Return a function that converts numbers to a type, with the instruction's modifiers."""
    rounding = next((ROUNDINGS[modifier] for modifier in instruction.modifiers if modifier in ROUNDINGS), None)
    saturates, clamps_negative = "sat" in instruction.modifiers, "relu" in instruction.modifiers
    dtype: Any = np.dtype(np.float32) if result_type == "bf16" else DTYPES[result_type]

    def convert(x):
        if rounding:
            x = rounding(x)
        if dtype.kind in "iu" and (x.dtype.kind == "f" or saturates):
            return convert_saturating(x, dtype)
        if dtype.kind == "f" and saturates:
            x = np.where(x > 0, np.minimum(x, 1), 0)
        if clamps_negative:
            x = np.maximum(x, x.dtype.type(0))
        return x.astype(dtype)[()]
    return convert


def convert_saturating(x, dtype):
    """The nearest integer of a type; NaN becomes 0."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if x.dtype.kind != "f":
        return np.where(x < low, low, np.where(x > high, high, x)).astype(dtype)[()]
    inside = np.where((x > low) & (x < high), x, 0).astype(dtype)
    return np.where(x >= high, dtype.type(high), np.where(x <= low, dtype.type(low), inside))[()]
