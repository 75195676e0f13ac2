"""Compiling CUDA without a GPU: code, what it needs, the cache, and one clear line where it cannot be."""
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from cuda_text import require_compiler

from tinyscout.kernels import nvrtc
from tinyscout.kernels.nvrtc import CompileError

SOURCE = """#include "twice.cuh"
extern "C" __global__ void k(float *out, const float *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = twice(x[i]);
}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    require_compiler()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "twice.cuh").write_text("__device__ inline float twice(float x) { return 2 * x; }\n")
    (tmp_path / "k.cu").write_text(SOURCE)
    return tmp_path / "k.cu"


@pytest.fixture
def compilations(monkeypatch):
    """The calls of the compiler, for what is not in the cache."""
    calls, compile_kernel = [], nvrtc.Compiler.compile
    monkeypatch.setattr(nvrtc.Compiler, "compile", lambda self, *args: calls.append(args)
                        or compile_kernel(self, *args))
    return calls


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_90a"])
def test_machine_code_for_each_architecture(file, arch):
    assert nvrtc.compile_cubin(file, arch)[:4] == b"\x7fELF"
    [(registers, spilled)] = nvrtc.resource_usage(file, arch).values()
    assert 4 < registers < 20
    assert spilled == 0


def test_spilled_registers_are_told(file):
    file.write_text("""extern "C" __global__ void __launch_bounds__(1024, 2) k(float *x) {
        float v[64];
        for (int i = 0; i < 64; i++) v[i] = x[i * 1024 + threadIdx.x];
        for (int n = 0; n < 9; n++) for (int i = 0; i < 64; i++) v[i] = v[i] * v[(i + 7) % 64] + v[(i * 5 + n) % 64];
        for (int i = 0; i < 64; i++) x[i * 1024 + threadIdx.x] = v[i]; }""")
    assert nvrtc.resource_usage(file, "sm_80")["k"][1] > 0


def test_the_text_is_of_the_oldest_architecture_and_knows_its_lines(file):
    text = nvrtc.compile_ptx(file)
    assert ".target sm_80" in text
    assert f'"{file}"' in text
    assert ".loc" in text


def test_the_cache_depends_on_all_that_goes_in(file, compilations):
    nvrtc.compile_ptx(file)
    nvrtc.compile_ptx(str(file))
    assert len(compilations) == 1
    (file.parent / "twice.cuh").write_text("__device__ inline float twice(float x) { return x + x + x; }\n")
    assert "0f40400000" in nvrtc.compile_ptx(file) or "add.f32" in nvrtc.compile_ptx(file)
    assert len(compilations) == 2
    nvrtc.compile_cubin(file, "sm_80")
    assert len(compilations) == 3


def test_a_broken_cache_is_made_anew(file, compilations):
    good = nvrtc.compile_cubin(file, "sm_80")
    [cached] = [path for path in nvrtc.cache_dir().iterdir() if path.is_file()]
    for broken in (b"", b"{}", b'{"sha256": "0", "log": ""}\nrubbish', cached.read_bytes()[:-9]):
        cached.write_bytes(broken)
        assert nvrtc.compile_cubin(file, "sm_80") == good
    assert len(compilations) == 5


@pytest.mark.parametrize("cache", ["/proc/none", "not/absolute"])
def test_a_cache_that_cannot_be_written_does_not_matter(file, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    nvrtc.headers_dir.cache_clear()
    file.write_text('#include <cuda_bf16.h>\nextern "C" __global__ void k(__nv_bfloat16 *x) { x[0] = x[1]; }')
    assert "st.global.u16" in nvrtc.compile_ptx(file) or "st.global.b16" in nvrtc.compile_ptx(file)
    nvrtc.headers_dir.cache_clear()


@pytest.mark.parametrize(("text", "message"), [
    ("\n\n__device__ int n = nonsense;\n__device__ int m = rubbish;",
     r'k\.cu:3: identifier "nonsense" is undefined \(and 1 more\)$'),
    ('#include "none.cuh"', r'k\.cu:1: cannot open source file "none\.cuh"'),
    ('extern "C" __global__ void k(float *x) { __shared__ float t[20000]; t[threadIdx.x] = 1; x[0] = t[5]; }',
     r"k\.cu: ptxas error .*too much shared data"),
])
def test_what_does_not_compile_is_one_line(file, text, message):
    file.write_text(text)
    with pytest.raises(CompileError, match=message) as error:
        nvrtc.compile_cubin(file, "sm_80")
    assert "\n" not in str(error.value)
    with pytest.raises(CompileError, match="arch"):
        nvrtc.compile_cubin(file.with_name("k.cu"), "sm_1")


def test_without_the_wheel_there_is_one_line(tmp_path, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)
    nvrtc.find_wheel.cache_clear()
    monkeypatch.setattr(metadata, "distribution", missing)
    (tmp_path / "k.cu").write_text("")
    with pytest.raises(CompileError, match=r"nvidia-cuda-nvrtc .*pip install '\.\[cuda\]' in the checkout"):
        nvrtc.compile_ptx(tmp_path / "k.cu")
    monkeypatch.undo()
    nvrtc.find_wheel.cache_clear()


def test_the_package_imports_without_it():
    code = "import sys; sys.modules['nvidia'] = None; import tinyscout.kernels.nvrtc, tinyscout.simulator"
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": root})


def test_a_missing_file_is_named(tmp_path):
    require_compiler()
    with pytest.raises(FileNotFoundError, match=r"none\.cu"):
        nvrtc.compile_ptx(tmp_path / "none.cu")
