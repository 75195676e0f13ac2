"""One call to launch a kernel: on the GPU that CuPy sees, else in the simulator on NumPy arrays.

    kernel("norm.cu", "rms_norm")(Launch(grid=(N,), block=(256,)), out, x, weight, eps, N, D)

NVIDIA's compiler makes both: a cubin for the card, and for the simulator PTX.  The PTX's list of parameters also says
which types the scalars have, so that they may be given as plain Python numbers, and None for a null pointer.
"""
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyscout.kernels import nvrtc
from tinyscout.kernels.device import cupy

MIN_COMPUTE_CAPABILITY = 80                     # compute capability 8.0, Ampere: tensor cores for bfloat16, and cp.async
WARP_SIZE, BLOCK_SIZE = 32, 256           # threads
DEFAULT_SHARED_BYTES = 48 << 10                # shared memory beyond which a kernel has to ask for it, in bytes
PTX_TYPES = {"u64": np.uint64, "s64": np.int64, "b64": np.uint64, "u32": np.uint32, "s32": np.int32, "b32": np.uint32,
             "u8": np.uint8, "s8": np.int8, "b8": np.uint8, "f32": np.float32, "f64": np.float64}


class Launch(NamedTuple):
    """How many blocks of how many threads, along x, y and z, and how many bytes of shared memory a block asks for."""

    grid: tuple
    block: tuple
    shared: int = 0


def ceil_div(n, size):
    """How many blocks of that size cover n."""
    return -(-n // size)


def row_launch(N, D, max_threads=BLOCK_SIZE):
    """One block for each of N rows, with a thread for every four of its D numbers, but not more than `most`."""
    return Launch((N,), (min(max_threads, WARP_SIZE * ceil_div(D, 4 * WARP_SIZE)),))


def element_launch(n, per_thread=4):
    """One thread for each of n numbers, or for every few."""
    return Launch((ceil_div(n, per_thread * BLOCK_SIZE),), (BLOCK_SIZE,))


@cache
def kernel(file, name):
    """A kernel of csrc/cuda, compiled when it is first asked for: a function of a Launch and the kernel's arguments."""
    if nvrtc.SOURCE_DIR is None:
        raise FileNotFoundError(f"the CUDA kernels are missing: there is no csrc/cuda above {__file__}")
    return Kernel(nvrtc.SOURCE_DIR / file, name)


class Kernel:
    """One `extern "C" __global__` function of a .cu file.

    path, name  ->  callable(Launch, *arguments), the arguments row-major arrays on the device, numbers, or None for a
    null pointer.  Arrays that the kernel writes are changed in place.  Raises TypeError for arguments that cannot be
    the kernel's, RuntimeError for a launch that failed, and the simulator's Fault.
    """

    def __init__(self, path, name):
        self.path, self.name = Path(path), name
        self.ptx = nvrtc.ptx(self.path)
        self.types = parse_parameters(self.ptx, name)
        self.function = None if cupy is None else load_on_gpu(self.path, name)

    def __call__(self, launch, *arguments):
        arguments = convert_arguments(self.name, self.types, arguments)
        if self.function is None:
            from tinyscout.simulator import run
            run(self.ptx, self.name, launch.grid, launch.block, launch.shared, arguments)
        else:
            launch_and_sync(self.function, self.name, launch, arguments)


def parse_parameters(ptx, name):
    """The types of a kernel's parameters, a pointer being an integer.  Raises ValueError for no such kernel."""
    found = re.search(rf"\.entry {name}\(([^)]*)\)", ptx)
    if found is None:
        raise ValueError(f"there is no kernel {name}: is it extern \"C\" __global__?")
    return [PTX_TYPES[kind] for kind in re.findall(r"\.param \.(\w+)", found[1])]


def convert_arguments(name, types, arguments):
    """The arguments as a launch takes them, numbers in the kernel's own types.  Raises TypeError."""
    if len(arguments) != len(types):
        raise TypeError(f"{name} takes {len(types)} arguments, not {len(arguments)}")
    return [convert_argument(f"argument {n} of {name}", *pair) for n,
            pair in enumerate(zip(types, arguments, strict=True), 1)]


def convert_argument(what, kind, value):
    """One argument as a launch takes it."""
    kind = np.dtype(kind)
    if getattr(value, "ndim", 0):                                       # an array
        if kind.itemsize != 8 or kind.kind == "f":
            raise TypeError(f"{what} is a number, not an array")
        if not value.flags.c_contiguous:
            raise TypeError(f"{what} must be row-major without gaps")
        return value
    if kind.kind == "f":
        return kind.type(value)
    if value is None:
        value = 0
    if value != int(value) or not -1 << 8 * kind.itemsize - 1 <= value < 1 << 8 * kind.itemsize - 1:
        raise TypeError(f"{what} is an integer of {8 * kind.itemsize} bits, and {value} is none")
    return np.array(int(value), f"i{kind.itemsize}").view(kind)[()]     # PTX does not tell int from unsigned


@cache
def gpu_architecture():
    """The card's name among nvcc's targets, such as sm_90.  Raises RuntimeError for a card older than OLDEST."""
    capability = cupy.cuda.Device().compute_capability
    if int(capability) < MIN_COMPUTE_CAPABILITY:
        raise RuntimeError(f"this GPU has compute capability {capability[:-1]}.{capability[-1]}, and the kernels need "
                           f"{MIN_COMPUTE_CAPABILITY // 10}.{MIN_COMPUTE_CAPABILITY % 10}: TINYSCOUT_CUDA=simulator runs them without it")
    return f"sm_{capability}"


def load_on_gpu(path, name):
    """A kernel loaded into the card: CuPy reads a cubin only from a file."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(nvrtc.cubin(path, gpu_architecture()))
        file.flush()
        return cupy.RawModule(path=file.name).get_function(name)


def launch_and_sync(function, name, launch, arguments):
    """Launch on the card, and wait: so that an error is raised here and not somewhere later."""
    try:
        launch_async(function, launch, arguments)
        cupy.cuda.get_current_stream().synchronize()
    except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
        raise RuntimeError(f"{name} with {launch} failed: {error}") from error


def launch_async(function: Any, launch, arguments):
    """Launch on the card, and do not wait."""
    if launch.shared > DEFAULT_SHARED_BYTES:
        function.max_dynamic_shared_size_bytes = launch.shared
    function(launch.grid, launch.block, tuple(arguments), shared_mem=launch.shared)
