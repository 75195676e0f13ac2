"""Every test that asks for `ops` runs once per backend; `pytest --ops mine.py` runs it on your module instead.

CUDA runs in the simulator, so that every machine tests it; `pytest -m gpu` runs the same tests on a GPU, and more.
"""
import importlib
import importlib.util
import os

import pytest

BACKENDS = ["tinyscout.reference", "tinyscout.kernels.c", "tinyscout.kernels.cuda"]
EXAMPLES = {"tinyscout.kernels.cuda": 15}       # the simulator takes milliseconds where C takes microseconds


def pytest_addoption(parser):
    parser.addoption("--ops", help="path of a module that overlays tinyscout.reference: your own kernels")
    parser.addoption("--examples", type=int, help="inputs each law is tried on (default 50, in the simulator 15)")


def is_gpu_run(config):
    return config.getoption("markexpr") == "gpu"


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: on a GPU, which CuPy must see: pytest -m gpu")
    if not is_gpu_run(config):
        os.environ["TINYSCOUT_CUDA"] = "simulator"


def load_module(path):
    spec = importlib.util.spec_from_file_location("own_kernels", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def backend_param(name, config):
    """A backend as a parameter of tests, skipped with a plain reason if it cannot run here."""
    short_name, marks = name.rsplit(".", 1)[-1], []
    try:
        module = importlib.import_module(name)
    except RuntimeError as error:               # no compiler for CUDA
        return pytest.param(None, id=short_name, marks=pytest.mark.skip(reason=str(error)))
    if is_gpu_run(config) and short_name == "cuda":
        no_gpu = pytest.mark.skipif(module.device_note is not None, reason=str(module.device_note))
        marks = [pytest.mark.gpu, no_gpu]
    return pytest.param(module, id=short_name, marks=marks)


def backend_params(config):
    """The backend of --ops alone, or all of this package."""
    path = config.getoption("--ops")
    if path:
        return [pytest.param(load_module(path), id="own")]
    return [backend_param(name, config) for name in BACKENDS]


def pytest_generate_tests(metafunc):
    if "ops" in metafunc.fixturenames:
        metafunc.parametrize("ops", backend_params(metafunc.config))


@pytest.fixture
def examples(request):
    """How many inputs to try a law on."""
    ops = getattr(request.node, "callspec", None) and request.node.callspec.params.get("ops")
    is_simulated = getattr(ops, "__name__", None) in EXAMPLES and not is_gpu_run(request.config)
    return request.config.getoption("--examples") or (EXAMPLES[ops.__name__] if is_simulated else 50)
