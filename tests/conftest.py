"""Every test that asks for `ops` runs once per backend; `pytest --ops mine.py` runs it on your module instead."""
import importlib
import importlib.util

import pytest

BACKENDS = ["tinyscout.reference", "tinyscout.kernels.c", "tinyscout.kernels.cuda"]
EXAMPLES = {"tinyscout.kernels.cuda": 15}       # the simulator takes milliseconds where C takes microseconds


def pytest_addoption(parser):
    parser.addoption("--ops", help="path of a module that overlays tinyscout.reference: your own kernels")
    parser.addoption("--examples", type=int, help="how many inputs each law is tried on (default 50; CUDA 15)")


def load(path):
    spec = importlib.util.spec_from_file_location("mine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_generate_tests(metafunc):
    if "ops" in metafunc.fixturenames:
        mine = metafunc.config.getoption("--ops")
        modules = [load(mine)] if mine else [importlib.import_module(name) for name in BACKENDS]
        metafunc.parametrize("ops", modules, ids=[m.__name__.rsplit(".", 1)[-1] for m in modules])


@pytest.fixture
def examples(request):
    ops = request.getfixturevalue("ops") if "ops" in request.fixturenames else None
    return request.config.getoption("--examples") or EXAMPLES.get(getattr(ops, "__name__", None), 50)
