"""The CUDA kernels on a graphics card, beside cuBLAS, torch's flash attention, and what the card allows.

Every contender's result is held to the reference before it is timed; who is wrong gets no figure.
"""
from functools import partial
from typing import NamedTuple

import ml_dtypes
import numpy as np
from rich.table import Table
from rich.text import Text

from tinyscout import reference
from tinyscout.bench import operations
from tinyscout.bench.machine import elementwise_best
from tinyscout.bench.operations import TINY, Case, Sizes, matrix, nbytes, row_major, rows_of
from tinyscout.bench.sizes import BYTES
from tinyscout.progress import track
from tinyscout.reference import Quantized, to_dense
from tinyscout.reference.quantize import take

SCOUT = Sizes(T=2048, Fe=8192)      # a prompt of that many tokens, a chunk, and experts in full
CACHE = 256 << 20                   # bytes that no card's cache holds: inputs come in so many copies, which take turns
BUFFER = 1 << 30                    # bytes that are copied to see how fast the card copies
LEAST, MOST, PATIENCE = 0.02, 200, 5.0      # seconds of a sample, calls in it, seconds of a call that is not repeated
PEERS = ("cuBLAS", "torch flash")
PEERLESS = (ImportError, RuntimeError, TypeError, ValueError, AttributeError, BufferError)      # from what is not there
EPS = float(np.finfo(np.float32).eps)
HALF = 2.0 ** -8                    # rounding to bfloat16 moves a number by no more than this share of it
ROWS = 8                            # of each result, which are compared
VERSIONS = {operation: [f"{operation}_{n}" for n in (1, 2, 3)] for operation in ("linear", "grouped_query_attention")}


class Task(NamedTuple):
    """One operation on one input, and who is to compute it: "cuda" as the model has it, its versions, and peers."""

    case: Case
    implementations: tuple

    @property
    def form(self):
        """What is multiplied: float32 or bfloat16."""
        return self.case.inputs[0].dtype.name


def as_bfloat16(*arrays):
    return tuple(a.astype(ml_dtypes.bfloat16, order="K") for a in arrays)


def product(name, x, w, *who):
    (T, D), F = x.shape, w.shape[1]
    moved, flops = nbytes(x, w) + x.itemsize * T * F, 2.0 * T * D * F
    return Task(Case(name, f"{T} x {D} x {F}", "linear", (x, w), moved, flops), who)


def products(rng, s, forms):
    """Matrices as they lie in a checkpoint; many rows of plain numbers get a row-major one, as in the C column."""
    one, two, three = VERSIONS["linear"]
    for T in (1, s.T):
        x = rng.standard_normal((T, s.D), dtype=np.float32)
        for form in forms:
            w = matrix(rng, form, s.D, s.F)
            if form == "float32":
                yield product("linear float32", *row_major((x, w)), one, two, "cuBLAS") if T > 1 else product(
                    "linear float32", x, w, "cuda", "cuBLAS")
                continue
            yield product(f"linear {form} weights", x, w, "cuda")
            if form == "bfloat16":
                yield product("linear bfloat16", *as_bfloat16(*(row_major((x, w)) if T > 1 else (x, w))),
                              *[three] * (T > 1), "cuBLAS")


def mixture(rng, s, forms):
    """The routed experts.  All hold the same numbers, each in a place of its own: sixteen would take long to draw."""
    for form in [form for form in forms if form != "float32"]:
        three = [repeat_as_experts(matrix(rng, form, 1, *shape), s.E)
                 for shape in ((s.D, s.Fe), (s.D, s.Fe), (s.Fe, s.D))]
        for T in (1, s.T):
            x = rng.standard_normal((T, s.D), dtype=np.float32)
            expert, gate = rng.integers(0, s.E, (T, 1)), rng.random((T, 1), dtype=np.float32)
            touched = nbytes(*three) * len(np.unique(expert)) // s.E
            yield Task(Case(f"experts {form} weights", f"{T} x {s.E} x {s.D} x {s.Fe}", "experts",
                            (x, expert, gate, *three), touched + 2 * x.nbytes, 6.0 * T * s.D * s.Fe), ("cuda",))


def repeat_as_experts(w, E):
    """A weight (1, I, O) as E of them, without memory for more than one."""
    if isinstance(w, Quantized):
        return Quantized(*(repeat_as_experts(a, E) for a in w))
    return np.broadcast_to(w, (E, *w.shape[1:]))


def attention(name, q, k, v, *who):
    (_, T, H, d), S = q.shape, k.shape[1]
    pairs = T * (S - T) + T * (T + 1) / 2                               # what a token may see
    return Task(Case(name, f"{T} of {S} x {H} x {d}", "grouped_query_attention", (q, k, v), nbytes(q, k, v) + q.nbytes,
                     4 * pairs * H * d), who)


def attentions(rng, s):
    """A prompt and a whole chunk against themselves, and one token against a chunk."""
    one, two, three = VERSIONS["grouped_query_attention"]
    for T, S in (s.T, s.T), (s.S, s.S), (1, s.S):
        q, k, v = (rng.standard_normal(shape, dtype=np.float32) for shape in
                   ((1, T, s.H, s.d), (1, S, s.K, s.d), (1, S, s.K, s.d)))
        halves = as_bfloat16(q, k, v)
        if T == 1:
            yield attention("attention float32", q, k, v, "cuda")
            yield attention("attention bfloat16 cache", q, *halves[1:], "cuda")
        else:                               # a thread for each query would take a chunk many seconds
            yield attention("attention float32", q, k, v, *[one] * (T == s.T), two)
        yield attention("attention bfloat16", *halves, three, "torch flash")


def tasks(sizes=SCOUT, forms=tuple(BYTES), seed=0):
    """Everything that is measured, made one at a time.  ->  yields Task"""
    rng = np.random.default_rng(seed)
    yield from (Task(case, ("cuda",)) for case in rows_of(rng, sizes))
    yield from products(rng, sizes, forms)
    yield from mixture(rng, sizes, forms)
    yield from attentions(rng, sizes)


def how_many(forms):
    """Tasks: rows, attention, matrices, bfloat16 throughout, experts."""
    return 6 + 7 + 2 * len(forms) + 2 * ("bfloat16" in forms) + 2 * sum(form != "float32" for form in forms)


def needed(s, forms):
    """About how many bytes the card must have: what is copied, the largest inputs, and their copies."""
    weights = max((3 * s.E * s.D * s.Fe * BYTES[form] for form in forms if form != "float32"), default=0)
    return 2 * BUFFER + max(weights, 8 * s.H * s.T * s.T) + 2 * CACHE


TOKENS = {"apply_rope": 3, "experts": 3, "swiglu": 2}       # so many inputs have a row for each token; elsewhere one


def select_tokens(a, rows):
    """Some tokens of an array (T, ...), or of one whose second axis they are."""
    return a[rows] if a.ndim < 3 else a[:, rows]


def single_token_case(case, rows):
    """An operation for some of its tokens  ->  function, its inputs as plain numbers in float32"""
    plain, first = getattr(reference, case.operation), TOKENS.get(case.operation, 1)
    if case.operation == "grouped_query_attention":
        q, k, v = (to_dense(a, np.float32) for a in case.inputs)
        ends = k.shape[1] - q.shape[1] + 1 + rows

        def each(q, k, v):
            return np.concatenate([plain(q[:, [n]], k[:, :end], v[:, :end]) for n, end in enumerate(ends)], 1)
        return each, (q[:, rows], k, v)
    mine, rest = [select_tokens(a, rows) for a in case.inputs[:first]], case.inputs[first:]
    if case.operation == "experts":         # they are all the same
        mine[1], rest = mine[1] * 0, [take(w, np.s_[:1]) for w in rest]
    return plain, [a if a.dtype.kind == "i" else to_dense(a, np.float32) for a in mine] + [
        to_dense(w, np.float32) for w in rest]


def float32_error(f, inputs, value):
    """How far float32 may be off: as far as the reference in it, or one with inputs off by a rounding.  ->  float"""
    rng, results = np.random.default_rng(0), [f(*inputs)]
    for _ in range(3):
        results.append(f(*(a if a.dtype.kind == "i" else a * (1 + EPS * rng.choice([-1.0, 1.0], a.shape))
                           for a in inputs)))
    if f is reference.linear:           # or as a plain sum, which is what a peer may add up
        results.append(sum(inputs[0][:, [i]] * w for i, w in enumerate(inputs[1])))
    return max(np.abs(result - value).max() for result in results)


def expected_rows(task):
    """What some rows of the result should be, and how far off each number may be, equation (tolerance).

    Where bfloat16 is multiplied, equations (half-linear) and (half-attention).  ->  rows (n,) int, value and bound
    float64
    """
    tokens = task.case.inputs[0].shape[0 if task.case.inputs[0].ndim < 3 else 1]
    rows = np.unique(np.linspace(0, tokens - 1, ROWS).astype(int))
    f, inputs = single_token_case(task.case, rows)
    value = f(*(a if a.dtype.kind == "i" else a.astype(np.float64) for a in inputs))
    bound = 2 * float32_error(f, inputs, value) + 4 * EPS * np.abs(value).max()
    if task.form == "bfloat16" and task.case.operation == "linear":
        x, w = (np.abs(a) for a in inputs)
        bound = HALF * np.abs(value) + (len(w) + 1) * EPS * (x @ w)
    elif task.form == "bfloat16":
        q, k, v = inputs
        bound = bound + HALF * ((1 + HALF) * f(q, k, np.abs(v)) + np.abs(value))
    return rows, value, bound


def error_over_bound(result, known):
    """How far off a result is, at its worst, as a share of what rounding allows: 1 is still right."""
    rows, value, bound = known
    share = np.abs(select_tokens(result, rows).astype(np.float64) - value) / bound
    return float(np.where(np.isfinite(share), share, np.inf).max())


def contender(name, operation):
    """Who computes it: a function of the inputs on the card, as `gpu.recorded` with a function of the CUDA column."""
    from tinyscout.bench import gpu
    from tinyscout.kernels import cuda
    from tinyscout.kernels.cuda import versions

    peers = {"cuBLAS": gpu.cublas, "torch flash": gpu.flash}
    mine = getattr(cuda, operation) if name == "cuda" else versions.versions().get(operation, {}).get(name)
    return peers.get(name, partial(gpu.record_launches, mine))


def calls_of(task, copies, notes):
    """Those who compute a task rightly.  copies of its inputs on the card  ->  {name: a function for each copy}

    Who does not, or is a peer that is not here, is left out, and notes get a line.
    """
    found, known = {}, expected_rows(task)
    for name in task.implementations:
        try:
            computed = [contender(name, task.case.operation)(copy) for copy in copies]
        except PEERLESS as error:
            if name not in PEERS:
                raise
            notes.append(f"{name} is not here to compare with: {str(error).strip().splitlines()[0]}")
            continue
        worst = max(error_over_bound(result, known) for result, _ in computed)
        if worst <= 1:
            found[name] = [again for _, again in computed]
        else:
            notes.append(f"{name} is wrong and gets no figure: {task.case.name}, {task.case.at}, is off by {worst:.3g} "
                         "times what rounding allows")
    return found



def measure(sizes=SCOUT, repeats=5, forms=tuple(BYTES), seed=0):
    """Measure everything on the card.

    sizes Sizes, repeats int, forms of the weights  ->  dict that json can write.  Raises MemoryError, and RuntimeError
    where a launch fails.
    """
    from tinyscout.bench import gpu

    full = sizes is not TINY
    gpu.require_memory(needed(sizes, forms) if full else 0)
    clock = gpu.Clock(BUFFER if full else 1 << 16)
    side = 8192 if full else 64
    notes: list[str] = []
    rows: list[dict] = []
    limits = clock.limits(side)
    for task in track(tasks(sizes, forms, seed), "Measuring the GPU", total=how_many(forms)):
        copies = [gpu.to_gpu(task.case.inputs) for _ in range(-(-CACHE // task.case.nbytes) if full else 1)]
        calls = calls_of(task, copies, notes)
        seconds = timed(clock, calls, repeats)
        rows += [{"name": name, "operation": task.case.name, "at": task.case.at, "form": task.form,
                  "bytes": task.case.nbytes, "flops": task.case.flops, "seconds": seconds[name]} for name in calls]
    report = {"card": gpu.card(), "limits": elementwise_best(limits, clock.limits(side)), "repeats": repeats,
              "notes": list(dict.fromkeys(notes)), "samples": rows}
    return report | {"summary": summary(report)}


def timed(clock, calls, repeats):
    """Samples of all contenders, who take turns  ->  {name: seconds of a call, in each sample}"""
    for functions in calls.values():
        clock.seconds(functions[:1], 1)                                 # the first takes longer
    once = {name: clock.seconds(functions, 1) for name, functions in calls.items()}
    samples: dict = {name: [] for name in calls}
    for _ in range(repeats):
        for name, functions in calls.items():
            loops = max(1, min(MOST, round(LEAST / once[name])))
            samples[name].append(once[name] if once[name] > PATIENCE else clock.seconds(functions, loops))
    return samples


def summary(report):
    """As `operations.summary`: the card's limits are what it copies, and what cuBLAS multiplies of the same numbers."""
    limits = report["limits"]
    return [operations.summary({"samples": [row]}, {
        "read bytes per second": limits["bytes per second"],
        "operations per second": limits[f"{row['form']} operations per second"]})[0] for row in report["samples"]]


def show(report, console):
    """The card, and a line for each operation and contender."""
    found, limits = report["card"], report["limits"]
    console.print(f"\n{found['card']}, driver {found['driver']}, CUDA {found['CUDA']}, CuPy {found['CuPy']}")
    console.print(f"copies {limits['bytes per second'] / 1e9:.0f} GB/s, multiplies float32 at "
                  f"{limits['float32 operations per second'] / 1e12:.1f} and bfloat16 at "
                  f"{limits['bfloat16 operations per second'] / 1e12:.1f} TFLOP/s (cuBLAS)")
    made = Table(title="\nKernels", title_justify="left", title_style="bold", box=None, pad_edge=False,
                 padding=(0, 2, 0, 0))
    for column in ("", "", "", "µs", "(fastest to slowest)", "GB/s", "of copying", "TFLOP/s", "of cuBLAS"):
        made.add_column(column, justify="right" if made.columns[2:] else "left", no_wrap=True)
    for row in report["summary"]:
        us = [f"{1e6 * row[key]:.4g}" for key in ("median", "fastest", "slowest")]
        counted = row["operations per second"] > 0
        made.add_row(row["operation"], row["at"], row["name"], us[0], f"({us[1]} to {us[2]})",
                     f"{row['bytes per second'] / 1e9:.1f}", f"{row['of bandwidth']:.0%}",
                     f"{row['operations per second'] / 1e12:.2f}" if counted else "",
                     f"{row['of peak']:.0%}" if counted else "")
    console.print(made)
    for note in report["notes"]:
        console.print(Text(note, "red" if " is wrong " in note else ""))
