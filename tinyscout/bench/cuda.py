"""Benchmark of the CUDA kernels on a GPU, compared with cuBLAS, torch's flash attention and the limits of the GPU.

Every result is compared with the reference first; an implementation that is wrong is not timed.
"""
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import ml_dtypes
import numpy as np
from rich.text import Text

from tinyscout.bench import operations
from tinyscout.bench.budget import DTYPES
from tinyscout.bench.cuda_accuracy import error_over_bound, expected_rows
from tinyscout.bench.machine import elementwise_best
from tinyscout.bench.operations import TINY, Case, Sizes, random_matrix, row_cases, row_major, total_nbytes
from tinyscout.bench.sizes import WEIGHT_DTYPES
from tinyscout.progress import track
from tinyscout.reference import Quantized

SCOUT = Sizes(T=2048, Fe=8192)      # a longer prompt, and experts of full width
CACHE = 256 << 20                   # bytes, more than any GPU's cache: copies of the inputs take turns to overflow it
BUFFER = 1 << 30                    # bytes that are copied to measure the bandwidth
MIN_SECONDS, MAX_CALLS = 0.02, 200          # per sample
MAX_REPEATED = 5.0                          # seconds: a call that takes longer is measured once
EXTERNAL = ("cuBLAS", "torch flash")
EXTERNAL_ERRORS = (ImportError, RuntimeError, TypeError, ValueError, AttributeError, BufferError)   # if one is missing
VERSIONS = {operation: [f"{operation}_{n}" for n in (1, 2, 3)] for operation in ("linear", "grouped_query_attention")}


class Task(NamedTuple):
    """One operation on one input, and its implementations: "cuda" (as in the model), numbered versions, EXTERNAL."""

    case: Case
    implementations: tuple

    @property
    def dtype(self) -> str:
        """The dtype of the first input: float32 or bfloat16."""
        return self.case.inputs[0].dtype.name


def as_bfloat16(*arrays):
    return tuple(a.astype(ml_dtypes.bfloat16, order="K") for a in arrays)


def linear_task(name, x, w, *implementations):
    (T, D), F = x.shape, w.shape[1]
    nbytes, flops = total_nbytes(x, w) + x.itemsize * T * F, 2.0 * T * D * F
    return Task(Case(name, f"{T} x {D} x {F}", "linear", (x, w), nbytes, flops), implementations)


def linear_tasks(rng, s, dtypes):
    """Matrices in a checkpoint's layout; float matrices for many rows are row-major, as in the C backend."""
    v1, v2, v3 = VERSIONS["linear"]
    for T in (1, s.T):
        x = rng.standard_normal((T, s.D), dtype=np.float32)
        for dtype in dtypes:
            w = random_matrix(rng, dtype, s.D, s.F)
            if dtype == "float32":
                yield linear_task("linear float32", *row_major((x, w)), v1, v2, "cuBLAS") if T > 1 else linear_task(
                    "linear float32", x, w, "cuda", "cuBLAS")
                continue
            yield linear_task(f"linear {dtype} weights", x, w, "cuda")
            if dtype == "bfloat16":
                yield linear_task("linear bfloat16", *as_bfloat16(*(row_major((x, w)) if T > 1 else (x, w))),
                                  *[v3] * (T > 1), "cuBLAS")


def expert_tasks(rng, s, dtypes):
    """The routed experts.  All have the same weights, since generating sixteen would take long."""
    for dtype in [dtype for dtype in dtypes if dtype != "float32"]:
        weights = [repeat_as_experts(random_matrix(rng, dtype, 1, *shape), s.E)
                   for shape in ((s.D, s.Fe), (s.D, s.Fe), (s.Fe, s.D))]
        for T in (1, s.T):
            x = rng.standard_normal((T, s.D), dtype=np.float32)
            expert, gate = rng.integers(0, s.E, (T, 1)), rng.random((T, 1), dtype=np.float32)
            weight_nbytes = total_nbytes(*weights) * len(np.unique(expert)) // s.E
            yield Task(Case(f"experts {dtype} weights", f"{T} x {s.E} x {s.D} x {s.Fe}", "experts",
                            (x, expert, gate, *weights), weight_nbytes + 2 * x.nbytes, 6.0 * T * s.D * s.Fe), ("cuda",))


def repeat_as_experts(w, E):
    """Repeat a weight (1, I, O) E times without a copy."""
    if isinstance(w, Quantized):
        return Quantized(*(repeat_as_experts(a, E) for a in w))
    return np.broadcast_to(w, (E, *w.shape[1:]))


def attention_task(name, q, k, v, *implementations):
    (_, T, H, d), S = q.shape, k.shape[1]
    pairs = T * (S - T) + T * (T + 1) / 2                               # of a query and a visible key
    return Task(Case(name, f"{T} of {S} x {H} x {d}", "grouped_query_attention", (q, k, v),
                     total_nbytes(q, k, v) + q.nbytes, 4 * pairs * H * d), implementations)


def attention_tasks(rng, s):
    """Self-attention of a prompt and of a full chunk, and one token that attends to a chunk."""
    v1, v2, v3 = VERSIONS["grouped_query_attention"]
    for T, S in (s.T, s.T), (s.S, s.S), (1, s.S):
        q, k, v = (rng.standard_normal(shape, dtype=np.float32) for shape in
                   ((1, T, s.H, s.d), (1, S, s.K, s.d), (1, S, s.K, s.d)))
        bf16 = as_bfloat16(q, k, v)
        if T == 1:
            yield attention_task("attention float32", q, k, v, "cuda")
            yield attention_task("attention bfloat16 cache", q, *bf16[1:], "cuda")
        else:                               # version 1, one thread per query, would take many seconds for a chunk
            yield attention_task("attention float32", q, k, v, *[v1] * (T == s.T), v2)
        yield attention_task("attention bfloat16", *bf16, v3, "torch flash")


def tasks(sizes: Sizes = SCOUT, dtypes: Sequence[str] = WEIGHT_DTYPES, seed: int = 0) -> Iterator[Task]:
    """All tasks to measure, created one at a time."""
    rng = np.random.default_rng(seed)
    yield from (Task(case, ("cuda",)) for case in row_cases(rng, sizes))
    yield from linear_tasks(rng, sizes, dtypes)
    yield from expert_tasks(rng, sizes, dtypes)
    yield from attention_tasks(rng, sizes)


def count_tasks(dtypes):
    """The number of tasks: rows, attention, matrices, bfloat16 throughout, experts."""
    return 6 + 7 + 2 * len(dtypes) + 2 * ("bfloat16" in dtypes) + 2 * sum(dtype != "float32" for dtype in dtypes)


def required_memory(s, dtypes):
    """Approximate bytes of GPU memory that the buffers, the largest inputs and their copies need."""
    weights = max((3 * s.E * s.D * s.Fe * DTYPES[dtype].size for dtype in dtypes if dtype != "float32"), default=0)
    return 2 * BUFFER + max(weights, 8 * s.H * s.T * s.T) + 2 * CACHE


def implementation(name: str, operation: str) -> Callable:
    """A function of inputs on the GPU with the return values of `gpu.record_launches`."""
    from tinyscout.bench import gpu
    from tinyscout.kernels import cuda
    from tinyscout.kernels.cuda import versions

    external = {"cuBLAS": gpu.cublas, "torch flash": gpu.flash}
    if name in external:
        return external[name]
    function = getattr(cuda, operation) if name == "cuda" else versions.versions()[operation][name]
    return partial(gpu.record_launches, function)


def correct_calls(task: Task, copies: list, notes: list[str]) -> dict[str, list[Callable]]:
    """The implementations whose result is within the bound: {name: a function for each copy of the inputs on the GPU}

    Implementations that are wrong, or external and not installed, are left out, with a line in `notes`.
    """
    calls, expected = {}, expected_rows(task.case)
    for name in task.implementations:
        try:
            computed = [implementation(name, task.case.operation)(copy) for copy in copies]
        except EXTERNAL_ERRORS as error:
            if name not in EXTERNAL:
                raise
            notes.append(f"{name} is not available: {str(error).strip().splitlines()[0]}")
            continue
        max_error = max(error_over_bound(result, expected) for result, _ in computed)
        if max_error <= 1:
            calls[name] = [launch_again for _, launch_again in computed]
        else:
            notes.append(f"{name} is wrong and was not timed: {task.case.name}, {task.case.at}, its error is "
                         f"{max_error:.3g} times the bound for rounding")
    return calls


def measure(sizes: Sizes = SCOUT, repeats: int = 5, dtypes: Sequence[str] = WEIGHT_DTYPES, seed: int = 0) -> dict:
    """Measure all tasks on the GPU, with weights of these dtypes.

    ->  a dict that json can write.  Raises MemoryError, and RuntimeError if a launch fails.
    """
    from tinyscout.bench import gpu

    is_full_size = sizes is not TINY
    gpu.require_memory(required_memory(sizes, dtypes) if is_full_size else 0)
    timer = gpu.GpuTimer(BUFFER if is_full_size else 1 << 16)
    side = 8192 if is_full_size else 64
    notes: list[str] = []
    rows: list[dict] = []
    limits = timer.measure_limits(side)
    for task in track(tasks(sizes, dtypes, seed), "Measuring the GPU", total=count_tasks(dtypes)):
        copies = [gpu.to_gpu(task.case.inputs) for _ in range(-(-CACHE // task.case.nbytes) if is_full_size else 1)]
        calls = correct_calls(task, copies, notes)
        seconds = time_in_turn(timer, calls, repeats)
        rows += [{"name": name, "operation": task.case.name, "at": task.case.at, "form": task.dtype,
                  "bytes": task.case.nbytes, "flops": task.case.flops, "seconds": seconds[name]} for name in calls]
    report = {"card": gpu.describe_gpu(), "limits": elementwise_best(limits, timer.measure_limits(side)),
              "repeats": repeats, "notes": list(dict.fromkeys(notes)), "samples": rows}
    return report | {"summary": summary(report)}


def time_in_turn(timer, calls: dict[str, list[Callable]], repeats: int) -> dict[str, list[float]]:
    """Time all implementations in turn  ->  {name: seconds per call in each sample}"""
    for functions in calls.values():
        timer.time_calls(functions[:1], 1)                              # the first call takes longer
    once = {name: timer.time_calls(functions, 1) for name, functions in calls.items()}
    samples: dict = {name: [] for name in calls}
    for _ in range(repeats):
        for name, functions in calls.items():
            loops = max(1, min(MAX_CALLS, round(MIN_SECONDS / once[name])))
            samples[name].append(once[name] if once[name] > MAX_REPEATED else timer.time_calls(functions, loops))
    return samples


def summary(report: dict) -> list[dict]:
    """Like `operations.rates`, with the GPU's limits: copying, and cuBLAS's product in the same dtype."""
    limits = report["limits"]
    return [operations.rates([row], {
        "read bytes per second": limits["bytes per second"],
        "operations per second": limits[f"{row['form']} operations per second"]})[0] for row in report["samples"]]


def show(report: dict, console) -> None:
    """Print the GPU, and one line for each operation and implementation."""
    gpu, limits = report["card"], report["limits"]
    console.print(f"\n{gpu['card']}, driver {gpu['driver']}, CUDA {gpu['CUDA']}, CuPy {gpu['CuPy']}")
    console.print(f"copies {limits['bytes per second'] / 1e9:.0f} GB/s, multiplies float32 at "
                  f"{limits['float32 operations per second'] / 1e12:.1f} and bfloat16 at "
                  f"{limits['bfloat16 operations per second'] / 1e12:.1f} TFLOP/s (cuBLAS)")
    console.print(operations.summary_table("Kernels", report["summary"], ("µs", 1e-6), ("TFLOP/s", 1e12),
                                           ("of copying", "of cuBLAS")))
    for note in report["notes"]:
        console.print(Text(note, "red" if " is wrong " in note else ""))
