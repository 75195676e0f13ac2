"""The kernels obey the laws under the sanitizers: no access out of bounds, no undefined behaviour, no data race.

The extensions are built anew in a copy of the package, with a low threshold for threads, and the laws run there in a
process of their own.  Both sanitizers are first shown a planted bug, so that their silence means something.
"""
import os
import platform
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tinyscout.kernels import library

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "csrc/c"
THREADS = ROOT / "tests/openmp_by_pthreads.c"       # libgomp is a black box to the thread sanitizer
FLAGS = ["-O1", "-g", "-fPIC", "-shared", "-fno-omit-frame-pointer", "-w"]
MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
RACES = ["-fsanitize=thread"]
GCC = shutil.which("gcc")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.system() != "Linux" or not GCC, reason="the sanitizers are preloaded: Linux and gcc"),
    pytest.mark.skipif(not KERNELS.is_dir(), reason="no csrc/ beside these tests"),
]

LAWS = """
from tinyscout import laws
from tinyscout.kernels import c, library
assert library.module.__file__.startswith({copy!r}), library.module.__file__
{threads}
broken = [(name, said) for name, said in laws.check(c, examples=4) if said]
assert not broken, broken
print("every law held")
"""
NO_MEMORY = """
import pytest
from tinyscout.kernels import library
assert library.module.__file__.startswith({copy!r}), library.module.__file__
assert not pytest.main(["-q", "-p", "no:cacheprovider", {tests!r}])
print("every failure was said")
"""
TOKENIZER = """
from hypothesis import HealthCheck, given, settings
from tinyscout import _bpe
from tinyscout.laws.bpe import LAWS
assert _bpe.__file__.startswith({copy!r}), _bpe.__file__
def hold(law, inputs):
    @settings(max_examples=4, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(inputs)
    def holds(drawn):
        law(_bpe, *drawn)
    holds()
for law, inputs in LAWS.items():
    hold(law, inputs)
print("every law held")
"""


def flags_of_this_processor():
    return runpy.run_path(str(KERNELS / "build.py"))["X86"].get(library.module.__name__.partition("_c_")[2], [])


def gcc(*words, compiler="gcc"):
    done = subprocess.run([compiler, *map(str, words)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def runtime(name):
    """The sanitizer's library, which has to be loaded before Python; without one there is nothing to test with."""
    path = subprocess.run(["gcc", f"-print-file-name=lib{name}.so"], capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"this gcc comes without lib{name}")
    return path


def run(program, preload, cwd):
    """A Python program with sanitizers loaded  ->  the finished process"""
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1",
               "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1 exitcode=66"}
    environment = {**os.environ, **options, "LD_PRELOAD": " ".join(map(runtime, preload)), "PYTHONPATH": str(cwd),
                   "OPENBLAS_NUM_THREADS": "1", "PYTHONMALLOC": "malloc", "TINYSCOUT_C": "_c"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=cwd, capture_output=True, text=True,
                          timeout=900)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this kernel's memory layout is more random than the thread sanitizer allows")
    return done


def said(done):
    """The first report of a sanitizer, or how else the program ended."""
    at = done.stderr.find("Sanitizer")
    return done.stderr[max(0, at - 20):][:3000] if at >= 0 else done.stderr[-3000:]


def build_kernels(folder, flags, *more):
    """The package in a folder, its kernels built for this processor with those flags and links."""
    shutil.copytree(Path(library.__file__).parents[1], folder / "tinyscout",
                    ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    source = shutil.copytree(KERNELS, folder / "c")
    header = (source / "simd.h").read_text()
    assert "PARALLEL_MIN = 1 << 14" in header
    header = header.replace("PARALLEL_MIN = 1 << 14", "PARALLEL_MIN = 8")      # threads for short rows too
    (source / "simd.h").write_text(header)
    runpy.run_path(str(source / "build.py"))["BUILDERS"]["_c"].emit_c_code(str(folder / "_c.c"))
    gcc(*FLAGS, "-std=gnu11", "-fopenmp", *flags_of_this_processor(), *flags, f"-I{source}",
        f"-I{sysconfig.get_path('include')}", folder / "_c.c", *sorted(source.glob("*.c")), *more, "-lm",
        "-o", folder / "tinyscout/_c.so")


PLANTED = """
float total;
float planted(const float *x, int n) {
    total = 0;
    #pragma omp parallel for
    for (int i = 0; i < n; i++) total += x[i];      // a sum that all threads share, and no reduction
    return total;
}
float innocent(const float *x, int n) {
    float sum = 0;
    #pragma omp parallel for reduction(+:sum)
    for (int i = 0; i < n; i++) sum += x[i];
    #pragma omp parallel
    {
        #pragma omp for schedule(dynamic)
        for (int i = 0; i < 8; i++) ((float *) x)[i] = sum;
        #pragma omp for schedule(dynamic)           // the loop before ends with a barrier: what it wrote may be read
        for (int i = 0; i < 8; i++) ((float *) x)[16 + i] = x[7 - i];
    }
    return sum;
}
"""
CALL = """
import ctypes
kernels, libc = ctypes.CDLL({path!r}), ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
memory = libc.malloc(4 * 1000)
ctypes.memset(memory, 0, 4000)
kernels.{name}(ctypes.c_void_p(memory), {n})
"""


def planted(folder, flags, *more):
    (folder / "planted.c").write_text(PLANTED)
    gcc(*FLAGS, "-fopenmp", *flags, folder / "planted.c", *more, "-o", folder / "planted.so")
    return str(folder / "planted.so")


def test_the_memory_sanitizer_sees_a_step_beyond_the_end(tmp_path):
    path = planted(tmp_path, MEMORY)
    assert run(CALL.format(path=path, name="innocent", n=1000), ["asan", "ubsan"], tmp_path).returncode == 0
    done = run(CALL.format(path=path, name="innocent", n=1001), ["asan", "ubsan"], tmp_path)
    assert "heap-buffer-overflow" in done.stderr


def stand_in(folder, flags):
    """OpenMP by pthreads, as an object; linked without -fopenmp it is what the kernels find."""
    gcc("-O1", "-g", "-fPIC", *flags, "-c", THREADS, "-o", folder / "threads.o")
    return folder / "threads.o"


def build_with_stand_in(folder, build):
    """-fopenmp compiles the pragmas, and would link libgomp: our own functions come first and win."""
    return build(folder, RACES, stand_in(folder, RACES))


def test_the_thread_sanitizer_sees_a_shared_sum(tmp_path):
    path = build_with_stand_in(tmp_path, planted)
    done = run(CALL.format(path=path, name="innocent", n=1000), ["tsan"], tmp_path)
    assert done.returncode == 0, said(done)
    done = run(CALL.format(path=path, name="planted", n=1000), ["tsan"], tmp_path)
    assert done.returncode == 66
    assert "data race" in done.stderr


def test_kernels_stay_in_bounds(tmp_path):
    build_kernels(tmp_path, MEMORY)
    done = run(LAWS.format(copy=str(tmp_path), threads=""), ["asan", "ubsan", "stdc++"], tmp_path)
    assert "every law held" in done.stdout, said(done)
    tests = str(ROOT / "tests/test_memory_error.py")
    done = run(NO_MEMORY.format(copy=str(tmp_path), tests=tests), ["asan", "ubsan", "stdc++"], tmp_path)
    assert "every failure was said" in done.stdout, done.stdout + said(done)


def test_kernels_do_not_race(tmp_path):
    """Four threads, whatever the machine has."""
    build_with_stand_in(tmp_path, build_kernels)
    done = run(LAWS.format(copy=str(tmp_path), threads="c.set_threads(4)"), ["tsan"], tmp_path)
    assert "every law held" in done.stdout, said(done)


def test_the_tokenizer_stays_in_bounds(tmp_path):
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed: its headers are needed")

    shutil.copytree(Path(library.__file__).parents[1], tmp_path / "tinyscout",
                    ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    gcc(*FLAGS, "-std=c++17", *MEMORY, f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}",
        *sorted((ROOT / "csrc/cpp").glob("*.cpp")), "-o", tmp_path / "tinyscout/_bpe.so", compiler="g++")
    done = run(TOKENIZER.format(copy=str(tmp_path)), ["asan", "ubsan", "stdc++"], tmp_path)
    assert "every law held" in done.stdout, said(done)
