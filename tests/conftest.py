"""Every test that asks for `ops` runs once per backend; `pytest --ops mine.py` runs it on your module instead.

CUDA runs in the simulator, so that every machine tests it; `pytest -m gpu` runs the same tests on a GPU, and more.
"""
import importlib
import importlib.util
import os

if "PYTEST_XDIST_WORKER" in os.environ:             # before NumPy is imported: its threads spin while they wait, and
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")      # every processor has a worker already

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


def is_simulated(item):
    """Does a test run the CUDA backend in the simulator?"""
    ops = getattr(item, "callspec", None) and item.callspec.params.get("ops")
    return getattr(ops, "__name__", None) in EXAMPLES and not is_gpu_run(item.config)


@pytest.hookimpl(tryfirst=True)         # before pytest deselects by markers
def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow_in_simulator") and is_simulated(item):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def simulated(request):
    return is_simulated(request.node)


@pytest.fixture
def examples(request, simulated):
    """How many inputs to try a law on."""
    return request.config.getoption("--examples") or (EXAMPLES["tinyscout.kernels.cuda"] if simulated else 50)
