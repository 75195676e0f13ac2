"""The kernels are compiled once for each level of processor: every level that this one runs obeys the laws."""
import subprocess
import sys

import pytest

from tinyscout.kernels.c import library

CHECK = """
from tinyscout import laws
from tinyscout.kernels import c
from tinyscout.kernels.c import library
assert library.module.__name__ == "tinyscout.{level}"
broken = [(name, error) for name, error in laws.check(c, examples=8) if error]
assert not broken, broken
"""
LEVELS = library.LEVELS[:library.module.lib.cpu_level() + 1]


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_obeys_the_laws(level, monkeypatch):
    monkeypatch.setenv("TINYSCOUT_C", level)
    command = [sys.executable, "-c", CHECK.format(level=level)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_level_that_is_not_here():
    with pytest.raises(ImportError, match="choose from"):
        library.load_widest("_c_v9")


def test_each_level_is_built_with_its_own_instructions():
    """Each is a module of its own and knows the same kernels."""
    names = [set(dir(library.load_widest(level).lib)) for level in LEVELS]
    assert all(level_names == names[0] for level_names in names)
