"""Small CUDA kernels for tests, written in the test and compiled by NVRTC."""
import hashlib
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tinyscout import simulator
from tinyscout.kernels import nvrtc


@cache
def compile_text(text):
    """The PTX of a kernel's text; its lines are called <name>.cu:1 and on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"k{hashlib.sha256(text.encode()).hexdigest()[:6]}.cu")
        path.write_text(text)
        return nvrtc.compile_ptx(path)


def require_compiler():
    """Skips the tests of a file if the compiler is not installed."""
    try:
        nvrtc.find_wheel()
    except nvrtc.CompileError as error:
        pytest.skip(str(error), allow_module_level=True)


def run(text, grid, block, arguments, shared=0, **options):
    """Run the kernel k of a text."""
    text = text if "__global__" in text else f'extern "C" __global__ void k({text}'
    simulator.run(compile_text(text), "k", grid, block, shared, arguments, **options)
