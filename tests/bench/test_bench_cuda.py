"""The benchmark of the CUDA kernels without a GPU: what is counted, how results are checked, what is printed.

test_cuda_driver.py tests the rest with a stand-in for CuPy.
"""
import numpy as np
import pytest
from rich.console import Console

from tinyscout import reference
from tinyscout.bench import cuda
from tinyscout.bench.cuda_accuracy import error_over_bound, expected_rows
from tinyscout.bench.operations import TINY
from tinyscout.bench.sizes import WEIGHT_DTYPES
from tinyscout.cli import bench, main, make_parser
from tinyscout.kernels import device
from tinyscout.reference import to_dense

TASKS = list(cuda.tasks(TINY))


class Zeros:
    """Draws nothing but zeros, which take no memory, and experts in turn."""

    def standard_normal(self, shape, dtype=np.float64):
        return np.broadcast_to(dtype(0), shape)

    def random(self, shape, dtype=np.float64):
        return np.broadcast_to(dtype(0), shape)

    def integers(self, low, high, shape):
        return np.arange(shape[0])[:, None] % high if low == 0 else np.broadcast_to(np.int8(0), shape)


@pytest.mark.parametrize(("name", "at", "nbytes", "flops"), [
    ("rms_norm", "2048 x 5120", 4 * (2 * 2048 * 5120 + 5120), 0),
    ("apply_rope", "2048 x 40 x 128", 4 * (2 * 2048 * 5120 + 2 * 2048 * 64), 0),
    ("swiglu", "2048 x 8192", 4 * 3 * 2048 * 8192, 0),
    ("linear float32", "1 x 5120 x 8192", 167_825_408, 83_886_080),
    ("linear int8 weights", "1 x 5120 x 8192", 41_943_040 + 2_621_440 + 53_248, 83_886_080),
    ("linear int4 weights", "1 x 5120 x 8192", 20_971_520 + 2_621_440 + 53_248, 83_886_080),
    ("linear bfloat16 weights", "1 x 5120 x 8192", 83_886_080 + 53_248, 83_886_080),
    ("linear bfloat16", "2048 x 5120 x 8192", 138_412_032, 171_798_691_840),
    ("experts bfloat16 weights", "1 x 16 x 5120 x 8192", 251_658_240 + 40_960, 251_658_240),
    ("experts bfloat16 weights", "2048 x 16 x 5120 x 8192", 16 * 251_658_240 + 83_886_080, 515_396_075_520),
    ("attention bfloat16", "8192 of 8192 x 40 x 128", 201_326_592, 687_278_653_440),
    ("attention float32", "1 of 8192 x 40 x 128", 67_149_824, 167_772_160),
    ("attention bfloat16 cache", "1 of 8192 x 40 x 128", 33_595_392, 167_772_160),
])
def test_what_scouts_operations_cost(scout, name, at, nbytes, flops):
    """Each number moved once, and two operations for each multiplication that is added, counted by hand."""
    assert scout[name, at] == (nbytes, flops)


@pytest.fixture(scope="module")
def scout():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda seed: Zeros())
        return {(task.case.name, task.case.at): (task.case.nbytes, task.case.flops) for task in cuda.tasks()}


@pytest.mark.parametrize("dtypes", [WEIGHT_DTYPES, ("float32",), ("bfloat16",), ("int4", "int8")])
def test_the_bar_knows_how_many_there_are(dtypes):
    assert cuda.count_tasks(dtypes) == len(list(cuda.tasks(TINY, dtypes)))


def test_every_version_is_measured_beside_the_external_one():
    names = {name for task in TASKS for name in task.implementations}
    assert names == {"cuda", *cuda.EXTERNAL, *(f"{name}_{n}" for name in ("linear", "grouped_query_attention")
                                               for n in (1, 2, 3))}
    for task in TASKS:
        assert ("linear_3" in task.implementations
                or "linear_1" in task.implementations) <= ("cuBLAS" in task.implementations)
        assert ("grouped_query_attention_3" in task.implementations) == ("torch flash" in task.implementations)


def reference_result(task):
    """The reference's result in float32, rounded to what a kernel gives back."""
    inputs = [a if getattr(a, "dtype", np.dtype("f")).kind == "i" else to_dense(a, np.float32)
              for a in task.case.inputs]
    return getattr(reference, task.case.operation)(*inputs).astype(task.case.inputs[0].dtype)


@pytest.mark.parametrize("task", TASKS, ids=[f"{task.case.name}-{task.case.at}".replace(" ", "_") for task in TASKS])
def test_a_right_result_passes_and_a_wrong_one_does_not(task):
    result, expected = reference_result(task), expected_rows(task.case)
    assert error_over_bound(result, expected) <= 1
    size = np.abs(result.astype(np.float32)).max()
    for wrong in (0.05 * size, np.nan, np.inf):
        spoilt = result.copy()
        spoilt[(-1,) * spoilt.ndim] += result.dtype.type(wrong)         # the last number of the last token
        assert error_over_bound(spoilt, expected) > 1


def test_a_plain_sum_is_right_and_one_that_forgets_is_not():
    """cuBLAS may add up in any order; but not leave the last product out."""
    rng = np.random.default_rng(0)
    x, w = np.abs(rng.standard_normal((3, 5120), np.float32)), np.abs(rng.standard_normal((5120, 32), np.float32))
    expected = expected_rows(cuda.linear_task("linear float32", x, w, "cuBLAS").case)
    plain_sum = sum(x[:, [i]] * w[i] for i in range(5120))
    assert error_over_bound(plain_sum, expected) <= 1
    assert error_over_bound(x[:, :-1] @ w[:-1], expected) > 1


class FakeTimer:
    """Returns the times that it was given, and records what was timed."""

    def __init__(self, **seconds):
        self.seconds, self.timed = seconds, []

    def time_calls(self, calls, loops):
        self.timed.append((calls[0], loops))
        return self.seconds[calls[0]]


def test_implementations_take_turns_and_the_slow_are_not_repeated():
    timer = FakeTimer(fast=1e-3, tiny=1e-7, slow=60.0)
    samples = cuda.time_in_turn(timer, {name: [name] for name in timer.seconds}, 3)
    assert samples == {"fast": [1e-3] * 3, "tiny": [1e-7] * 3, "slow": [60.0] * 3}
    assert timer.timed[6:] == [("fast", 20), ("tiny", 200)] * 3


REPORT = {
    "card": {"card": "A card", "driver": "1.2", "CUDA": 13000, "CuPy": "14.0"}, "notes": ["linear_3 is wrong and off"],
    "limits": {"bytes per second": 2e12, "float32 operations per second": 5e13, "bfloat16 operations per second": 8e14},
    "samples": [{"name": name, "operation": "linear", "at": "2 x 3 x 4", "form": form, "bytes": 1e9, "flops": flops,
                 "seconds": [2e-3, 1e-3, 4e-3]} for name, form, flops in [
                     ("linear_1", "float32", 1e10), ("cuBLAS", "bfloat16", 8e11), ("cuda", "float32", 0)]]}


def test_figures_are_worked_out_from_the_samples(tmp_path, capsys):
    version_1, cublas, cuda_row = summary = cuda.summary(REPORT)
    assert (version_1["median"], version_1["fastest"], version_1["slowest"]) == (2e-3, 1e-3, 4e-3)
    assert (version_1["bytes per second"], version_1["of bandwidth"]) == (5e11, 0.25)
    assert (version_1["operations per second"], version_1["of peak"]) == (5e12, 0.1)
    assert (cublas["operations per second"], cublas["of peak"]) == (4e14, 0.5)
    assert cuda_row["operations per second"] == 0
    cuda.show(REPORT | {"summary": summary}, Console(width=160))
    said = capsys.readouterr().out
    assert "A card, driver 1.2, CUDA 13000, CuPy 14.0" in said
    assert "2,000 (1,000 to 4,000) 500.0 25% 5.00 10%" in " ".join(said.split())
    pytest.importorskip("matplotlib")
    from tinyscout.bench.plot import plot_gpu
    plot_gpu(REPORT | {"summary": summary}, tmp_path / "gpu.png")
    assert (tmp_path / "gpu.png").stat().st_size > 5000


def test_memory_is_checked_beforehand():
    """Two buffers, the weights of sixteen experts in bfloat16, and copies of the inputs."""
    assert cuda.required_memory(cuda.SCOUT, WEIGHT_DTYPES) == 2 * 2 ** 30 + 3 * 16 * 5120 * 8192 * 2 + 2 * 2 ** 28


@pytest.mark.parametrize(("words", "parts"), [
    ("--backend cuda", ["cuda"]), ("--backends cuda --operations", ["cuda"]), ("--backends cuda --models", ["models"]),
    ("--backends c cuda --operations", ["operations", "cuda"]), ("--backends c cuda", ["models", "operations", "cuda"]),
    ("--backend cuda --models --operations", ["models", "cuda"]), ("--backend cuda --tokenizer", ["tokenizer"])])
def test_parts_with_cuda(words, parts):
    assert bench.selected_parts(make_parser().parse_args(["bench", *words.split()])) == parts


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(device, "cupy", None)
    monkeypatch.setenv("TINYSCOUT_CUDA", "simulator")
    assert main(["bench", "--backend", "cuda"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("tinyscout: no GPU here: TINYSCOUT_CUDA is set to simulator; `tinyscout profile` counts the "
                        "memory accesses of a kernel without one\n")
    monkeypatch.delenv("TINYSCOUT_CUDA")
    assert "CuPy" in bench.missing_gpu_reason()
