"""Benchmark of single operations at Scout's sizes, compared with the limits of the machine."""
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from rich.table import Table

from tinyscout.bench.budget import DTYPES
from tinyscout.bench.formats import format_digits, format_percent
from tinyscout.bench.sizes import WEIGHT_DTYPES
from tinyscout.model import get_backend
from tinyscout.progress import track
from tinyscout.reference.quantize import Quantized

SETTLE, MIN_SECONDS = 0.02, 0.02    # seconds to wait before a sample, and shortest duration of a sample
MAX_REPEATED = 5.0                  # seconds: a call that takes longer, such as a plain loop, is measured once


class Sizes(NamedTuple):
    """Sizes, with the letters of config.py; a matrix is D x F."""

    D: int = 5120
    F: int = 8192
    H: int = 40
    K: int = 8
    d: int = 128
    E: int = 16
    T: int = 512            # tokens of a prefill
    S: int = 8192           # tokens in the cache when one token is decoded
    Fe: int = 1024          # an eighth of an expert's width, so that all experts fit into memory


SCOUT, TINY = Sizes(), Sizes(D=128, F=256, H=4, K=2, d=32, E=4, T=32, S=64, Fe=64)


class Case(NamedTuple):
    """One operation on one input."""

    name: str
    at: str                 # its sizes, for printing
    operation: str
    inputs: tuple
    nbytes: int             # smallest number of bytes read and written
    flops: float            # additions and multiplications; 0 if the operation is memory-bound


def random_matrix(rng, dtype, *shape):
    """Random weights (..., I, O) in one of WEIGHT_DTYPES.  A float matrix is stored as (O, I), as in a checkpoint."""
    *E, I, O = shape
    if dtype in ("int8", "int4"):
        tiles, bits = (*E, O // 16), int(dtype[3:])
        values = rng.integers(-127, 128, (*tiles, I * bits // 32, 16, 4)).astype(np.int8)
        scales = rng.random((*tiles, I // DTYPES[dtype].group, 16)).astype(ml_dtypes.bfloat16)
        return Quantized(values if bits == 8 else values.view(np.uint8), scales)
    w = rng.standard_normal(shape if E else (O, I), dtype=np.float32)
    return (w if E else w.T).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32, copy=False)


def total_nbytes(*inputs):
    """Total bytes of arrays and quantized matrices."""
    return sum(array.nbytes for x in inputs for array in (x if isinstance(x, Quantized) else (x,)))


def row_cases(rng, s):
    """The operations that work row by row; they are memory-bound."""
    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    x, hidden, heads = normal(s.T, s.D), normal(s.T, s.F), normal(1, s.T, s.H, s.d)
    cos, sin = normal(s.T, s.d // 2), normal(s.T, s.d // 2)
    scores, weight = normal(s.H, s.T, s.T), normal(s.D)
    for name, inputs in {"rms_norm": (x, weight), "layer_norm": (x, weight, weight), "apply_rope": (heads, cos, sin),
                         "swiglu": (hidden, normal(s.T, s.F)), "gelu": (hidden,), "softmax": (scores,)}.items():
        shape = " x ".join(str(n) for n in inputs[0].shape if n > 1)
        yield Case(name, shape, name, inputs, total_nbytes(*inputs) + inputs[0].nbytes, 0)


def linear_cases(rng, s, dtypes):
    """Matrix products: memory-bound for one row of input, compute-bound for many rows."""
    for dtype in dtypes:
        w = random_matrix(rng, dtype, s.D, s.F)
        for T in (1, s.T):
            x = rng.standard_normal((T, s.D), dtype=np.float32)
            yield Case(f"linear {dtype}", f"{T} x {s.D} x {s.F}", "linear", (x, w), total_nbytes(x, w) + 4 * T * s.F,
                       2.0 * T * s.D * s.F)


def expert_cases(rng, s, dtypes):
    """The routed experts, for one token and for many tokens."""
    for dtype in dtypes:
        weights = [random_matrix(rng, dtype, s.E, *shape) for shape in ((s.D, s.Fe), (s.D, s.Fe), (s.Fe, s.D))]
        for T in (1, s.T):
            x = rng.standard_normal((T, s.D), dtype=np.float32)
            expert, gate = rng.integers(0, s.E, (T, 1)), rng.random((T, 1), dtype=np.float32)
            weight_nbytes = total_nbytes(*weights) * len(np.unique(expert)) // s.E
            yield Case(f"experts {dtype}", f"{T} x {s.E} x {s.D} x {s.Fe}", "experts", (x, expert, gate, *weights),
                       weight_nbytes + 2 * x.nbytes, 6.0 * T * s.D * s.Fe)


def attention_cases(rng, s):
    """Self-attention of a prompt, and one token that attends to a full chunk."""
    for name, T, S in ("prefill", s.T, s.T), ("decode", 1, s.S):
        q = rng.standard_normal((1, T, s.H, s.d), dtype=np.float32)
        k, v = (rng.standard_normal((1, S, s.K, s.d), dtype=np.float32) for _ in range(2))
        pairs = T * (S - T) + T * (T + 1) / 2               # of a query and a visible key
        yield Case(f"attention {name}", f"{T} of {S} x {s.H} x {s.d}", "grouped_query_attention", (q, k, v),
                   total_nbytes(q, k, v) + q.nbytes, 4 * pairs * s.H * s.d)


def cases(sizes: Sizes = SCOUT, dtypes: Sequence[str] = WEIGHT_DTYPES, seed: int = 0) -> Iterator[Case]:
    """All cases, created one at a time, since the inputs of one case take hundreds of megabytes."""
    rng = np.random.default_rng(seed)
    yield from row_cases(rng, sizes)
    yield from linear_cases(rng, sizes, dtypes)
    yield from expert_cases(rng, sizes, dtypes)
    yield from attention_cases(rng, sizes)


def implementations(case: Case, backends: Sequence[str]) -> dict[str, Callable]:
    """The functions that compute an operation: {name: function} of each backend and each of its numbered versions.

    A function that two backends share is measured once.  NumPy is not measured with quantized weights, because the
    reference converts them to floats first.
    """
    functions: dict[str, Any] = {}
    for name in backends:
        ops = get_backend(name)
        function = getattr(ops, case.operation)
        if function in functions.values() or (name == "numpy" and any(isinstance(x, Quantized) for x in case.inputs)):
            continue
        functions[name] = function
        is_float32 = all(isinstance(x, np.ndarray) and x.dtype == np.float32 for x in case.inputs)
        if is_float32 and hasattr(ops, "versions"):
            versions = ops.versions().get(case.operation, {})
            functions |= {f"{name} {version}": function for version, function in versions.items()}
    return functions


def measure(sizes: Sizes = SCOUT, backends: Sequence[str] = ("numpy", "c"), repeats: int = 5,
            dtypes: Sequence[str] = WEIGHT_DTYPES, seed: int = 0) -> dict:
    """Measure every operation with weights of these dtypes  ->  {"samples": [...]} that json can write"""
    rows: list[dict] = []
    for case in track(cases(sizes, dtypes, seed), "Measuring operations", total=8 + 4 * len(dtypes)):
        functions = implementations(case, backends)
        inputs = {name: case.inputs if name in backends else row_major(case.inputs) for name in functions}
        times = {name: time_warm_call(function, inputs[name]) for name, function in functions.items()}
        seconds: dict = {name: [] for name in functions}
        for _ in range(repeats):
            for name, function in functions.items():
                time.sleep(SETTLE)
                seconds[name].append(times[name] if times[name] > MAX_REPEATED else
                                     time_calls(function, inputs[name], max(1, round(MIN_SECONDS / times[name]))))
        rows += [{"name": name, "operation": case.name, "at": case.at, "bytes": case.nbytes, "flops": case.flops,
                  "seconds": seconds[name]} for name in functions]
    return {"repeats": repeats, "samples": rows}


def row_major(inputs):
    """Make the inputs row-major, as the numbered versions require; a checkpoint's matrices are not."""
    return tuple(np.ascontiguousarray(x) for x in inputs)


def time_warm_call(function, inputs):
    """Seconds of the second call, or of the first call if that takes longer than MAX_REPEATED."""
    cold = time_calls(function, inputs, 1)
    return cold if cold > MAX_REPEATED else time_calls(function, inputs, 1)


def time_calls(function, inputs, loops):
    """Mean seconds per call over `loops` calls."""
    start = time.perf_counter()
    for _ in range(loops):
        function(*inputs)
    return (time.perf_counter() - start) / loops


def summary(report: dict, limits: dict) -> list[dict]:
    """Like `rates`, but the peak is that of `float32_peak`, and products with integers have no share of it."""
    samples = report["samples"]
    rows = rates(samples, limits | {"operations per second": float32_peak(samples, limits)})
    return [row | {"of peak": 0.0} if row["operation"].endswith(("int8", "int4")) else row for row in rows]


def float32_peak(samples: list[dict], limits: dict) -> float:
    """The fastest float32 rate of a run in operations per second, be it of a sample or of BLAS in `limits`."""
    reached = [row["flops"] / min(row["seconds"]) for row in samples if row["operation"].split()[-1] not in
               ("bfloat16", "int8", "int4")]
    return max([limits["operations per second"], *reached])


def rates(samples: list[dict], limits: dict) -> list[dict]:
    """Median, fastest and slowest in seconds, bytes and operations per second, and shares of the machine's limits."""
    rows = []
    for row in samples:
        middle = median(row["seconds"])
        rows.append({**{key: row[key] for key in ("name", "operation", "at")}, "median": middle,
                     "fastest": min(row["seconds"]), "slowest": max(row["seconds"]),
                     "bytes per second": row["bytes"] / middle, "operations per second": row["flops"] / middle,
                     "of bandwidth": row["bytes"] / middle / limits["read bytes per second"],
                     "of peak": row["flops"] / middle / limits["operations per second"]})
    return rows


def summary_table(title: str, rows: list[dict], time: tuple[str, float], flops: tuple[str, float],
                  limits: tuple[str, str]) -> Table:
    """Make a table with a line for each operation and engine.  time, flops: units (name, its seconds or FLOP/s)."""
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False,
                  padding=(0, 2, 0, 0))
    for column in ("", "", "", time[0], "(fastest to slowest)", "GB/s", limits[0], flops[0], limits[1]):
        table.add_column(column, justify="right" if table.columns[2:] else "left", no_wrap=True)
    for row in rows:
        middle, fastest, slowest = (format_digits(row[key] / time[1], 4) for key in ("median", "fastest", "slowest"))
        rate = row["operations per second"]
        table.add_row(row["operation"], row["at"], row["name"], middle, f"({fastest} to {slowest})",
                      f"{row['bytes per second'] / 1e9:.1f}", format_percent(row["of bandwidth"]),
                      f"{rate / flops[1]:.2f}" if rate else "",
                      format_percent(row["of peak"]) if row["of peak"] else "")
    return table


def show(report: dict, console) -> None:
    """Print a line for each operation and engine."""
    console.print(summary_table("Operations", report["summary"], ("ms", 1e-3), ("GFLOP/s", 1e9),
                                ("of bandwidth", "of peak")))
