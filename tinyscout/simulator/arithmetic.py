"""Instructions that compute one thread's numbers from its own: arithmetic, logic, comparisons, conversions.

TABLE maps an opcode, with the word that makes another function of it ("mul.hi"), to a function from the instruction
to its step.  Rounding is the one that the type has; approximations (ex2, rsqrt, sin ...) are computed in float32.
"""
import numpy as np

from tinyscout.simulator.operands import KINDS, RAW, WIDE, elementwise, halves, joined, reader
from tinyscout.simulator.ptx import Fault

TABLE: dict = {}
DIRECTIONS = {"rm": lambda x: np.full(x.shape, -np.inf), "rp": lambda x: np.full(x.shape, np.inf),
              "rz": lambda x: np.where(x > 0, -np.inf, np.inf)}         # where a number that is cut off may move to
SMALLEST = np.finfo(np.float32).tiny


def instruction(opcode, signature="T T T", words=""):
    """Enter a function of numbers into the table.

    signature: the types of the result and of the operands, T the instruction's own, W twice as wide
    words: what may follow the opcode and changes nothing here
    """
    def enter(function):
        def build(line):
            rest = set(line.words) - {*opcode.split("."), *words.split(), "ftz", "sat"}
            rest -= {*DIRECTIONS} if opcode in ("add", "mul", "fma") and line.kind == "f32" else set()
            if rest:
                raise unknown(line)
            known = {"T": line.kind, "W": WIDE.get(line.kind)}
            kinds = [known.get(kind, kind) for kind in signature.split()]
            compute = directed(opcode, line, function)
            compute = flushed(compute) if "ftz" in line.words and line.kind == "f32" else compute
            return elementwise(line, saturated(compute, line) if "sat" in line.words else compute, *kinds)
        TABLE[opcode] = build
        return function
    return enter


def builder(opcode):
    """Enter a function from the instruction itself to its step."""
    def enter(build):
        TABLE[opcode] = build
        return build
    return enter


def unknown(line):
    return Fault(f"{line.place}: the simulator does not know the PTX instruction {line}")


def directed(opcode, line, function):
    """.rm, .rp and .rz: float32 rounded down, up, or toward zero."""
    direction = next((DIRECTIONS[word] for word in line.words if word in DIRECTIONS), None)
    if direction is None:
        return function

    def rounded(x, y, z=np.float64(0)):
        x, y, z = (np.asarray(number, np.float64) for number in (x, y, z))
        product = x if opcode == "add" else x * y                      # exact in float64
        z = y if opcode == "add" else z
        total = product + z
        back = total - product
        rest = (product - (total - back)) + (z - back)                  # what the sum has lost
        near = total.astype(np.float32)
        toward = np.where(np.isfinite(total), direction(total), near).astype(np.float32)
        passed = np.where(toward < near, (near > total) | ((near == total) & (rest < 0)),
                          (near < total) | ((near == total) & (rest > 0)))
        return np.where(passed & np.isfinite(total), np.nextafter(near, toward), near)[()]
    return rounded


def saturated(function, line):
    """.sat: floats are cut to [0, 1], NaN to 0."""
    if line.kind[0] != "f" and line.kind not in ("bf16", "bf16x2"):
        raise unknown(line)

    def cut(*values):
        result = function(*values)
        return np.where(result > 0, np.minimum(result, result.dtype.type(1)), result.dtype.type(0))[()]
    return cut


def flushed(function):
    """.ftz: float32 numbers below the smallest normal one count as zero."""
    def flush(x):
        return np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), x)[()] if x.dtype == np.float32 else x
    return lambda *values: flush(function(*(flush(value) for value in values)))


# Sums and products

@instruction("add", words="rn")
def add(x, y):
    """The sum; whole numbers wrap around."""
    return x + y


@instruction("sub", words="rn")
def sub(x, y):
    return x - y


@instruction("mul", words="rn lo")
def mul(x, y):
    """The product; of whole numbers the lower half."""
    return x * y


@instruction("mul.wide", "W T T")
def mul_wide(x, y):
    """The whole product of whole numbers, twice as wide."""
    wide = RAW[2 * x.itemsize] if x.dtype.kind == "u" else np.dtype(f"i{2 * x.itemsize}")
    return x.astype(wide) * y.astype(wide)


@instruction("mul.hi")
def mul_hi(x, y):
    """The upper half of the product of whole numbers."""
    if x.itemsize < 8:
        return (mul_wide(x, y) >> 8 * x.itemsize).astype(x.dtype)
    a, b, half = x.astype(np.uint64), y.astype(np.uint64), np.uint64(32)
    low = np.uint64(0xffffffff)
    middle = (a & low) * (b & low) >> half
    first, second = (a >> half) * (b & low) + middle, (a & low) * (b >> half)
    upper = (a >> half) * (b >> half) + (first >> half) + ((first & low) + second >> half)
    if x.dtype.kind == "i":             # a negative number was read as 2^64 more
        upper = upper - np.where(x < 0, b, 0).astype(np.uint64) - np.where(y < 0, a, 0).astype(np.uint64)
    return upper.astype(x.dtype)


@instruction("mad", "T T T T", "lo")
def mad(x, y, z):
    return x * y + z


@instruction("mad.wide", "W T T W")
def mad_wide(x, y, z):
    return mul_wide(x, y) + z


@instruction("mad.hi", "T T T T")
def mad_hi(x, y, z):
    return mul_hi(x, y) + z


@instruction("fma", "T T T T", "rn")
def fma(x, y, z):
    """x y + z, rounded once but for this: float32 goes through float64, where one result in about 2^29 may lie so that

    it is rounded twice, to a neighbour; float64 is rounded after the product and after the sum.
    """
    return (x.astype(np.float64) * y + z).astype(x.dtype)


@instruction("div", words="rn full approx")
def div(x, y):
    """The quotient; of whole numbers the part before the point, and all ones where y is 0."""
    return x / y if x.dtype.kind == "f" else whole_quotient(x, y)


@instruction("rem")
def rem(x, y):
    """What is left of x, with its sign."""
    return x - whole_quotient(x, y) * y


def whole_quotient(x, y):
    divisor = np.where(y == 0, x.dtype.type(1), y)
    down = x // divisor
    quotient = down + ((x - down * divisor != 0) & ((x < 0) != (y < 0)))        # toward zero, not down
    return np.where(y == 0, ~x.dtype.type(0), quotient).astype(x.dtype)[()]


@instruction("min")
def min_(x, y):
    """The smaller one; a NaN gives way to a number."""
    return np.fmin(x, y)


@instruction("max")
def max_(x, y):
    return np.fmax(x, y)


@instruction("min.NaN")
def min_nan(x, y):
    """The smaller one, or NaN."""
    return np.minimum(x, y)


@instruction("max.NaN")
def max_nan(x, y):
    return np.maximum(x, y)


instruction("abs", "T T")(np.abs)
instruction("neg", "T T")(np.negative)


@builder("dp4a")
def dot(line):
    """dp4a.s32.u32: the bytes of the first operand have a sign, those of the second do not."""
    def four(x, signed):
        parts = [x >> np.uint32(shift) & np.uint32(255) for shift in (0, 8, 16, 24)]
        return [part.astype(np.uint8).view(np.int8).astype(np.int32) if signed else part.astype(np.int32)
                for part in parts]

    def function(x, y, z):
        pairs = zip(four(x, line.words[0] == "s32"), four(y, line.kind == "s32"), strict=True)
        return sum((a * b for a, b in pairs), z)
    return elementwise(line, function, "s32", "b32", "b32", "s32")


# Functions

instruction("sqrt", "T T", "rn approx")(np.sqrt)
instruction("ex2", "T T", "approx")(np.exp2)
instruction("lg2", "T T", "approx")(np.log2)
instruction("sin", "T T", "approx")(np.sin)
instruction("cos", "T T", "approx")(np.cos)
instruction("tanh", "T T", "approx")(np.tanh)


@instruction("rcp", "T T", "rn approx")
def rcp(x):
    return x.dtype.type(1) / x


@instruction("rsqrt", "T T", "approx")
def rsqrt(x):
    return x.dtype.type(1) / np.sqrt(x)


@instruction("copysign")
def copy_sign(sign, x):
    """x with the sign of the first operand."""
    return np.copysign(x, sign)


# Bits

instruction("and")(np.bitwise_and)
instruction("or")(np.bitwise_or)
instruction("xor")(np.bitwise_xor)
instruction("not", "T T")(np.invert)


@instruction("shl", "T T u32")
def shl(x, count):
    """To the left; nothing is left after as many places as there are bits."""
    bits = 8 * x.itemsize
    return np.where(count < bits, x << np.minimum(count, bits - 1).astype(x.dtype), x.dtype.type(0))[()]


@instruction("shr", "T T u32")
def shr(x, count):
    """To the right, filled with the sign where the type has one."""
    bits = 8 * x.itemsize
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


@instruction("bfe", "T T u32 u32")
def bfe(x, start, length):
    """The field of that length from bit start on, with its own sign where the type has one."""
    bits, start, length = 8 * x.itemsize, start & np.uint32(255), length & np.uint32(255)
    raw = shr(x, start)
    kept = np.where(length < bits, shl(x.dtype.type(1), np.minimum(length, bits - 1)) - x.dtype.type(1), ~x.dtype.type(0))
    if x.dtype.kind == "u":
        return (raw & kept).astype(x.dtype)[()]
    last = np.minimum(start.astype(np.int64) + length - 1, bits - 1)
    sign = np.where(length > 0, shr(x, last.clip(0).astype(np.uint32)) & x.dtype.type(1), 0)
    return np.where(sign != 0, raw & kept | ~kept, raw & kept).astype(x.dtype)[()]


@instruction("bfi", "T T T u32 u32")
def bfi(field, x, start, length):
    """x with a field of that length set, from bit start on."""
    one, bits = x.dtype.type(1), 8 * x.itemsize
    start, length = start & np.uint32(255), length & np.uint32(255)
    kept = np.where(length < bits, shl(one, np.minimum(length, bits - 1)) - one, ~x.dtype.type(0)).astype(x.dtype)
    mask = shl(kept, start)
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


# Choices

COMPARISONS = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
               "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
               "num": lambda x, y: ~(np.isnan(x) | np.isnan(y)), "nan": lambda x, y: np.isnan(x) | np.isnan(y)}
UNORDERED = {f"{name}u": COMPARISONS[name] for name in ("eq", "ne", "lt", "le", "gt", "ge")}     # or one is NaN
JOINS = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def comparison(line):
    """The function of two numbers that the instruction's first word names."""
    name = line.words[0]
    if name in UNORDERED:
        return lambda x, y: UNORDERED[name](x, y) | np.isnan(x) | np.isnan(y)
    if name not in COMPARISONS:
        raise unknown(line)
    if name == "ne" and line.kind[0] in "fb" and line.kind not in ("b16", "b32", "b64"):
        return lambda x, y: (x != y) & ~np.isnan(x) & ~np.isnan(y)
    return COMPARISONS[name]


@builder("setp")
def setp(line):
    """A predicate from a comparison, and its opposite too; joined with another predicate where the words say so."""
    join = next((JOINS[word] for word in line.words[1:] if word in JOINS), None)
    if set(line.words[1:]) - {*JOINS, "ftz"}:
        raise unknown(line)
    compare, more = comparison(line), ["pred"] if join else []
    both = line.operands[0] if isinstance(line.operands[0], list) else [line.operands[0]]

    def function(opposite):
        def compute(x, y, other=None):
            result = ~compare(x, y) if opposite else compare(x, y)
            return join(result, other) if join else result
        return compute
    steps = [elementwise(line, function(n == 1), "pred", line.kind, line.kind, *more, operands=[p, *line.operands[1:]])
             for n, p in enumerate(both)]
    return steps[0] if len(steps) == 1 else lambda m: [step(m) for step in steps][0]


@builder("set")
def set_(line):
    """A comparison whose yes is 1.0 or all ones; of packed numbers for each half."""
    compare, result = comparison(line), line.words[-1]
    yes = None if result[0] in "us" else 1

    def compute(x, y):
        answer = compare(x, y)
        if yes is None:
            return np.where(answer, np.uint32(0xffffffff), np.uint32(0)).view(KINDS[result])[()]
        return answer.astype(np.float32 if "bf16" in result else np.float16 if "16" in result else np.float32)
    return elementwise(line, compute, result, line.kind, line.kind)


@instruction("selp", "T T T pred")
def selp(yes, no, which):
    """The first where the predicate holds, or else the second."""
    return (yes if which else no) if which.ndim == 0 else np.where(which, yes, no)


@builder("slct")
def slct(line):
    """The first where the third is not negative, or else the second."""
    kind = line.words[-1]
    return elementwise(line, lambda x, y, sign: np.where(sign >= 0, x, y)[()], kind, kind, kind, line.kind)


TESTS = {"finite": np.isfinite, "infinite": np.isinf, "number": lambda x: ~np.isnan(x), "notanumber": np.isnan}


@builder("testp")
def testp(line):
    """What sort of float it is."""
    if line.words[0] not in TESTS:
        raise unknown(line)
    return elementwise(line, TESTS[line.words[0]], "pred", line.kind)


# Moves and conversions

@builder("mov")
def mov(line):
    """A copy; with braces several registers are joined into one, lower bits first, or one is split."""
    result, source = line.operands
    if isinstance(result, list):
        part = 8 * KINDS[line.kind].itemsize // len(result)
        read = reader(source, line.kind.replace("f", "b"), line.place)
        steps = [elementwise(line, lambda x, n=n: (x >> x.dtype.type(n * part)).astype(RAW[part // 8]), f"b{part}",
                             f"b{8 * KINDS[line.kind].itemsize}", operands=[register, source])
                 for n, register in enumerate(result)]
        del read
        return lambda m: [step(m) for step in steps] and None
    if isinstance(source, list):
        bits = 8 * KINDS[line.kind].itemsize
        part, whole = bits // len(source), RAW[bits // 8]

        def join(*parts):
            total = parts[0].astype(whole)
            for n, x in enumerate(parts[1:], 1):
                total = total | x.astype(whole) << whole.type(n * part)
            return total
        return elementwise(line, join, f"b{bits}", *[f"b{part}"] * len(source), operands=[result, *source])
    return elementwise(line, lambda x: x, line.kind, line.kind)


ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@builder("cvt")
def cvt(line):
    """From the last type to the one before it."""
    words = [word for word in line.words if word not in ("ftz", "sat", "rn", "relu", *ROUND)]
    if len(words) != 1 or words[0] not in {*KINDS, "bf16", "f16x2", "bf16x2"}:
        raise unknown(line)
    [result], source = words, line.kind
    if result.endswith("x2"):               # the first operand becomes the upper half
        function = conversion(result[:-2], line)
        return elementwise(line, lambda high, low: np.array(np.broadcast_arrays(function(low), function(high))),
                           result, source, source)
    return elementwise(line, conversion(result, line), result, source)


def conversion(result, line):
    """The function that makes numbers of one type from those of another, as an instruction's words say."""
    rounding = next((ROUND[word] for word in line.words if word in ROUND), None)
    dtype = np.dtype(np.float32) if result == "bf16" else KINDS[result]

    def convert(x):
        if rounding:
            x = rounding(x)
        if dtype.kind in "iu" and (x.dtype.kind == "f" or "sat" in line.words):
            return clipped(x, dtype)
        if dtype.kind == "f" and "sat" in line.words:
            x = np.where(x > 0, np.minimum(x, 1), 0)
        if "relu" in line.words:
            x = np.maximum(x, x.dtype.type(0))
        return x.astype(dtype)[()]
    return convert


def clipped(x, dtype):
    """A number as the nearest whole one of a type; NaN is 0."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if x.dtype.kind != "f":
        return np.where(x < low, low, np.where(x > high, high, x)).astype(dtype)[()]
    inside = np.where((x > low) & (x < high), x, 0).astype(dtype)
    return np.where(x >= high, dtype.type(high), np.where(x <= low, dtype.type(low), inside))[()]
