"""On a GPU: Scout's own sizes, and the simulator against the GPU, launch by launch.  `pytest -m gpu` runs these."""
import numpy as np
import pytest

from tinyscout.kernels import launch
from tinyscout.laws import run_law
from tinyscout.laws.universal import EPS, same_as_reference
from tinyscout.simulator import run

try:
    from tinyscout.kernels import cuda
except RuntimeError as error:
    pytest.skip(str(error), allow_module_level=True)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cuda.device_note is not None, reason="no GPU here, or no -m gpu")]
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


SIZES = {       # rows of Scout's width, a prompt, a tile, its vocabulary
    "rms_norm": lambda: (normal(512, 5120), normal(5120)),
    "layer_norm": lambda: (normal(577, 1408), normal(1408), normal(1408)),
    "apply_rope": lambda: (normal(1, 512, 40, 128), *(normal(512, 64) for _ in range(2))),
    "softmax": lambda: (normal(64, 202_048),),
    "sigmoid": lambda: (normal(257, 8192),),
    "swiglu": lambda: (normal(257, 8192), normal(257, 8192)),
    "gelu": lambda: (normal(577, 5632),),
    "embed": lambda: (rng.integers(0, 20_000, 512), normal(20_000, 5120)),
    "router": lambda: (normal(512, 5120), normal(5120, 16) * np.float32(5120 ** -0.5)),
    "patchify": lambda: (normal(17, 3, 336, 336), 14),
    "pixel_shuffle": lambda: (normal(17, 576, 1408), 2),
    "fuse": lambda: (normal(2467, 5120), np.arange(2467) < 144 * 16, normal(144 * 16, 5120)),
    "top_k": lambda: (normal(4, 202_048), 40),
    "sample": lambda: (normal(202_048), 0.5, 0.6, None, 0.9),
    "cross_entropy": lambda: (normal(64, 202_048), rng.integers(0, 202_048, 64)),
    "adamw_step": lambda: (*(normal(1 << 22) for _ in range(3)), np.abs(normal(1 << 22)), 10, 3e-4),
    "muon_step": lambda: (*(normal(2, 512, 1408) for _ in range(3)), 0.02),
    "grouped_query_attention": lambda: (normal(1, 300, 40, 128), *(normal(1, 1500, 8, 128) for _ in "kv"), True, 1024),
    "linear": lambda: (normal(130, 5120), normal(5120, 2049) * np.float32(5120 ** -0.5)),
    "experts": lambda: (normal(130, 1024), rng.integers(0, 16, (130, 1)), np.abs(normal(130, 1)),
                        *(normal(16, *size) / 32 for size in [(1024, 2048), (1024, 2048), (2048, 1024)])),
}
GRADIENTS = {   # dy, the first argument of f_backward
    "rms_norm": lambda: normal(512, 5120),
    "layer_norm": lambda: normal(577, 1408),
    "apply_rope": lambda: normal(1, 512, 40, 128),
    "softmax": lambda: normal(64, 202_048),
    "sigmoid": lambda: normal(257, 8192),
    "swiglu": lambda: normal(257, 8192),
    "gelu": lambda: normal(577, 5632),
    "embed": lambda: normal(512, 5120),
    "cross_entropy": lambda: 0.5,
    "grouped_query_attention": lambda: normal(1, 300, 40, 128),
    "router": lambda: normal(512, 1),
    "linear": lambda: normal(130, 2049),
    "experts": lambda: normal(130, 1024),
}
SIZES |= {f"{name}_backward": lambda dy=dy, args=SIZES[name]: (dy(), *args()) for name, dy in GRADIENTS.items()}


@pytest.mark.parametrize("name", SIZES)
def test_scouts_own_sizes(name):
    same_as_reference(cuda, name, *SIZES[name]())


def test_offsets_beyond_2_31():
    """Rows that lie more than 2^31 numbers from the first."""
    free, _ = launch.cupy.cuda.runtime.memGetInfo()
    if free < 36 << 30:
        pytest.skip("needs 36 GB of the card's memory")
    x = launch.cupy.zeros(((1 << 31) // 5120 + 3, 5120), np.float32)
    x[-1] = launch.cupy.asarray(row := normal(5120))
    for name in ("rms_norm", "softmax", "sigmoid"):
        y = getattr(cuda, name)(x)
        np.testing.assert_array_equal(cuda.asnumpy(y[-1]), getattr(cuda, name)(row[None])[0])
        del y


@pytest.fixture
def simulated_launches(monkeypatch):
    """Every launch on the GPU is also made in the simulator, with the same arguments, and both must agree.

    Approximate instructions (ex2, rsqrt, the sums of tensor cores) differ in their last bits, integers do not at all.
    """
    names, launch_on_gpu = [], launch.Kernel.__call__

    def launch_on_both(self, shape, *arguments):
        copies = [cuda.asnumpy(a).copy() if getattr(a, "ndim", 0) else a for a in arguments]
        launch_on_gpu(self, shape, *arguments)
        run(self.ptx, self.name, *shape, launch.convert_arguments(self.name, self.types, copies))
        for simulated, real in zip(copies, arguments, strict=True):
            if getattr(real, "ndim", 0):
                assert_agree(simulated, cuda.asnumpy(real))
        names.append(self.name)

    monkeypatch.setattr(launch.Kernel, "__call__", launch_on_both)
    return names


def assert_agree(simulated, real):
    if real.dtype.kind != "f":
        np.testing.assert_array_equal(simulated, real)
    else:
        largest = np.abs(np.nan_to_num(real, posinf=0, neginf=0)).max(initial=0)
        np.testing.assert_allclose(simulated, real, rtol=64 * EPS, atol=64 * EPS * largest)


@pytest.mark.parametrize("name", SIZES)
def test_the_simulator_is_the_card(simulated_launches, name):
    from tinyscout import laws
    case = next(case for case in laws.CASES if case.name == f"{name}: same as reference")
    run_law(case, cuda, 10)
    assert simulated_launches


def test_every_replaced_operation_is_here():
    from tinyscout import laws
    assert set(laws.replaced_names(cuda)) - {"top_p"} == set(SIZES)
