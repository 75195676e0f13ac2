"""cffi's builders: kernels.h declares everything that Python calls in C, compiled once for each level of processor.

The sources are the same; the levels differ in the width of registers and in instructions.  tinyscout.kernels.c.library
loads the highest level that the processor supports, so one wheel is fast everywhere.
"""
import platform
import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FLAGS = ["-O3", "-std=gnu11", "-g0", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]
X86 = {         # in the order of cpu_level() in cpu_level.c
    "v3": ["-march=x86-64-v3"],                     # AVX2
    "v4": ["-march=x86-64-v4", "-mavx512vnni"],     # AVX-512 with products of bytes
}


def builder(name, *more):
    ffi = FFI()
    ffi.cdef((HERE / "kernels.h").read_text())
    ffi.set_source(
        f"tinyscout.{name}",
        '#include "simd.h"',
        sources=[str(path.relative_to(ROOT)) for path in sorted(HERE.glob("*.c"))],
        depends=[str(path.relative_to(ROOT)) for path in sorted(HERE.glob("*.h"))],
        include_dirs=["csrc/c"],
        extra_compile_args=[*FLAGS, *more],
        libraries=["m"],
    )
    return ffi


BUILDERS = {"_c": builder("_c")}
if platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux":
    BUILDERS |= {f"_c_{level}": builder(f"_c_{level}", *flags) for level, flags in X86.items()}
globals().update(BUILDERS)      # cffi looks up a builder by the name of a global
