"""Operands as functions, decoded once and called at every step: read or write a register as a type.

A register is an array with one number for each thread of the grid, or a single number while all threads agree.
"""
from functools import lru_cache
from typing import Any

import numpy as np

from tinyscout.simulator.ptx import SIZES, Argument, Fault, Immediate, Register, Special

DTYPES: dict[str, Any] = {"f16": np.dtype("f2"), "f32": np.dtype("f4"), "f64": np.dtype("f8"), "pred": np.dtype("?")}
DTYPES |= {f"{sign}{8 * size}": np.dtype(f"{'i' if sign == 's' else 'u'}{size}")
           for sign in "bus" for size in (1, 2, 4, 8)}
RAW_DTYPES: dict[int, Any] = {1: np.dtype("u1"), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8"),
                              16: np.dtype("c16")}                      # {bytes: dtype that keeps their bits}
STORAGE_TYPES = {"bf16": "b16", "f16x2": "b32", "bf16x2": "b32"}        # kept as bits, computed as floats
WIDE_TYPES = {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}
SPECIAL_REGISTERS = {
    *(f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"),
    *(f"%lanemask_{relation}" for relation in ("eq", "le", "lt", "ge", "gt")),
    "%laneid", "%warpid", "%nwarpid", "smem",
}


def make_reader(operand, ptx_type, location="?"):
    """Return a function of the machine that reads an operand as a PTX type; for packed types, both halves."""
    if ptx_type in STORAGE_TYPES:
        read_bits = make_reader(operand, STORAGE_TYPES[ptx_type], location)
        return lambda m: unpack_numbers(read_bits(m), ptx_type)
    dtype = DTYPES[ptx_type]
    if isinstance(operand, Immediate):
        value = decode_immediate(operand, ptx_type)
        return lambda m: value
    if isinstance(operand, Argument):
        return lambda m: convert_bits(m.arguments[operand.number], dtype)
    if isinstance(operand, Special):
        if operand.name not in SPECIAL_REGISTERS:
            raise Fault(f"{location}: the simulator does not know the special register {operand.name}")
        return lambda m: convert_bits(m.special[operand.name], dtype)
    if not isinstance(operand, Register):
        raise Fault(f"{location}: the simulator does not know the operand {operand}")
    index = operand.number
    if operand.negated:
        return lambda m: ~m.registers[index]
    if SIZES[operand.type] != dtype.itemsize and ptx_type != "pred":
        return lambda m: convert_bits(m.registers[index], dtype)

    def read(m):
        value = m.registers[index]
        return value if value.dtype is dtype else value.view(dtype)
    return read


def decode_immediate(operand, ptx_type):
    """A constant as a number of a PTX type; a float is given by its bits."""
    dtype = DTYPES[ptx_type]
    if operand.type:
        value = np.array(operand.bits, "u4" if operand.type == "f32" else "u8").view(DTYPES[operand.type])[()]
        return convert_bits(value if value.dtype == dtype else value.view(RAW_DTYPES[value.itemsize]), dtype)
    if ptx_type == "pred":
        return np.bool_(operand.bits)
    raw = RAW_DTYPES[dtype.itemsize]
    return np.array(operand.bits % (1 << 8 * raw.itemsize), raw).view(dtype)[()]


def convert_bits(value, dtype):
    """Reinterpret bits as a type of equal size, truncate them for a smaller one, extend them for a larger one."""
    if value.dtype == dtype:
        return value
    if "b" in (value.dtype.kind, dtype.kind):
        return value.astype(dtype)
    if value.itemsize < dtype.itemsize:
        integer = value if value.dtype.kind in "iu" else value.view(RAW_DTYPES[value.itemsize])
        wide = f"i{dtype.itemsize}" if integer.dtype.kind == "i" else RAW_DTYPES[dtype.itemsize]
        return integer.astype(wide).view(dtype)
    if value.itemsize > dtype.itemsize:
        value = value.view(RAW_DTYPES[value.itemsize]).astype(RAW_DTYPES[dtype.itemsize])
    return value.view(dtype)


def make_writer(register, ptx_type):
    """Return a function from a result of a PTX type to the register's format, or None if they are the same."""
    if ptx_type in STORAGE_TYPES:
        return lambda value: pack_numbers(value, ptx_type)
    if ptx_type == "pred" or SIZES[register.type] == DTYPES[ptx_type].itemsize:
        return None
    return lambda value: convert_bits(value, DTYPES[f"b{8 * SIZES[register.type]}"])


def elementwise(instruction, function, result_type, *source_types, operands=None):
    """Return a step that computes each thread's result from its own operands.

    operands: the result and its sources, if they are not those of the instruction
    """
    result, *sources = instruction.operands if operands is None else operands
    if result is None:
        return lambda m: None
    index, finish = result.number, make_writer(result, result_type)
    reads = [make_reader(source, ptx_type, instruction.location)
             for source, ptx_type in zip(sources, source_types, strict=True)]
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


@lru_cache(maxsize=64)
def special_registers(grid, block):
    """Registers with a thread's indices: {"%tid.x": array, or one number if all threads agree}."""
    block_stride = -(-int(np.prod(block)) // 32) * 32
    thread_ids, values = np.arange(int(np.prod(grid)) * block_stride), {}
    positions = [("tid", block, thread_ids % block_stride), ("ctaid", grid, thread_ids // block_stride)]
    for name, sizes, indices in positions:
        for n, axis in enumerate("xyz"):
            index = indices // int(np.prod(sizes[:n])) % sizes[n] if sizes[n] > 1 else 0
            values[f"%{name}.{axis}"] = index
            values[f"%n{name}.{axis}"] = sizes[n]
    lane = thread_ids % 32
    one, ones = np.uint32(1), np.uint32(0xffffffff)
    bit = one << lane.astype(np.uint32)
    values |= {"%laneid": lane, "%warpid": thread_ids % block_stride // 32, "%nwarpid": block_stride // 32,
               "%lanemask_eq": bit, "%lanemask_lt": bit - one, "%lanemask_le": bit | bit - one,
               "%lanemask_ge": ones - (bit - one), "%lanemask_gt": ones - (bit | bit - one)}
    return {name: np.asarray(value).astype(np.uint32)[()] for name, value in values.items()}


def unpack_16x2(bits):
    """Split 32 bits into the lower and the upper 16, along a new first axis."""
    halves = np.array([bits & np.uint32(0xffff), bits >> np.uint32(16)]).astype(np.uint16)
    return halves if halves.ndim > 1 else halves[:, None]


def pack_16x2(halves):
    """The inverse of unpack_16x2."""
    bits = halves[0].astype(np.uint32) | halves[1].astype(np.uint32) << np.uint32(16)
    return bits if bits.size > 1 else bits.ravel()[0]


def unpack_numbers(bits, ptx_type):
    if ptx_type.endswith("x2"):
        return unpack_numbers(unpack_16x2(bits), ptx_type[:-2])
    return bits.view(np.float16) if ptx_type == "f16" else from_bf16(bits)


def pack_numbers(values, ptx_type):
    if ptx_type.endswith("x2"):
        return pack_16x2(pack_numbers(values, ptx_type[:-2]))
    return values.astype(np.float16).view(np.uint16) if ptx_type == "f16" else to_bf16(values)


def from_bf16(bits):
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(x):
    """Round to the nearest, ties to even; NaN becomes 0x7fff."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7fff) + (bits >> np.uint32(16) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7fff), rounded).astype(np.uint16)[()]
