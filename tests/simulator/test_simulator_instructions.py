"""Every PTX instruction that the simulator knows, against NumPy or against Python's own integers."""
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyscout.simulator import Fault, run

DTYPES = {"u16": np.uint16, "s16": np.int16, "u32": np.uint32, "s32": np.int32, "u64": np.uint64, "s64": np.int64,
          "b16": np.uint16, "b32": np.uint32, "b64": np.uint64, "f16": np.float16, "f32": np.float32, "f64": np.float64,
          "u8": np.uint8, "s8": np.int8, "bf16": np.uint16, "f16x2": np.uint32, "bf16x2": np.uint32, "pred": np.uint8}
BITS = {ptx_type: 8 * np.dtype(dtype).itemsize for ptx_type, dtype in DTYPES.items()}
N = 96


def program(body, pointers, shared=0):
    """A kernel around some instructions; %r0 is the thread in its block, %rd0 ... the arguments."""
    parameters = ",\n".join(f".param .u64 k_{n}" for n in range(pointers))
    loads = "\n".join(f"ld.param.u64 %rd{n}, [k_{n}];\ncvta.to.global.u64 %rd{n}, %rd{n};" for n in range(pointers))
    return f""".version 9.5
.target sm_80
.address_size 64
.visible .entry k({parameters})
{{
.reg .pred %p<20>; .reg .b16 %rs<20>; .reg .b32 %r<40>; .reg .b64 %rd<40>; .reg .f32 %f<20>; .reg .f64 %fd<20>;
.shared .align 16 .b8 tile[{shared or 16}];
.loc 1 7 0
{loads}
mov.u32 %r0, %tid.x;
{body}
ret;
}}
.file 1 "here.cu"
"""


def execute(instruction, result_type, types, arrays, block=N):
    """The result d of an instruction; its operands a, b, c are loaded from arrays, one number a thread."""
    body = []
    for n, (ptx_type, letter) in enumerate(zip(types, "abc", strict=False), 1):
        size = BITS[ptx_type] // 8
        body += [f"mul.wide.u32 %rd20, %r0, {size};", f"add.u64 %rd20, %rd20, %rd{n};",
                 f".reg .b{max(16, BITS[ptx_type])} %{letter}; .reg .pred %q{letter};",
                 f"ld.global.{'u8' if size == 1 else f'b{8 * size}'} %{letter}, [%rd20];"]
        body += [f".reg .b32 %w{letter}; cvt.u32.u16 %w{letter}, %{letter}; setp.ne.u32 %q{letter}, %w{letter}, 0;"
                 ] * (ptx_type == "pred")
    text = instruction
    for ptx_type, letter in zip(types, "abc", strict=False):
        text = text.replace(f" {letter}", f" %{'q' * (ptx_type == 'pred')}{letter}")
    size = BITS[result_type] // 8
    if result_type == "pred":
        body += [".reg .pred %d; .reg .b16 %e;", text.replace(" d", " %d") + ";", "selp.u16 %e, 1, 0, %d;"]
    else:
        body += [f".reg .b{max(16, 8 * size)} %d;", text.replace(" d", " %d") + ";"]
    body += [f"mul.wide.u32 %rd20, %r0, {size};", "add.u64 %rd20, %rd20, %rd0;",
             f"st.global.b{8 * size} [%rd20], %{'e' if result_type == 'pred' else 'd'};"]
    out = np.zeros(block, DTYPES[result_type])
    run(program("\n".join(body), 1 + len(types)), "k", (1,), (block,), 0, [out, *arrays])
    return out


def random_numbers(ptx_type, seed):
    """N numbers of a type, its extremes among them."""
    rng, dtype = np.random.default_rng(seed), np.dtype(DTYPES[ptx_type])
    if ptx_type == "pred":
        return rng.integers(0, 2, N, dtype=np.uint8)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        edges = np.array([0, 1, info.max, info.min, info.max - 1, info.max // 2], dtype)
        integers = rng.integers(info.min, info.max, N, dtype=dtype, endpoint=True)
        integers >>= rng.integers(0, 8 * dtype.itemsize, N).astype(dtype)
        return np.concatenate([edges, integers])[:N][rng.permutation(N)]
    edges = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 0.5, 1.5, 2.5, 1e-3], dtype)
    return np.concatenate([edges, (rng.normal(size=N) * 10.0 ** rng.integers(-3, 4, N)).astype(dtype)])[:N][
        rng.permutation(N)]


def vectorize(function):
    """A function of Python's integers as one of arrays; the result is truncated to a number of bits."""
    def on_arrays(*arrays, bits):
        results = [function(*(int(x) for x in xs)) % (1 << bits) for xs in zip(*arrays, strict=True)]
        return np.array(results, f"u{bits // 8}")
    return on_arrays


def truncated_quotient(x, y):
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) if y else -1


def extract_field(x, start, length, bits, signed):
    """bfe by the bits, one after another."""
    start, length = start & 255, length & 255
    digits = [x >> min(start + n, bits - 1) & 1 if start + n < bits or signed else 0 for n in range(min(length, bits))]
    if signed:
        last = x >> min(start + length - 1, bits - 1) & 1 if length else 0
        digits += [last] * (bits - len(digits))
    return sum(digit << n for n, digit in enumerate(digits))


def insert_field(f, x, start, length, bits):
    start, length = start & 255, length & 255
    mask = ((1 << min(length, bits)) - 1) << start if start < bits else 0
    return x & ~mask | f << start & mask


INTEGERS = {                    # instruction: (type of the result, types of the operands, what it means)
    **{f"{op}.{k} d, a, b": (k, (k, k), f) for k in ("s16", "u16", "s32", "u32", "s64", "u64") for op, f in {
        "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul.lo": lambda x, y: x * y, "min": min, "max": max,
        "div": truncated_quotient, "rem": lambda x, y: x - truncated_quotient(x, y) * y}.items()},
    **{f"mul.hi.{k} d, a, b": (k, (k, k), lambda x, y, n=int(k[1:]): x * y >> n)
       for k in ("s16", "u16", "s32", "u32", "s64", "u64")},
    **{f"mul.wide.{k} d, a, b": (w, (k, k), lambda x, y: x * y)
       for k, w in {"s16": "s32", "u16": "u32", "s32": "s64", "u32": "u64"}.items()},
    **{f"mad.lo.{k} d, a, b, c": (k, (k, k, k), lambda x, y, z: x * y + z) for k in ("s32", "u32", "s64")},
    **{f"mad.hi.{k} d, a, b, c": (k, (k, k, k), lambda x, y, z: (x * y >> 32) + z) for k in ("s32", "u32")},
    **{f"mad.wide.{k} d, a, b, c": (w, (k, k, w), lambda x, y, z: x * y + z)
       for k, w in {"s32": "s64", "u32": "u64"}.items()},
    **{f"{op}.{k} d, a": (k, (k,), f) for k in ("s16", "s32", "s64")
       for op, f in {"abs": abs, "neg": lambda x: -x}.items()},
    **{f"{op}.{k} d, a, b": (k, (k, k), f) for k in ("b16", "b32", "b64") for op, f in {
        "and": lambda x, y: x & y, "or": lambda x, y: x | y, "xor": lambda x, y: x ^ y}.items()},
    **{f"not.{k} d, a": (k, (k,), lambda x: ~x) for k in ("b16", "b32", "b64")},
    "not.pred d, a": ("pred", ("pred",), lambda x: not x),
    "xor.pred d, a, b": ("pred", ("pred", "pred"), lambda x, y: x ^ y),
    **{f"popc.{k} d, a": ("u32", (k,), lambda x: x.bit_count()) for k in ("b32", "b64")},
    **{f"clz.{k} d, a": ("u32", (k,), lambda x, n=int(k[1:]): n - x.bit_length()) for k in ("b32", "b64")},
    **{f"brev.{k} d, a": (k, (k,), lambda x, n=int(k[1:]): int(f"{x:0{n}b}"[::-1], 2)) for k in ("b32", "b64")},
    **{f"bfind.{k} d, a": ("u32", (k,), lambda x: (x if x >= 0 else ~x).bit_length() - 1)
       for k in ("u32", "s32", "u64", "s64")},
    "bfind.shiftamt.u32 d, a": ("u32", ("u32",), lambda x: 32 - x.bit_length() if x else -1),
    "selp.b32 d, a, b, c": ("b32", ("b32", "b32", "pred"), lambda x, y, p: x if p else y),
    "slct.s32.s32 d, a, b, c": ("s32", ("s32", "s32", "s32"), lambda x, y, z: x if z >= 0 else y),
    "set.lt.u32.s32 d, a, b": ("u32", ("s32", "s32"), lambda x, y: -(x < y)),
    "lop3.b32 d, a, b, c, 0xE8": ("b32", ("b32", "b32", "b32"), lambda x, y, z: x & y | x & z | y & z),
    "lop3.b32 d, a, b, c, 0x96": ("b32", ("b32", "b32", "b32"), lambda x, y, z: x ^ y ^ z),
    **{f"cvt.{to}.{k} d, a": (to, (k,), lambda x: x) for k in ("s16", "u16", "s32", "u32", "s64", "u64")
       for to in ("s16", "u32", "s64")},
    "cvt.sat.s8.s32 d, a": ("s8", ("s32",), lambda x: max(-128, min(127, x))),
    "cvt.sat.u16.s32 d, a": ("u16", ("s32",), lambda x: max(0, min(65535, x))),
    **{f"setp.{c}.{k} d, a, b": ("pred", (k, k), f) for k in ("s32", "u32", "s64", "u64", "s16") for c, f in {
        "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y, "le": lambda x, y: x <= y,
        "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y}.items()},
    "setp.lo.u32 d, a, b": ("pred", ("u32", "u32"), lambda x, y: x < y),
    "setp.lt.and.s32 d, a, b, c": ("pred", ("s32", "s32", "pred"), lambda x, y, p: x < y and p),
    "setp.lt.or.s32 d, a, b, !c": ("pred", ("s32", "s32", "pred"), lambda x, y, p: x < y or not p),
    "mov.b64 d, {a, b}": ("b64", ("b32", "b32"), lambda x, y: x | y << 32),
    "mov.b32 {d, _}, a": ("b16", ("b32",), lambda x: x), "mov.b32 {_, d}, a": ("b16", ("b32",), lambda x: x >> 16),
}


@pytest.mark.parametrize("instruction", INTEGERS)
def test_integers(instruction):
    result_type, types, meaning = INTEGERS[instruction]
    arrays = [random_numbers(ptx_type, seed) for seed, ptx_type in enumerate(types)]
    arrays[-1][0] = arrays[0][0]                            # two equal ones
    expected = vectorize(meaning)(*arrays, bits=BITS[result_type])
    text = instruction.replace("!c", "!%qc").replace("{d", "{ d").replace("{_, d", "{_,  d").replace("{a", "{ a")
    np.testing.assert_array_equal(execute(text, result_type, types, arrays).view(expected.dtype), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2 ** 32), st.sampled_from(["b32", "b64", "s32", "s64"]))
def test_shifts_and_fields(seed, ptx_type):
    bits, signed = BITS[ptx_type], ptx_type[0] == "s"
    rng, x = np.random.default_rng(seed), random_numbers(ptx_type, seed)
    counts = [rng.integers(0, top, N).astype(np.uint32) for top in (70, 40)]
    for op, meaning in {"shl": lambda x, n: x << n, "shr": lambda x, n: x >> n}.items():
        if op == "shr" or not signed:
            got = execute(f"{op}.{ptx_type} d, a, b", ptx_type, (ptx_type, "u32"), [x, counts[0]])
            np.testing.assert_array_equal(got.view(f"u{bits // 8}"), vectorize(meaning)(x, counts[0], bits=bits))
    unsigned = ptx_type.replace("b", "u")
    np.testing.assert_array_equal(
        execute(f"bfe.{unsigned} d, a, b, c", ptx_type, (ptx_type, "u32", "u32"), [x, *counts]).view(f"u{bits // 8}"),
        vectorize(lambda x, s, n: extract_field(x, s, n, bits, signed))(x, *counts, bits=bits))
    if not signed:
        y = random_numbers(ptx_type, seed + 1)
        got = execute(f"bfi.{ptx_type} d, a, b, c, 12", ptx_type, (ptx_type, ptx_type, "u32"), [x, y, counts[0]])
        np.testing.assert_array_equal(got, vectorize(lambda f, x, s: insert_field(f, x, s, 12, bits))(x, y, counts[0],
                                                                                                      bits=bits))


def permute_bytes(low, high, selector):
    """prmt by bytes."""
    pool, result = struct.pack("<II", low, high), 0
    for n in range(4):
        digit = selector >> 4 * n & 15
        byte = pool[digit & 7]
        result |= (255 * (byte >> 7) if digit & 8 else byte) << 8 * n
    return result


def dot(x, y, z, signs):
    a, b = (struct.unpack(f"<4{sign}", struct.pack("<I", number)) for sign, number in zip(signs, (x, y), strict=True))
    return sum(p * q for p, q in zip(a, b, strict=True)) + z


@pytest.mark.parametrize(("instruction", "meaning"), [
    ("prmt.b32 d, a, b, c", permute_bytes),
    ("dp4a.s32.s32 d, a, b, c", lambda x, y, z: dot(x, y, z, "bb")),
    ("dp4a.u32.s32 d, a, b, c", lambda x, y, z: dot(x, y, z, "Bb")),
    ("dp4a.u32.u32 d, a, b, c", lambda x, y, z: dot(x, y, z, "BB")),
    ("shf.l.wrap.b32 d, a, b, c", lambda lo, hi, n: (hi << 32 | lo) << (n & 31) >> 32),
    ("shf.r.wrap.b32 d, a, b, c", lambda lo, hi, n: (hi << 32 | lo) >> (n & 31)),
    ("shf.l.clamp.b32 d, a, b, c", lambda lo, hi, n: (hi << 32 | lo) << min(n, 32) >> 32),
    ("shf.r.clamp.b32 d, a, b, c", lambda lo, hi, n: (hi << 32 | lo) >> min(n, 32)),
])
def test_bytes_and_funnel_shifts(instruction, meaning):
    arrays = [random_numbers("b32", seed) for seed in range(3)]
    np.testing.assert_array_equal(execute(instruction, "b32", ("b32",) * 3, arrays),
                                  vectorize(meaning)(*arrays, bits=32))


FLOATS = {
    "add.f32 d, a, b": np.add, "sub.f32 d, a, b": np.subtract, "mul.rn.f32 d, a, b": np.multiply,
    "add.f64 d, a, b": np.add, "mul.f64 d, a, b": np.multiply, "div.rn.f64 d, a, b": np.divide,
    "add.f16 d, a, b": np.add, "mul.f16 d, a, b": np.multiply, "div.rn.f32 d, a, b": np.divide,
    "min.f32 d, a, b": np.fmin, "max.f32 d, a, b": np.fmax, "max.NaN.f32 d, a, b": np.maximum,
    "max.f16 d, a, b": np.fmax,
    "neg.f32 d, a": np.negative, "abs.f64 d, a": np.abs, "sqrt.rn.f32 d, a": np.sqrt, "rcp.rn.f32 d, a": np.reciprocal,
    "ex2.approx.f32 d, a": np.exp2, "lg2.approx.f32 d, a": np.log2, "sin.approx.f32 d, a": np.sin,
    "cos.approx.f32 d, a": np.cos, "tanh.approx.f32 d, a": np.tanh, "rsqrt.approx.f32 d, a": lambda x: 1 / np.sqrt(x),
    "copysign.f32 d, a, b": lambda sign, x: np.copysign(x, sign), "add.sat.f32 d, a, b":
    lambda x, y: np.where(x + y > 0, np.minimum(x + y, 1), 0), "cvt.rni.f32.f32 d, a": np.rint,
    "cvt.rzi.f32.f32 d, a": np.trunc, "cvt.rmi.f32.f32 d, a": np.floor, "cvt.rpi.f32.f32 d, a": np.ceil,
    "cvt.sat.f32.f32 d, a": lambda x: np.where(x > 0, np.minimum(x, 1), 0),
}


@pytest.mark.parametrize("instruction", FLOATS)
def test_floats(instruction):
    ptx_type = instruction.split()[0].rsplit(".", 1)[1]
    arrays = [random_numbers(ptx_type, seed) for seed in range(instruction.count(",")) or [0]]
    with np.errstate(all="ignore"):
        expected = FLOATS[instruction](*arrays).astype(DTYPES[ptx_type])
    np.testing.assert_array_equal(execute(instruction, ptx_type, (ptx_type,) * len(arrays), arrays), expected)


def test_a_fused_product_is_rounded_once():
    x, y, z = (random_numbers("f32", seed) for seed in range(3))
    x, y, z = (np.where(np.isfinite(a), a, np.float32(1.25)) for a in (x, y, z))
    z[:48] = -(x * y)[:48]                              # what is left is the product's own rounding
    exact = [Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)) for a, b, c in zip(x, y, z, strict=True)]
    expected = np.array([float(value) for value in exact]).astype(np.float32)
    np.testing.assert_array_equal(execute("fma.rn.f32 d, a, b, c", "f32", ("f32",) * 3, [x, y, z]), expected)
    assert (expected != x * y + z).any()
    got = {mode: execute(f"fma.{mode}.f32 d, a, b, c", "f32", ("f32",) * 3, [x, y, z]) for mode in ("rm", "rp", "rz")}
    for value, down, up, zero in zip(exact, got["rm"], got["rp"], got["rz"], strict=True):
        assert Fraction(float(down)) <= value <= Fraction(float(up))
        assert down == up or np.nextafter(down, np.float32(np.inf)) == up
        assert zero == (down if value > 0 else up)


def test_denormals_are_flushed_to_zero():
    x = np.full(N, 2.0 ** -130, np.float32)
    assert (execute("mul.f32 d, a, b", "f32", ("f32", "f32"), [x, np.ones(N, np.float32)]) == x).all()
    assert (execute("mul.ftz.f32 d, a, b", "f32", ("f32", "f32"), [x, np.ones(N, np.float32)]) == 0).all()


@pytest.mark.parametrize("compare", ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu",
                                     "num", "nan"])
def test_comparisons_of_floats(compare):
    x, y = random_numbers("f32", 0), random_numbers("f32", 1)
    x[:20] = y[:20]
    no_number = np.isnan(x) | np.isnan(y)
    plain = {"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}
    expected = {"num": ~no_number, "nan": no_number}.get(compare)
    if expected is None:
        expected = plain[compare[:2]] & ~no_number if len(compare) == 2 else plain[compare[:2]] | no_number
    np.testing.assert_array_equal(execute(f"setp.{compare}.f32 d, a, b", "pred", ("f32", "f32"), [x, y]), expected)


@pytest.mark.parametrize(("test", "expected"), [("finite", np.isfinite), ("infinite", np.isinf),
                                                ("notanumber", np.isnan), ("number", lambda x: ~np.isnan(x))])
def test_classes_of_floats(test, expected):
    x = random_numbers("f32", 0)
    np.testing.assert_array_equal(execute(f"testp.{test}.f32 d, a", "pred", ("f32",), [x]), expected(x))


def convert_saturating(x, dtype, rounding=np.trunc):
    """The nearest integer of a type to each float, NaN as 0."""
    info = np.iinfo(dtype)
    return np.array([0 if np.isnan(v) else max(info.min, min(info.max, int(rounding(v)) if np.isfinite(v) else
                                                             (info.max if v > 0 else info.min)))
                     for v in x.astype(np.float64)], dtype)


@pytest.mark.parametrize(("mode", "rounding"), [("rni", np.rint), ("rzi", np.trunc), ("rmi", np.floor),
                                                ("rpi", np.ceil)])
@pytest.mark.parametrize("to_type", ["s32", "u32", "s64", "u16"])
@pytest.mark.parametrize("source_type", ["f32", "f64", "f16"])
def test_conversions_to_integers(mode, rounding, to_type, source_type):
    x = random_numbers(source_type, 2)
    with np.errstate(all="ignore"):
        x[:3] = [3e9, -3e9, 65504]
    np.testing.assert_array_equal(execute(f"cvt.{mode}.{to_type}.{source_type} d, a", to_type, (source_type,), [x]),
                                  convert_saturating(x, DTYPES[to_type], rounding))


@pytest.mark.parametrize(("to_type", "source_type"), [("f32", "s32"), ("f32", "u64"), ("f64", "s64"), ("f16", "f32"),
                                                      ("f32", "f16"), ("f32", "f64"), ("f64", "f32"), ("f16", "s32"),
                                                      ("f32", "u8"), ("f32", "s8")])
def test_conversions_to_floats(to_type, source_type):
    x = random_numbers(source_type, 3)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(execute(f"cvt.rn.{to_type}.{source_type} d, a", to_type, (source_type,), [x]),
                                      x.astype(DTYPES[to_type]))


def to_bf16(x):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    return x.astype(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def pair(low, high):
    return low.astype(np.uint32) | high.astype(np.uint32) << 16


def test_bfloat16():
    x, y = (np.where(np.isnan(a), np.float32(3), a) for a in (random_numbers("f32", 0), random_numbers("f32", 1)))
    a, b = to_bf16(x), to_bf16(y)
    np.testing.assert_array_equal(execute("cvt.rn.bf16.f32 d, a", "bf16", ("f32",), [x]), a)
    np.testing.assert_array_equal(execute("cvt.f32.bf16 d, a", "f32", ("bf16",), [a]), from_bf16(a))
    np.testing.assert_array_equal(execute("cvt.rn.bf16x2.f32 d, a, b", "bf16x2", ("f32", "f32"), [x, y]), pair(b, a))
    one = np.full(N, 0x3f80, np.uint16)
    with np.errstate(all="ignore"):
        total = to_bf16(from_bf16(a) + from_bf16(b))
    number = ~np.isnan(from_bf16(total))
    got = execute("fma.rn.bf16 d, a, b, c", "bf16", ("bf16",) * 3, [a, one, b])
    np.testing.assert_array_equal(got[number], total[number])
    packed = [pair(a, b), pair(one, one), pair(b, a)]
    got = execute("fma.rn.bf16x2 d, a, b, c", "bf16x2", ("bf16x2",) * 3, packed)
    np.testing.assert_array_equal(got[number], pair(total, total)[number])
    np.testing.assert_array_equal(execute("max.bf16 d, a, b", "bf16", ("bf16", "bf16"), [a, b]),
                                  to_bf16(np.fmax(from_bf16(a), from_bf16(b))))
    assert (execute("cvt.rn.bf16.f32 d, a", "bf16", ("f32",), [np.full(N, np.nan, np.float32)]) == 0x7fff).all()


@pytest.mark.parametrize(("op", "function"), [("add", np.add), ("mul", np.multiply), ("max", np.fmax),
                                              ("sub", np.subtract)])
def test_two_halves_at_once(op, function):
    parts = [random_numbers("f16", seed) for seed in range(4)]
    x, y = (pair(*(part.view(np.uint16) for part in two)) for two in (parts[:2], parts[2:]))
    got = execute(f"{op}.f16x2 d, a, b", "f16x2", ("f16x2", "f16x2"), [x, y]).view(np.float16).reshape(N, 2)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, np.stack([function(parts[0], parts[2]), function(parts[1], parts[3])], 1))


def test_an_unknown_instruction_is_named():
    with pytest.raises(Fault, match=r"here\.cu:7: the simulator does not know the PTX instruction frob\.s32"):
        execute("frob.s32 d, a", "s32", ("s32",), [np.zeros(N, np.int32)])
    with pytest.raises(Fault, match=r"add\.cc\.u32"):
        execute("add.cc.u32 d, a, b", "u32", ("u32", "u32"), [np.zeros(N, np.uint32)] * 2)
    with pytest.raises(Fault, match=r"special register %smid"):
        run(program("mov.u32 %r1, %smid;", 0), "k", (1,), (1,), 0, [])


def test_a_predicated_instruction_leaves_the_other_threads_alone():
    out = np.zeros(N, np.uint32)
    run(program("""mov.u32 %r1, %r0;
        setp.ge.u32 %p1, %r0, 48;
        @%p1 bra $join;
        mov.u32 %r1, 100;
        $join:
        setp.lt.u32 %p2, %r0, 10;
        @%p2 mov.u32 %r1, 7;
        @!%p2 add.u32 %r1, %r1, 1000;
        mul.wide.u32 %rd20, %r0, 4;
        add.u64 %rd20, %rd20, %rd0;
        st.global.u32 [%rd20], %r1;""", 1), "k", (1,), (N,), 0, [out])
    np.testing.assert_array_equal(out, [7] * 10 + [1100] * 38 + list(range(1048, 1000 + N)))
