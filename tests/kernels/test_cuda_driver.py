"""The path through CuPy, run without a GPU: a stand-in whose arrays refuse to meet NumPy's (fake_cupy.py)."""
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tinyscout.kernels.cuda", reason="no compiler for CUDA", exc_type=RuntimeError)

START = """
import sys
sys.path.insert(0, {tests!r})
import fake_cupy
sys.modules["cupy"] = fake_cupy
from tinyscout.kernels import nvrtc
nvrtc.compile_cubin = lambda path, arch: nvrtc.compile_ptx(path).encode()       # the stand-in's module runs PTX
import numpy as np
import tinyscout
from tinyscout.config import tiny_config
from tinyscout.kernels import cuda
assert cuda.device_note is None
"""


def run(code, **environment):
    """A process of its own, since the device is chosen when the package is first imported."""
    import os
    environment = {k: v for k, v in os.environ.items() if k != "TINYSCOUT_CUDA"} | environment
    done = subprocess.run([sys.executable, "-c", START.format(tests=str(Path(__file__).parents[1])) + code], text=True,
                          capture_output=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("kv_dtype", ["float32", "bfloat16", "int8"])
def test_a_whole_model_stays_on_the_card(kv_dtype):
    """The same tokens as NumPy's, with an image before the text, and no NumPy array meets one of the device's."""
    run(f"""
tokens = [1, 2] + [511] * 4 + [3, 4, 5]
on_host, on_device = (tinyscout.random_model(tiny_config(vocab_size=512), backend) for backend in ("numpy", "cuda"))
config = on_host.config
tokens = [1, 2] + [config.patch_id] * config.vision.tokens_per_tile + [3, 4, 5]
size = config.vision.tile_size
image = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
assert type(on_device.weights.text.norm) is fake_cupy.ndarray
options = dict(max_new_tokens=3, temperature=0, stop_ids=(), kv_dtype={kv_dtype!r})
assert list(on_device.generate(tokens, [image], **options)) == list(on_host.generate(tokens, [image], **options))
""")


def test_gradients_stay_on_the_card():
    """Also those that no kernel computes: the reference's own, on arrays of the device."""
    run("""
from tinyscout import laws, reference
names = {f"{name}_backward: same as reference" for name in reference.DIFFERENTIABLE} | {"muon_step: same as reference"}
cases = [case for case in laws.CASES if case.name in names]
assert len(cases) == len(names)
for case in cases:
    laws.run_law(case, cuda, 2)
""")


@pytest.mark.slow
def test_a_training_stays_on_the_card(tmp_path):
    """Images, needles and LoRA; the checkpoint comes back as NumPy arrays, and training goes on from it."""
    run(f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "train")!r})
from dataclasses import replace
from test_train import CORPUS, RECIPE, small_config, train, untrained_model
one_layer = small_config(vision=True, layers=small_config().text.layers[:1])
recipe = replace(RECIPE, steps=1, text_tokens_per_step=0, needles=(), dialogs=1, dialog_length=600, optimizer="adamw")
on_device = train({str(tmp_path / "cuda")!r}, recipe, one_layer, None, cuda)
on_host = train({str(tmp_path / "numpy")!r}, recipe, one_layer)
actual, expected = (tinyscout.load(path).weights.text.blocks[0].attention.w_q for path in (on_device, on_host))
assert np.abs(actual - expected).max() < 1e-3 * np.abs(expected).max()
lora = replace(RECIPE, steps=2, text_tokens_per_step=64, row_length=((1.0, 64),), lora=2)
train({str(tmp_path / "lora")!r}, lora, small_config(), CORPUS, cuda, untrained_model(), save_every=1)
""")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_move_as_they_are(dtype, tmp_path):
    run(f"""
on_host = tinyscout.random_model(tiny_config())
tinyscout.save(on_host, {str(tmp_path)!r}, {dtype!r})
on_device = tinyscout.load({str(tmp_path)!r}, "cuda")
np.testing.assert_allclose(on_device.logits([1, 2, 3]), tinyscout.load({str(tmp_path)!r}).logits([1, 2, 3]), atol=1e-4)
tinyscout.save(on_device, {str(tmp_path / 'again')!r})
assert (tinyscout.load({str(tmp_path / 'again')!r}).weights.text.norm == on_host.weights.text.norm).all()
""")


def test_numpy_in_numpy_out_and_errors_where_they_happen():
    run("""
from tinyscout.kernels.launch import Launch, kernel
x = np.ones((3, 40), np.float32)
assert type(cuda.rms_norm(x)) is np.ndarray
assert type(cuda.rms_norm(cuda.asarray(x))) is fake_cupy.ndarray
rms_norm = kernel("norm.cu", "rms_norm")
rms_norm.function.__class__.max_dynamic_shared_size_bytes = property(lambda self: 48 << 10, lambda self, size: None)
try:
    rms_norm(Launch((3,), (32,), 1 << 20), cuda.asarray(x), cuda.asarray(x), None, 1e-5, 3, 40)
except RuntimeError as error:
    assert str(error).startswith("rms_norm with Launch(grid=(3,)") and "\\n" not in str(error), error
else:
    raise SystemExit("no error")
""")


@pytest.mark.slow
def test_the_benchmark_measures_who_is_right(tmp_path):
    """Every kernel, launched again without waiting; a kernel that is wrong gets a line and no figure."""
    pytest.importorskip("matplotlib")
    run(f"""
import json
from tinyscout.cli import main
swiglu = cuda.swiglu
cuda.swiglu = lambda gate, up: swiglu(gate, up * 1.001)
out, picture = {str(tmp_path / 'run.json')!r}, {str(tmp_path / 'run.png')!r}
words = "bench --backend cuda --quick --groups float32 bfloat16 int4 --out".split()
assert main([*words, out, "--plot", picture]) == 0
report = json.load(open(out))
found = report["cuda"]
assert (found["card"]["card"], found["card"]["CUDA"], found["card"]["CuPy"]) == ("stand-in", 13000, "14.0.0")
assert report["date"] and "commit" in report and "limits" not in report
wrong = [note for note in found["notes"] if "is wrong" in note]
assert len(wrong) == 1 and wrong[0].startswith("cuda is wrong and was not timed: swiglu"), found["notes"]
assert all("torch flash is not here" in note for note in found["notes"] if note not in wrong), found["notes"]
rows = {{(row["name"], row["operation"], row["at"]): row for row in found["samples"]}}
from tinyscout.bench.cuda import TINY, tasks
expected = {{(name, task.case.name, task.case.at) for task in tasks(TINY, ("float32", "bfloat16", "int4"))
            for name in task.implementations if task.case.name != "swiglu"}}
assert {{row for row in expected ^ set(rows) if row[0] != "torch flash"}} == set()
assert all(len(row["seconds"]) == 2 and min(row["seconds"]) > 0 for row in rows.values())
""")


def test_the_benchmark_launches_what_was_launched():
    """Both kernels of an operation again, over the same arrays; an operation that no kernel computed is refused."""
    run("""
from tinyscout.bench import gpu
q, k, v = (cuda.asarray(np.ones(shape, np.float32)) for shape in [(1, 1, 2, 8), (1, 9, 1, 8), (1, 9, 1, 8)])
launched = []
from tinyscout.kernels import launch
launch_async = launch.launch_async
launch.launch_async = lambda function, *args: launched.append(function) or launch_async(function, *args)
result, launch_again = gpu.record_launches(cuda.grouped_query_attention, (q, k, v))
np.testing.assert_array_equal(result, 1)
assert len(launched) == 2
fake_cupy.cuda.get_current_stream = None                        # it does not wait
launch_again()
assert launched[2:] == launched[:2] and launched[0] is not launched[1]
try:
    gpu.record_launches(cuda.rms_norm, (cuda.asarray(np.ones((2, 4))),))          # float64
except RuntimeError as error:
    assert str(error) == "no kernel was launched for rms_norm: there is nothing to measure"
else:
    raise SystemExit("no error")
""")


def test_too_little_memory_is_one_line():
    output = run("""
import contextlib, io
from tinyscout.cli import main
with contextlib.redirect_stderr(io.StringIO()) as stderr:
    assert main(["bench", "--backend", "cuda"]) == 2
print(stderr.getvalue(), end="")
""")
    assert output == "tinyscout: not enough memory: this needs 6.7 GB on the GPU, but only 1.1 GB are free\n"


def test_the_gpu_timer():
    """Seconds of one call: those of the copying before them are not among them, and copies of the inputs take turns."""
    run("""
from time import sleep
from tinyscout.bench.gpu import GpuTimer
timer, called = GpuTimer(1 << 16), []
timer.copy = lambda: called.append("copy") or sleep(0.001)
timer.copies = 2
seconds = timer.time_calls([lambda: called.append("a") or sleep(0.05), lambda: called.append("b") or sleep(0.05)], 3)
assert called == ["copy", "copy", "a", "b", "a"]
assert 0.05 <= seconds < 0.15, seconds
limits = {"bytes per second", "float32 operations per second", "bfloat16 operations per second"}
assert set(timer.measure_limits(16)) == limits
""")
