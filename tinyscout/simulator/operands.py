"""Operands as functions: read a register as a type, write one; decoded once, called at every step.

A register is an array with one number for each thread of the grid, or a single number while all threads agree.
"""
from typing import Any

import numpy as np

from tinyscout.simulator.ptx import SIZES, Argument, Fault, Number, Register, Special

KINDS: dict[str, Any] = {"f16": np.dtype("f2"), "f32": np.dtype("f4"), "f64": np.dtype("f8"), "pred": np.dtype("?")}
KINDS |= {f"{sign}{8 * size}": np.dtype(f"{'i' if sign == 's' else 'u'}{size}")
          for sign in "bus" for size in (1, 2, 4, 8)}
RAW: dict[int, Any] = {1: np.dtype("u1"), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8"), 16: np.dtype("c16")}
SHORT = {"bf16": "b16", "f16x2": "b32", "bf16x2": "b32"}       # kept as bits, computed as floats
WIDE = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}
SPECIAL = {f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"} | {
    "%laneid", "%warpid", "%nwarpid", "smem", *(f"%lanemask_{how}" for how in ("eq", "le", "lt", "ge", "gt"))}


def make_reader(operand, kind, location="?"):
    """A function of the machine that gives an operand's numbers in a kind; of packed kinds both halves."""
    if kind in SHORT:
        bits = make_reader(operand, SHORT[kind], location)
        return lambda m: unpack_numbers(bits(m), kind)
    dtype = KINDS[kind]
    if isinstance(operand, Number):
        value = decode_constant(operand, kind)
        return lambda m: value
    if isinstance(operand, Argument):
        return lambda m: convert_bits(m.arguments[operand.number], dtype)
    if isinstance(operand, Special):
        if operand.name not in SPECIAL:
            raise Fault(f"{location}: the simulator does not know the special register {operand.name}")
        return lambda m: convert_bits(m.special[operand.name], dtype)
    if not isinstance(operand, Register):
        raise Fault(f"{location}: the simulator does not know the operand {operand}")
    index = operand.number
    if operand.negated:
        return lambda m: ~m.registers[index]
    if SIZES[operand.kind] != dtype.itemsize and kind != "pred":
        return lambda m: convert_bits(m.registers[index], dtype)

    def read(m):
        value = m.registers[index]
        return value if value.dtype is dtype else value.view(dtype)
    return read


def decode_constant(operand, kind):
    """A constant as a number of a kind: written as bits where it is a float."""
    dtype = KINDS[kind]
    if operand.kind:
        value = np.array(operand.bits, "u4" if operand.kind == "f32" else "u8").view(KINDS[operand.kind])[()]
        return convert_bits(value if value.dtype == dtype else value.view(RAW[value.itemsize]), dtype)
    if kind == "pred":
        return np.bool_(operand.bits)
    raw = RAW[dtype.itemsize]
    return np.array(operand.bits % (1 << 8 * raw.itemsize), raw).view(dtype)[()]


def convert_bits(value, dtype):
    """The same bits in a type of as many bytes; cut off for fewer, filled with the sign for more."""
    if value.dtype == dtype:
        return value
    if "b" in (value.dtype.kind, dtype.kind):
        return value.astype(dtype)
    if value.itemsize < dtype.itemsize:
        filled = value if value.dtype.kind in "iu" else value.view(RAW[value.itemsize])
        return filled.astype(f"i{dtype.itemsize}" if filled.dtype.kind == "i" else RAW[dtype.itemsize]).view(dtype)
    if value.itemsize > dtype.itemsize:
        value = value.view(RAW[value.itemsize]).astype(RAW[dtype.itemsize])
    return value.view(dtype)


def make_writer(register, kind):
    """A function from a result in a kind to what its register keeps, or None where that is the same."""
    if kind in SHORT:
        return lambda value: pack_numbers(value, kind)
    if kind == "pred" or SIZES[register.kind] == KINDS[kind].itemsize:
        return None
    return lambda value: convert_bits(value, KINDS[f"b{8 * SIZES[register.kind]}"])


def elementwise(instruction, function, result, *kinds, operands=None):
    """A step that computes each thread's result from its own numbers: result and kinds name the types."""
    first, *sources = instruction.operands if operands is None else operands
    if first is None:
        return lambda m: None
    index, finish = first.number, make_writer(first, result)
    reads = [make_reader(source, kind, instruction.location) for source, kind in zip(sources, kinds, strict=True)]
    compute = function if finish is None else lambda *values: finish(function(*values))
    if len(reads) == 1:
        [a] = reads
        return lambda m: m.write_register(index, compute(a(m)))
    if len(reads) == 2:
        a, b = reads
        return lambda m: m.write_register(index, compute(a(m), b(m)))
    if len(reads) == 3:
        a, b, c = reads
        return lambda m: m.write_register(index, compute(a(m), b(m), c(m)))
    return lambda m: m.write_register(index, compute(*[read(m) for read in reads]))


def unpack_16x2(bits):
    """The lower and the upper 16 bits of 32, stacked in front."""
    both = np.array([bits & np.uint32(0xffff), bits >> np.uint32(16)]).astype(np.uint16)
    return both if both.ndim > 1 else both[:, None]


def pack_16x2(both):
    """The inverse of halves."""
    bits = both[0].astype(np.uint32) | both[1].astype(np.uint32) << np.uint32(16)
    return bits if bits.size > 1 else bits.ravel()[0]


def unpack_numbers(bits, kind):
    if kind.endswith("x2"):
        return unpack_numbers(unpack_16x2(bits), kind[:-2])
    return bits.view(np.float16) if kind == "f16" else from_bf16(bits)


def pack_numbers(values, kind):
    if kind.endswith("x2"):
        return pack_16x2(pack_numbers(values, kind[:-2]))
    return values.astype(np.float16).view(np.uint16) if kind == "f16" else to_bf16(values)


def from_bf16(bits):
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(x):
    """Rounded to the nearest, to even where two are as near; NaN is 0x7fff."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7fff) + (bits >> np.uint32(16) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7fff), rounded).astype(np.uint16)[()]
