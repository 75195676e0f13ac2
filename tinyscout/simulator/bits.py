"""Shifts, masks and counts of bits."""
import numpy as np

from tinyscout.simulator.operands import RAW, elementwise
from tinyscout.simulator.table import TABLE, builder, instruction

instruction("and")(np.bitwise_and)
instruction("or")(np.bitwise_or)
instruction("xor")(np.bitwise_xor)
instruction("not", "T T")(np.invert)


@instruction("shl", "T T u32")
def shl(x, count):
    """To the left; nothing is left after as many places as there are bits."""
    bits = 8 * x.itemsize
    if count.ndim == 0:
        return x << count.astype(x.dtype) if count < bits else x & x.dtype.type(0)
    return np.where(count < bits, x << np.minimum(count, bits - 1).astype(x.dtype), x.dtype.type(0))[()]


@instruction("shr", "T T u32")
def shr(x, count):
    """To the right, filled with the sign where the type has one."""
    bits = 8 * x.itemsize
    if count.ndim == 0 and count < bits:
        return x >> count.astype(x.dtype)
    shifted = x >> np.minimum(count, bits - 1).astype(x.dtype)
    return shifted if x.dtype.kind == "i" else np.where(count < bits, shifted, x.dtype.type(0))[()]


def funnel(opcode, function):
    """shf: 64 bits, the second operand above the first, shifted; the count wraps at 32 or stops there."""
    def build(line):
        limit = (lambda n: n & np.uint32(31)) if "wrap" in line.words else (lambda n: np.minimum(n, np.uint32(32)))

        def compute(low, high, count):
            both = high.astype(np.uint64) << np.uint64(32) | low
            return function(both, limit(count).astype(np.uint64))
        return elementwise(line, compute, "b32", "b32", "b32", "u32")
    TABLE[opcode] = build


funnel("shf.l", lambda both, count: (both << count >> np.uint64(32)).astype(np.uint32))
funnel("shf.r", lambda both, count: (both >> count).astype(np.uint32))


@builder("lop3")
def lop3(line):
    """Any function of three bits: the last operand is its table, whose entry 4 a + 2 b + c is the result."""
    table = line.operands[4].bits

    def compute(a, b, c):
        result = a & np.uint32(0)
        for entry in range(8):
            if table >> entry & 1:
                result = result | (a if entry & 4 else ~a) & (b if entry & 2 else ~b) & (c if entry & 1 else ~c)
        return result
    return elementwise(line, compute, "b32", "b32", "b32", "b32", operands=line.operands[:4])


@instruction("prmt", "b32 b32 b32 b32")
def prmt(low, high, choice):
    """Four bytes of the eight in low and high; each has a digit in choice, whose bit 3 asks for the sign only."""
    result = low & np.uint32(0)
    for n in range(4):
        digit = choice >> np.uint32(4 * n) & np.uint32(15)
        word = np.where(digit & np.uint32(4), high, low)
        byte = word >> (digit & np.uint32(3)) * np.uint32(8) & np.uint32(255)
        byte = np.where(digit & np.uint32(8), (byte >> np.uint32(7)) * np.uint32(255), byte).astype(np.uint32)
        result = result | byte << np.uint32(8 * n)
    return result


def low(length, dtype):
    """As many ones as length says, from the lowest bit on."""
    bits = 8 * dtype.itemsize
    ones = shl(dtype.type(1), np.minimum(length, np.uint32(bits - 1))) - dtype.type(1)
    return np.where(length < bits, ones, ~dtype.type(0)).astype(dtype)[()]


@instruction("bfe", "T T u32 u32")
def bfe(x, start, length):
    """The field of that length from bit start on, with its own sign where the type has one."""
    bits, start, length = 8 * x.itemsize, start & np.uint32(255), length & np.uint32(255)
    raw = shr(x, start)
    kept = low(length, x.dtype)
    if x.dtype.kind == "u":
        return raw & kept
    last = np.minimum(start.astype(np.int64) + length - 1, bits - 1)
    sign = np.where(length > 0, shr(x, last.clip(0).astype(np.uint32)) & x.dtype.type(1), 0)
    return np.where(sign != 0, raw & kept | ~kept, raw & kept).astype(x.dtype)[()]


@instruction("bfi", "T T T u32 u32")
def bfi(field, x, start, length):
    """x with a field of that length set, from bit start on."""
    start, length = start & np.uint32(255), length & np.uint32(255)
    mask = shl(low(length, x.dtype), start)
    return x & ~mask | shl(field, start) & mask


@instruction("popc", "u32 T")
def popc(x):
    """How many bits are set."""
    total = (x & x.dtype.type(1)).astype(np.uint32)
    for n in range(1, 8 * x.itemsize):
        total = total + (x >> x.dtype.type(n) & x.dtype.type(1)).astype(np.uint32)
    return total


def length(x):
    """The number of bits without the zeros in front, 0 for 0."""
    found = np.frexp((x >> x.dtype.type(16)).astype(np.float64))[1] + 16            # 48 bits are exact in a double
    return np.where(x >> x.dtype.type(16), found, np.frexp((x & x.dtype.type(0xffff)).astype(np.float64))[1])


@instruction("clz", "u32 T")
def clz(x):
    """The zeros in front."""
    return (8 * x.itemsize - length(x)).astype(np.uint32)


@instruction("bfind", "u32 T")
def bfind(x):
    """The place of the first bit that is set, or that is no sign; all ones where there is none."""
    x = np.where(x < 0, ~x, x) if x.dtype.kind == "i" else x
    return (length(x.view(RAW[x.itemsize])) - 1).astype(np.int32).view(np.uint32)


@instruction("bfind.shiftamt", "u32 T")
def bfind_shift(x):
    """By how many places that bit would have to move to be the first."""
    found = bfind(x)
    return np.where(found == 0xffffffff, found, np.uint32(8 * x.itemsize - 1) - found)[()]


@instruction("brev", "T T")
def brev(x):
    """The bits from last to first."""
    one, result = x.dtype.type(1), x & x.dtype.type(0)
    for n in range(8 * x.itemsize):
        result = result | (x >> x.dtype.type(n) & one) << x.dtype.type(8 * x.itemsize - 1 - n)
    return result
