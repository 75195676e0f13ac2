"""Single operations at sizes like Scout's: how near each comes to what the machine allows."""
import time
from statistics import median
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from rich.table import Table

from tinyscout.bench.sizes import BYTES, GROUP
from tinyscout.model import get_backend
from tinyscout.progress import track
from tinyscout.reference.quantize import Quantized

SETTLE, LEAST = 0.02, 0.02          # seconds before a sample, and that a sample lasts at least
PATIENCE = 5.0                      # seconds: what takes longer, as a plain loop may, is measured once


class Sizes(NamedTuple):
    """Letters as in config.py; one matrix of Scout's is D x F."""

    D: int = 5120
    F: int = 8192
    H: int = 40
    K: int = 8
    d: int = 128
    E: int = 16
    T: int = 512            # tokens of a prefill
    S: int = 8192           # tokens seen when one more comes
    Fe: int = 1024          # an eighth of an expert's width, so that all of them fit


SCOUT, TINY = Sizes(), Sizes(D=128, F=256, H=4, K=2, d=32, E=4, T=32, S=64, Fe=64)


class Case(NamedTuple):
    """One operation on one input."""

    name: str
    at: str                 # its sizes, as one reads them
    operation: str
    inputs: tuple
    nbytes: int             # of what must be read and written once
    flops: float            # additions and multiplications; 0 where the operation is not about them


def matrix(rng, form, *shape):
    """Random weights (..., I, O) in a form, laid out as a checkpoint's: (..., O, I) for plain matrices."""
    *E, inputs, outputs = shape
    if form in ("int8", "int4"):
        tiles, bits = (*E, outputs // 16), int(form[3:])
        values = rng.integers(-127, 128, (*tiles, inputs * bits // 32, 16, 4)).astype(np.int8)
        scales = rng.random((*tiles, inputs // GROUP, 16)).astype(ml_dtypes.bfloat16)
        return Quantized(values if bits == 8 else values.view(np.uint8), scales)
    plain = rng.standard_normal(shape if E else (outputs, inputs), dtype=np.float32)
    return (plain if E else plain.T).astype(ml_dtypes.bfloat16 if form == "bfloat16" else np.float32, copy=False)


def nbytes(*inputs):
    return sum(array.nbytes for x in inputs for array in (x if isinstance(x, Quantized) else (x,)))


def rows_of(rng, s):
    """The operations that work row by row: their time is the memory's."""
    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    x, hidden, heads = normal(s.T, s.D), normal(s.T, s.F), normal(1, s.T, s.H, s.d)
    cos, sin = normal(s.T, s.d // 2), normal(s.T, s.d // 2)
    scores, weight = normal(s.H, s.T, s.T), normal(s.D)
    for name, inputs in {"rms_norm": (x, weight), "layer_norm": (x, weight, weight), "apply_rope": (heads, cos, sin),
                         "swiglu": (hidden, normal(s.T, s.F)), "gelu": (hidden,), "softmax": (scores,)}.items():
        shape = " x ".join(str(n) for n in inputs[0].shape if n > 1)
        yield Case(name, shape, name, inputs, nbytes(*inputs) + inputs[0].nbytes, 0)


def products(rng, s, forms):
    """Matrices: one row of input is a question of memory, many rows one of arithmetic."""
    for form in forms:
        w = matrix(rng, form, s.D, s.F)
        for T in (1, s.T):
            x = rng.standard_normal((T, s.D), dtype=np.float32)
            yield Case(f"linear {form}", f"{T} x {s.D} x {s.F}", "linear", (x, w), nbytes(x, w) + 4 * T * s.F,
                       2.0 * T * s.D * s.F)


def mixture(rng, s, forms):
    """The routed experts, for one token and for many."""
    for form in forms:
        three = [matrix(rng, form, s.E, *shape) for shape in ((s.D, s.Fe), (s.D, s.Fe), (s.Fe, s.D))]
        for T in (1, s.T):
            x = rng.standard_normal((T, s.D), dtype=np.float32)
            expert, gate = rng.integers(0, s.E, (T, 1)), rng.random((T, 1), dtype=np.float32)
            touched = nbytes(*three) * len(np.unique(expert)) // s.E
            yield Case(f"experts {form}", f"{T} x {s.E} x {s.D} x {s.Fe}", "experts", (x, expert, gate, *three),
                       touched + 2 * x.nbytes, 6.0 * T * s.D * s.Fe)


def attentions(rng, s):
    """A prompt against itself, and one token against a full chunk."""
    for name, T, S in ("prefill", s.T, s.T), ("decode", 1, s.S):
        q = rng.standard_normal((1, T, s.H, s.d), dtype=np.float32)
        k, v = (rng.standard_normal((1, S, s.K, s.d), dtype=np.float32) for _ in range(2))
        pairs = T * (S - T) + T * (T + 1) / 2               # what a token may see
        yield Case(f"attention {name}", f"{T} of {S} x {s.H} x {s.d}", "grouped_query_attention", (q, k, v),
                   nbytes(q, k, v) + q.nbytes, 4 * pairs * s.H * s.d)


def cases(sizes=SCOUT, forms=tuple(BYTES), seed=0):
    """Every case, made one at a time: the inputs of one are some hundred megabytes.  ->  yields Case"""
    rng = np.random.default_rng(seed)
    yield from rows_of(rng, sizes)
    yield from products(rng, sizes, forms)
    yield from mixture(rng, sizes, forms)
    yield from attentions(rng, sizes)


def contenders(case, backends):
    """Who computes this operation: each backend, and each numbered version that a backend keeps  ->  {name: function}

    A backend that took an operation over from the reference is not measured twice, and quantized weights
    only where somebody computes with them as they are: the reference multiplies them out first.
    """
    found: dict[str, Any] = {}
    for name in backends:
        ops = get_backend(name)
        function = getattr(ops, case.operation)
        if function in found.values() or (name == "numpy" and any(isinstance(x, Quantized) for x in case.inputs)):
            continue
        found[name] = function
        plain = all(isinstance(x, np.ndarray) and x.dtype == np.float32 for x in case.inputs)
        versions: dict = getattr(ops, "versions", dict)().get(case.operation, {}) if plain else {}
        found |= {f"{name} {version}": function for version, function in versions.items()}
    return found


def measure(sizes=SCOUT, backends=("numpy", "c"), repeats=5, forms=tuple(BYTES), seed=0):
    """Measure every operation.

    sizes Sizes, backends names, repeats int, forms of the weights  ->  {"samples": [...]} that json can write
    """
    rows: list[dict] = []
    for case in track(cases(sizes, forms, seed), "Measuring operations", total=8 + 4 * len(forms)):
        functions = contenders(case, backends)
        inputs = {name: case.inputs if name in backends else row_major(case.inputs) for name in functions}
        times = {name: time_second_call(function, inputs[name]) for name, function in functions.items()}     # and warm
        seconds: dict = {name: [] for name in functions}
        for _ in range(repeats):
            for name, function in functions.items():
                time.sleep(SETTLE)
                seconds[name].append(times[name] if times[name] > PATIENCE else
                                     sample(function, inputs[name], max(1, round(LEAST / times[name]))))
        rows += [{"name": name, "operation": case.name, "at": case.at, "bytes": case.nbytes, "flops": case.flops,
                  "seconds": seconds[name]} for name in functions]
    return {"repeats": repeats, "samples": rows}


def row_major(inputs):
    """What a numbered version reads: the matrix of a checkpoint is turned round for it before the clock starts."""
    return tuple(np.ascontiguousarray(x) for x in inputs)


def time_second_call(function, inputs):
    """Seconds of a second call, or of the first where that is slow enough."""
    cold = sample(function, inputs, 1)
    return cold if cold > PATIENCE else sample(function, inputs, 1)


def sample(function, inputs, loops):
    """Seconds of one call, on average over `loops` of them."""
    begun = time.perf_counter()
    for _ in range(loops):
        function(*inputs)
    return (time.perf_counter() - begun) / loops


def summary(report, limits):
    """Median and spread in seconds, GB/s and GFLOP/s, and the fractions of what the machine allows."""
    rows = []
    for row in report["samples"]:
        middle = median(row["seconds"])
        rows.append({**{key: row[key] for key in ("name", "operation", "at")}, "median": middle,
                     "fastest": min(row["seconds"]), "slowest": max(row["seconds"]),
                     "bytes per second": row["bytes"] / middle, "operations per second": row["flops"] / middle,
                     "of bandwidth": row["bytes"] / middle / limits["read bytes per second"],
                     "of peak": row["flops"] / middle / limits["operations per second"]})
    return rows


def show(report, console):
    """A line for each operation and contender."""
    made = Table(title="\nOperations", title_justify="left", title_style="bold", box=None, pad_edge=False,
                 padding=(0, 2, 0, 0))
    for column in ("", "", "", "ms", "(fastest to slowest)", "GB/s", "of bandwidth", "GFLOP/s", "of peak"):
        made.add_column(column, justify="right" if made.columns[2:] else "left", no_wrap=True)
    for row in report["summary"]:
        ms = [f"{1e3 * row[key]:.3g}" for key in ("median", "fastest", "slowest")]
        counted = row["operations per second"] > 0
        made.add_row(row["operation"], row["at"], row["name"], ms[0], f"({ms[1]} to {ms[2]})",
                     f"{row['bytes per second'] / 1e9:.1f}", f"{row['of bandwidth']:.0%}",
                     f"{row['operations per second'] / 1e9:.1f}" if counted else "",
                     f"{row['of peak']:.0%}" if counted else "")
    console.print(made)
