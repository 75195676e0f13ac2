"""Shifts, masks and counts of bits."""
import numpy as np

from tinyscout.simulator.operands import RAW_DTYPES, elementwise
from tinyscout.simulator.registry import register_builder, register_instruction

register_instruction("and")(np.bitwise_and)
register_instruction("or")(np.bitwise_or)
register_instruction("xor")(np.bitwise_xor)
register_instruction("not", "T T")(np.invert)


@register_instruction("shl", "T T u32")
def shl(x, count):
    """Shift left; 0 if the count is not less than the number of bits."""
    bits = 8 * x.itemsize
    if count.ndim == 0:                 # all threads share the count
        return x << count.astype(x.dtype) if count < bits else x & x.dtype.type(0)
    return np.where(count < bits, x << np.minimum(count, bits - 1).astype(x.dtype), x.dtype.type(0))[()]


@register_instruction("shr", "T T u32")
def shr(x, count):
    """Shift right, arithmetically if the type is signed."""
    bits = 8 * x.itemsize
    if count.ndim == 0 and count < bits:
        return x >> count.astype(x.dtype)
    shifted = x >> np.minimum(count, bits - 1).astype(x.dtype)
    return shifted if x.dtype.kind == "i" else np.where(count < bits, shifted, x.dtype.type(0))[()]


def register_funnel_shift(opcode, function):
    """shf: shift 64 bits, the second operand above the first; the count wraps at 32 or is clamped to it."""
    @register_builder(opcode)
    def build(instruction):
        wraps = "wrap" in instruction.modifiers

        def compute(low, high, count):
            x = high.astype(np.uint64) << np.uint64(32) | low
            count = count & np.uint32(31) if wraps else np.minimum(count, np.uint32(32))
            return function(x, count.astype(np.uint64)).astype(np.uint32)
        return elementwise(instruction, compute, "b32", "b32", "b32", "u32")


register_funnel_shift("shf.l", lambda x, count: x << count >> np.uint64(32))
register_funnel_shift("shf.r", lambda x, count: x >> count)


@register_builder("lop3")
def lop3(instruction):
    """Any function of three bits: the last operand is its truth table, with the result in bit 4 a + 2 b + c."""
    table = instruction.operands[4].bits

    def compute(a, b, c):
        result = a & np.uint32(0)
        for entry in range(8):
            if table >> entry & 1:
                result = result | (a if entry & 4 else ~a) & (b if entry & 2 else ~b) & (c if entry & 1 else ~c)
        return result
    return elementwise(instruction, compute, "b32", "b32", "b32", "b32", operands=instruction.operands[:4])


@register_instruction("prmt", "b32 b32 b32 b32")
def prmt(low, high, selector):
    """Select four of the eight bytes in low and high, each by a digit of selector; its bit 3 selects only the sign."""
    result = low & np.uint32(0)
    for n in range(4):
        digit = selector >> np.uint32(4 * n) & np.uint32(15)
        word = np.where(digit & np.uint32(4), high, low)
        byte = word >> (digit & np.uint32(3)) * np.uint32(8) & np.uint32(255)
        byte = np.where(digit & np.uint32(8), (byte >> np.uint32(7)) * np.uint32(255), byte).astype(np.uint32)
        result = result | byte << np.uint32(8 * n)
    return result


def low_ones(length, dtype):
    """A mask of the `length` lowest bits."""
    bits = 8 * dtype.itemsize
    ones = shl(dtype.type(1), np.minimum(length, np.uint32(bits - 1))) - dtype.type(1)
    return np.where(length < bits, ones, ~dtype.type(0)).astype(dtype)[()]


@register_instruction("bfe", "T T u32 u32")
def bfe(x, start, length):
    """Extract the field of `length` bits from bit `start` on; its sign is extended if the type is signed."""
    bits, start, length = 8 * x.itemsize, start & np.uint32(255), length & np.uint32(255)
    mask = low_ones(length, x.dtype)
    field = shr(x, start) & mask
    if x.dtype.kind == "u":
        return field
    sign_bit = np.minimum(start.astype(np.int64) + length - 1, bits - 1)
    sign = np.where(length > 0, shr(x, sign_bit.clip(0).astype(np.uint32)) & x.dtype.type(1), 0)
    return np.where(sign != 0, field | ~mask, field).astype(x.dtype)[()]


@register_instruction("bfi", "T T T u32 u32")
def bfi(field, x, start, length):
    """Insert a field of `length` bits into x, from bit `start` on."""
    start, length = start & np.uint32(255), length & np.uint32(255)
    mask = shl(low_ones(length, x.dtype), start)
    return x & ~mask | shl(field, start) & mask


@register_instruction("popc", "u32 T")
def popc(x):
    """The number of bits that are set."""
    count = (x & x.dtype.type(1)).astype(np.uint32)
    for n in range(1, 8 * x.itemsize):
        count = count + (x >> x.dtype.type(n) & x.dtype.type(1)).astype(np.uint32)
    return count


def bit_length(x):
    """The number of bits without leading zeros, 0 for 0."""
    upper, lower = x >> x.dtype.type(16), x & x.dtype.type(0xffff)      # 48 bits are exact in a double
    return np.where(upper, np.frexp(upper.astype(np.float64))[1] + 16, np.frexp(lower.astype(np.float64))[1])


@register_instruction("clz", "u32 T")
def clz(x):
    """Count leading zeros."""
    return (8 * x.itemsize - bit_length(x)).astype(np.uint32)


@register_instruction("bfind", "u32 T")
def bfind(x):
    """Position of the highest bit that is set (signed: that differs from the sign); all ones if there is none."""
    x = np.where(x < 0, ~x, x) if x.dtype.kind == "i" else x
    return (bit_length(x.view(RAW_DTYPES[x.itemsize])) - 1).astype(np.int32).view(np.uint32)


@register_instruction("bfind.shiftamt", "u32 T")
def bfind_shift(x):
    """The left shift that moves the bit of bfind to the highest position."""
    position = bfind(x)
    return np.where(position == 0xffffffff, position, np.uint32(8 * x.itemsize - 1) - position)[()]


@register_instruction("brev", "T T")
def brev(x):
    """The bits in reverse order."""
    one, result = x.dtype.type(1), x & x.dtype.type(0)
    for n in range(8 * x.itemsize):
        result = result | (x >> x.dtype.type(n) & one) << x.dtype.type(8 * x.itemsize - 1 - n)
    return result
