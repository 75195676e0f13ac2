"""The reference, with these names replaced by C (csrc/c, through cffi)."""
import numpy as np

from tinyscout import reference
from tinyscout.kernels.library import ffi, lib
from tinyscout.reference import *  # noqa: F403  what is not below is the reference itself
from tinyscout.reference.quantize import Quantized, QuantizedRows


def floats(array):
    """A C pointer to a row-major float32 array, or NULL for None."""
    return ffi.NULL if array is None else ffi.from_buffer("float[]", array)


def f32(*arrays):
    """Each as row-major float32, copied only where it is not; None stays None."""
    return [None if a is None else np.ascontiguousarray(a, dtype=np.float32) for a in arrays]


KINDS = {"float32": lib.F32, "bfloat16": lib.BF16, "float16": lib.F16, "int8": lib.INT8, "uint8": lib.INT4}


def address(array):
    """Where an array's first number lies.  The caller keeps the array alive."""
    return ffi.cast("void *", array.__array_interface__["data"][0])


def matrix(w):
    """A weight (I, O) or (E, I, O), stored or quantized, as C reads it: in place  ->  struct, what must stay alive"""
    m = ffi.new("matrix *")
    if isinstance(w, Quantized):
        values, scales = np.ascontiguousarray(w.values), np.ascontiguousarray(w.scales)
        m.kind, m.scale_kind, m.group = KINDS[values.dtype.name], KINDS[scales.dtype.name], w.group
        m.values, m.scales = address(values), address(scales)
        return m, (m, values, scales)
    if w.dtype.name not in KINDS or not w.flags.aligned or any(s % w.itemsize for s in w.strides):
        w = w.astype(np.float32)
    steps = [1 if n == 1 else s // w.itemsize for n, s in zip(w.shape, w.strides, strict=True)]    # of one: any step
    m.kind, m.values, m.expert, m.out, m.in_ = KINDS[w.dtype.name], address(w), steps[0], steps[-1], steps[-2]
    return m, (m, w)


def past(k):
    """Keys or values (B, S, K, d) of a cache as C reads them: in place  ->  struct, what must stay alive"""
    p = ffi.new("past *")
    parts = k if isinstance(k, QuantizedRows) else (k,)
    values = parts[0]
    row = values.shape[2] * values.shape[3] * values.itemsize
    if values.dtype.name not in KINDS or values.strides[1:] != (row, row // values.shape[2], values.itemsize) \
            or values.strides[0] % row:
        parts = tuple(np.ascontiguousarray(a if a.dtype.name in KINDS else a.astype(np.float32)) for a in parts)
    p.kind, p.values, p.batch = KINDS[parts[0].dtype.name], address(parts[0]), parts[0].strides[0] // row
    if len(parts) == 2:
        p.scales, p.group = address(parts[1]), values.shape[-1] * (2 if p.kind == lib.INT4 else 1) // parts[1].shape[-1]
    return p, (p, parts)


def for_c(x):
    """The kernels compute in float32.  float64 and arrays without elements are left to the reference."""
    return x.dtype == np.float32 and x.size > 0


def rms_norm(x, weight=None, eps=1e-5):
    if not for_c(x):
        return reference.rms_norm(x, weight, eps)
    x, weight = f32(x, weight)
    out = np.empty_like(x)
    lib.rms_norm(floats(out), floats(x), floats(weight), eps, x.size // x.shape[-1], x.shape[-1])
    return out


def apply_rope(x, cos, sin):
    if not for_c(x):
        return reference.apply_rope(x, cos, sin)
    x, cos, sin = f32(x, cos, sin)
    out = np.empty_like(x)
    lib.apply_rope(floats(out), floats(x), floats(cos), floats(sin), *x.shape)
    return out


def swiglu(gate, up):
    if not for_c(gate):
        return reference.swiglu(gate, up)
    gate, up = f32(gate, up)
    out = np.empty_like(gate)
    lib.swiglu(floats(out), floats(gate), floats(up), gate.size // gate.shape[-1], gate.shape[-1])
    return out


def linear(x, w, bias=None):
    if not for_c(x):
        return reference.linear(x, w, bias)
    m, alive = matrix(w)
    x, bias = f32(x, bias)
    out = np.empty((*x.shape[:-1], w.shape[-1]), np.float32)
    lib.linear(floats(out), floats(x), m, floats(bias), x.size // x.shape[-1], *w.shape)
    return out


def grouped_query_attention(q, k, v, causal=True, chunk=None, first=0):
    if not for_c(q):
        return reference.grouped_query_attention(q, k, v, causal, chunk, first)
    q, = f32(q)
    keys, values = past(k), past(v)
    out = np.empty_like(q)
    B, T, H, d = q.shape
    lib.grouped_query_attention(floats(out), floats(q), keys[0], values[0], causal, chunk or 0, first, B, T,
                                k.shape[1], H, k.shape[2], d)
    return out


def experts(x, expert, gate, w_gate, w_up, w_down):
    if not for_c(x):
        return reference.experts(x, expert, gate, w_gate, w_up, w_down)
    parts = [matrix(w) for w in (w_gate, w_up, w_down)]
    x, gate = f32(x, gate)
    expert = np.ascontiguousarray(expert, np.int64)
    out = np.empty_like(x)
    lib.experts(floats(out), floats(x), ffi.from_buffer("int64_t[]", expert), floats(gate), *(m for m, _ in parts),
                *expert.shape, *w_gate.shape[-2:-1], w_gate.shape[0], w_gate.shape[-1])
    return out
