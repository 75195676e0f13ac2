"""cffi's builder: kernels.h is the only list of what Python may call in C."""
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

ffibuilder = FFI()
ffibuilder.cdef((HERE / "kernels.h").read_text())
ffibuilder.set_source(
    "tinyscout._c",
    '#include "kernels.h"',
    sources=[str(path.relative_to(ROOT)) for path in sorted(HERE.glob("*.c"))],
    depends=["csrc/c/kernels.h"],
    include_dirs=["csrc/c"],
    extra_compile_args=["-O3", "-std=gnu11", "-g0"],
    libraries=["m"],
)
