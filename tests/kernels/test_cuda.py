"""The CUDA column's border: what the compiler makes of it, how it is launched, and what it says when it cannot be."""
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinyscout
from tinyscout.config import tiny_config
from tinyscout.kernels import launch, nvrtc
from tinyscout.kernels.launch import Kernel, Launch, ceil_div, kernel

try:
    from tinyscout.kernels import cuda
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)

SOURCES = sorted(nvrtc.SOURCE_DIR.glob("*.cu"))
# The maximum of registers that a kernel of the file may use per thread, of 255 possible.  A few more do not matter; a
# jump is a loop that no longer unrolls, or a thread that holds too much, and then half as many threads fit on an SM.
REGISTERS = {"attention_2.cu": 176, "attention_3.cu": 255, "attention_backward.cu": 136, "attention_split_kv.cu": 96,
             "linear.cu": 72, "linear_2.cu": 136, "linear_3.cu": 144, "linear_backward.cu": 88,
             "linear_quantized.cu": 104,
             "moe.cu": 168}


@pytest.mark.parametrize("arch", ["sm_80", pytest.param("sm_90", marks=pytest.mark.slow),
                                  pytest.param("sm_90a", marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", SOURCES, ids=[path.name for path in SOURCES])
def test_every_kernel_compiles_without_spills(path, arch):
    usage = nvrtc.resource_usage(path, arch)
    assert set(usage) == set(re.findall(r"\.entry (\w+)", nvrtc.compile_ptx(path)))
    for name, (registers, spilled) in usage.items():
        assert spilled == 0, f"{name} has no room for what it holds"
        assert registers <= REGISTERS.get(path.name, 48), f"{name} takes {registers} registers"


def test_numbers_are_given_in_the_kernels_own_types():
    types = kernel("adamw.cu", "adamw_step").types
    assert types == [np.uint64] * 7 + [np.float64] * 6 + [np.uint64]
    assert kernel("norm.cu", "rms_norm").types[3:] == [np.float32, np.uint32, np.uint32]


@pytest.mark.parametrize(("change", "message"), [
    ({6: None}, "takes 6 arguments, not 5"), ({4: 0.5}, "argument 5 of rms_norm must be an integer of 32 bits"),
    ({5: 2 ** 31}, "not 2147483648"), ({3: np.ones(3)}, "argument 4 of rms_norm is a number, not an array"),
    ({1: np.ones((4, 4), np.float32)[:, ::2]}, "argument 2 of rms_norm must be row-major"),
])
def test_arguments_that_cannot_be(change, message):
    x = np.ones((4, 2), np.float32)
    arguments = [x.copy(), x, None, 1e-5, 4, 2]
    arguments = arguments[:-1] if 6 in change else [change.get(n, argument) for n, argument in enumerate(arguments)]
    with pytest.raises(TypeError, match=message):
        kernel("norm.cu", "rms_norm")(Launch((4,), (32,)), *arguments)


def test_a_readers_own_kernel_and_its_mistakes(tmp_path):
    path = tmp_path / "mine.cu"
    path.write_text('extern "C" __global__ void twice(float *out, const float *x, int n) {\n'
                    "    int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
                    "    if (i < n) out[i] = 2 * x[i];\n}\n")
    x, out = np.arange(257, dtype=np.float32), np.empty(257, np.float32)
    Kernel(path, "twice")(Launch((ceil_div(257, 64),), (64,)), out, x, 257)
    np.testing.assert_array_equal(out, 2 * x)
    with pytest.raises(ValueError, match="no kernel thrice"):
        Kernel(path, "thrice")
    with pytest.raises(Exception, match=r"block .*thread .*mine\.cu:3|mine\.cu:3.*block .*thread"):
        Kernel(path, "twice")(Launch((5,), (64,)), out, x, 300)
    path.write_text(path.read_text().replace("2 * x[i]", "2 * y[i]"))
    with pytest.raises(RuntimeError, match=r'mine.cu:3: identifier "y" is undefined'):
        Kernel(path, "twice")


def test_without_the_compiler_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nvrtc, "WHEEL", "nvidia-cuda-nowhere")
    nvrtc.find_wheel.cache_clear()
    monkeypatch.delitem(sys.modules, "tinyscout.kernels.cuda")
    try:
        with pytest.raises(RuntimeError, match=r"^[^\n]*run pip install '\.\[cuda\]' in the checkout$"):
            tinyscout.random_model(tiny_config(), "cuda")
    finally:
        nvrtc.find_wheel.cache_clear()


def test_on_the_simulator_a_note_says_so(capsys):
    tinyscout.random_model(tiny_config(), "cuda")
    assert "no GPU here" in capsys.readouterr().err


def fake_cupy(capability):
    """As much of CuPy as `gpu_architecture` needs."""
    return SimpleNamespace(cuda=SimpleNamespace(Device=lambda: SimpleNamespace(compute_capability=capability)))


@pytest.mark.parametrize(("capability", "expected"), [("80", "sm_80"), ("90", "sm_90"), ("120", "sm_120")])
def test_a_card_names_its_architecture(monkeypatch, capability, expected):
    monkeypatch.setattr(launch, "cupy", fake_cupy(capability))
    assert launch.gpu_architecture.__wrapped__() == expected


def test_an_old_card_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(launch, "cupy", fake_cupy("75"))
    with pytest.raises(RuntimeError, match=r"^this GPU has compute capability 7.5, and the kernels need 8.0[^\n]*$"):
        launch.gpu_architecture.__wrapped__()


def test_results_are_where_the_inputs_were():
    """NumPy in, NumPy out, also if the kernel was handed a copy."""
    x = np.asfortranarray(np.random.default_rng(0).standard_normal((33, 31), np.float32))
    assert type(cuda.softmax(x)) is np.ndarray
    np.testing.assert_allclose(cuda.softmax(x), tinyscout.reference.softmax(x), rtol=1e-6)


def test_the_package_needs_no_cuda(tmp_path):
    """Everything else imports and runs without the compiler and without CuPy."""
    code = ("import sys; sys.modules['cupy'] = None\nimport tinyscout, tinyscout.cli\n"
            "assert not any(name.startswith('tinyscout.kernels') for name in sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
