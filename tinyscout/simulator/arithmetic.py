"""Arithmetic and elementary functions.  Approximate instructions (ex2, rsqrt, sin ...) are computed by NumPy."""
import numpy as np

from tinyscout.simulator.operands import RAW_DTYPES, elementwise
from tinyscout.simulator.registry import register_builder, register_instruction


@register_instruction("add", ignored="rn")
def add(x, y):
    """The sum; integers wrap around."""
    return x + y


@register_instruction("sub", ignored="rn")
def sub(x, y):
    return x - y


@register_instruction("mul", ignored="rn lo")
def mul(x, y):
    """The product; for integers, its lower half."""
    return x * y


@register_instruction("mul.wide", "W T T")
def mul_wide(x, y):
    """The product of integers, twice as wide."""
    dtype = RAW_DTYPES[2 * x.itemsize] if x.dtype.kind == "u" else np.dtype(f"i{2 * x.itemsize}")
    return x.astype(dtype) * y.astype(dtype)


@register_instruction("mul.hi")
def mul_hi(x, y):
    """The upper half of the product of integers."""
    if x.itemsize < 8:
        return (mul_wide(x, y) >> 8 * x.itemsize).astype(x.dtype)
    a, b, half, low = x.astype(np.uint64), y.astype(np.uint64), np.uint64(32), np.uint64(0xffffffff)
    a_low, a_high, b_low, b_high = a & low, a >> half, b & low, b >> half
    middle = a_high * b_low + (a_low * b_low >> half)                   # schoolbook, in digits of 32 bits
    upper = a_high * b_high + (middle >> half) + ((middle & low) + a_low * b_high >> half)
    if x.dtype.kind == "i":             # a negative number was read with 2^64 added
        upper = upper - np.where(x < 0, b, 0).astype(np.uint64) - np.where(y < 0, a, 0).astype(np.uint64)
    return upper.astype(x.dtype)


@register_instruction("mad", "T T T T", "lo")
def mad(x, y, z):
    return x * y + z


@register_instruction("mad.wide", "W T T W")
def mad_wide(x, y, z):
    return mul_wide(x, y) + z


@register_instruction("mad.hi", "T T T T")
def mad_hi(x, y, z):
    return mul_hi(x, y) + z


@register_instruction("fma", "T T T T", "rn")
def fma(x, y, z):
    """x y + z, rounded once, with two exceptions.

    float32 goes through float64, where about one result in 2^29 is rounded twice, to a neighbour; float64 is rounded
    after the product and after the sum.
    """
    return (x.astype(np.float64) * y + z).astype(x.dtype)


@register_instruction("div", ignored="rn full approx")
def div(x, y):
    """The quotient; for integers, truncated toward zero, and all ones if y is 0."""
    return x / y if x.dtype.kind == "f" else integer_quotient(x, y)


@register_instruction("rem")
def rem(x, y):
    """The remainder, with the sign of x."""
    return x - integer_quotient(x, y) * y


def integer_quotient(x, y):
    divisor = np.where(y == 0, x.dtype.type(1), y)
    floor = x // divisor
    quotient = floor + ((x - floor * divisor != 0) & ((x < 0) != (y < 0)))      # toward zero, not down
    return np.where(y == 0, ~x.dtype.type(0), quotient).astype(x.dtype)[()]


@register_instruction("min")
def min_(x, y):
    """The smaller operand; of a number and a NaN, the number."""
    return np.fmin(x, y)


@register_instruction("max")
def max_(x, y):
    return np.fmax(x, y)


@register_instruction("min.NaN")
def min_nan(x, y):
    """The smaller operand; NaN if one is NaN."""
    return np.minimum(x, y)


@register_instruction("max.NaN")
def max_nan(x, y):
    return np.maximum(x, y)


register_instruction("abs", "T T")(np.abs)
register_instruction("neg", "T T")(np.negative)


@register_builder("dp4a")
def dp4a(instruction):
    """Dot product of four bytes; in dp4a.s32.u32, those of the first operand are signed, of the second unsigned."""
    x_is_signed, y_is_signed = instruction.modifiers[0] == "s32", instruction.type == "s32"

    def unpack_bytes(x, is_signed):
        unsigned = [(x >> np.uint32(shift) & np.uint32(255)).astype(np.uint8) for shift in (0, 8, 16, 24)]
        return [(byte.view(np.int8) if is_signed else byte).astype(np.int32) for byte in unsigned]

    def compute(x, y, z):
        pairs = zip(unpack_bytes(x, x_is_signed), unpack_bytes(y, y_is_signed), strict=True)
        return sum((a * b for a, b in pairs), z)
    return elementwise(instruction, compute, "s32", "b32", "b32", "s32")


register_instruction("sqrt", "T T", "rn approx")(np.sqrt)
register_instruction("ex2", "T T", "approx")(np.exp2)
register_instruction("lg2", "T T", "approx")(np.log2)
register_instruction("sin", "T T", "approx")(np.sin)
register_instruction("cos", "T T", "approx")(np.cos)
register_instruction("tanh", "T T", "approx")(np.tanh)


@register_instruction("rcp", "T T", "rn approx")
def rcp(x):
    return x.dtype.type(1) / x


@register_instruction("rsqrt", "T T", "approx")
def rsqrt(x):
    return x.dtype.type(1) / np.sqrt(x)


@register_instruction("copysign")
def copysign(sign, x):
    """x with the sign of the first operand."""
    return np.copysign(x, sign)
