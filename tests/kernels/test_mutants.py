"""The table of planted faults fits the sources: each line is there, and each test that shall notice can be called.

Whether the laws notice is a run of many minutes: python tests/mutants/run.py
"""
import importlib.util

import pytest

if importlib.util.find_spec("nvidia") is None:
    pytest.skip("CUDA kernels need NVIDIA's compiler: pip install '.[cuda]'", allow_module_level=True)
from mutants import run, table

from tinyscout import laws
from tinyscout.kernels import nvrtc
from tinyscout.kernels.cuda import versions as cuda_versions


@pytest.mark.parametrize("file", table.CHECKS)
def test_every_fault_can_be_planted(file):
    source = (nvrtc.SOURCE_DIR / file).read_text()
    faults = [mutant for mutant in table.MUTANTS if mutant.file == file]
    assert faults
    for mutant in faults:
        assert run.plant(mutant, source) != source


def test_every_file_with_faults_is_checked():
    assert {mutant.file for mutant in table.MUTANTS} == set(table.CHECKS)


@pytest.mark.parametrize("file", table.CHECKS)
def test_every_check_exists(file):
    check = table.CHECKS[file]
    names = {case.name for case in laws.CASES} | {case.name.split(": ")[0] for case in laws.CASES}
    assert set(check.laws) <= names
    assert check.laws or list(check.tests())
    assert not check.version or any(check.version in found for found in cuda_versions.versions().values())
    for name, function in check.tests():
        assert callable(function), name
