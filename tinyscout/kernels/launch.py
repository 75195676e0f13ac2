"""One call to launch a kernel: on the GPU that CuPy sees, else in the simulator on NumPy arrays.

    kernel("norm.cu", "rms_norm")(Launch(grid=(N,), block=(256,)), out, x, weight, eps, N, D)

NVIDIA's compiler makes both: a cubin for the GPU, and PTX for the simulator.  The PTX's parameter list also gives the
types of the scalars, so you can pass plain Python numbers, and None for a null pointer.
"""
import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyscout.kernels import nvrtc
from tinyscout.kernels.device import cupy

MIN_COMPUTE_CAPABILITY = 80             # 8.0, Ampere: tensor cores for bfloat16, and cp.async
WARP_SIZE, BLOCK_SIZE = 32, 256         # threads
DEFAULT_SHARED_BYTES = 48 << 10         # of shared memory; a kernel that needs more must request it
PTX_TYPES = {"u64": np.uint64, "s64": np.int64, "b64": np.uint64, "u32": np.uint32, "s32": np.int32, "b32": np.uint32,
             "u8": np.uint8, "s8": np.int8, "b8": np.uint8, "f32": np.float32, "f64": np.float64}


class Launch(NamedTuple):
    """The blocks, and the threads of each block, along x, y and z, and the bytes of shared memory of each block."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int = 0


def ceil_div(n: int, size: int) -> int:
    """The number of blocks of that size that cover n."""
    return -(-n // size)


def row_launch(N: int, D: int, max_threads: int = BLOCK_SIZE) -> Launch:
    """One block for each of N rows, with a thread for every four of its D elements, but at most `max_threads`."""
    return Launch((N,), (min(max_threads, WARP_SIZE * ceil_div(D, 4 * WARP_SIZE)),))


def element_launch(n: int, per_thread: int = 4) -> Launch:
    """One thread for every `per_thread` of n elements."""
    return Launch((ceil_div(n, per_thread * BLOCK_SIZE),), (BLOCK_SIZE,))


@cache
def kernel(file: str, name: str) -> "Kernel":
    """A kernel of csrc/cuda, compiled on first use: a function of a Launch and the kernel's arguments."""
    if nvrtc.SOURCE_DIR is None:
        raise FileNotFoundError(f"the CUDA kernels are missing: csrc/cuda was not found above {__file__}")
    return Kernel(nvrtc.SOURCE_DIR / file, name)


class Kernel:
    """One `extern "C" __global__` function of a .cu file.

    path, name  ->  callable(Launch, *arguments), with arguments that are row-major arrays on the device, numbers, or
    None for a null pointer.  The kernel writes its output arrays in place.  Raises TypeError for arguments that do not
    match the kernel's parameters, RuntimeError for a launch that failed, and the simulator's Fault.
    """

    def __init__(self, path: Path | str, name: str) -> None:
        self.path, self.name = Path(path), name
        self.ptx = nvrtc.compile_ptx(self.path)
        self.types = parse_parameters(self.ptx, name)
        self.function = None if cupy is None else load_on_gpu(self.path, name)

    def __call__(self, launch: Launch, *arguments: Any) -> None:
        converted = convert_arguments(self.name, self.types, arguments)
        if self.function is None:
            from tinyscout.simulator import run
            run(self.ptx, self.name, launch.grid, launch.block, launch.shared, converted)
        else:
            launch_and_sync(self.function, self.name, launch, converted)
            for launches in recordings:
                launches.append(partial(launch_async, self.function, launch, converted))


recordings: list[list[Callable[[], None]]] = []         # one list per active `record_launches`


@contextlib.contextmanager
def record_launches() -> Iterator[list[Callable[[], None]]]:
    """Record the GPU launches inside a `with` block, so that they can be repeated.

    ->  the growing list of recorded launches: each is a function that repeats the launch on the same arrays, without
    waiting for it

        with record_launches() as launches:
            cuda.softmax(x)
        for launch_again in launches:
            launch_again()
    """
    launches: list[Callable[[], None]] = []
    recordings.append(launches)
    try:
        yield launches
    finally:
        recordings.remove(launches)


def parse_parameters(ptx: str, name: str) -> list[type]:
    """The types of a kernel's parameters, with pointers as integers.  Raises ValueError if the kernel is not found."""
    entry = re.search(rf"\.entry {name}\(([^)]*)\)", ptx)
    if entry is None:
        raise ValueError(f"no kernel {name} in the PTX: is it extern \"C\" __global__?")
    return [PTX_TYPES[kind] for kind in re.findall(r"\.param \.(\w+)", entry[1])]


def convert_arguments(name: str, types: list[type], arguments: tuple) -> list:
    """The arguments as a launch takes them: arrays as they are, numbers in the kernel's types.  Raises TypeError."""
    if len(arguments) != len(types):
        raise TypeError(f"{name} takes {len(types)} arguments, not {len(arguments)}")
    return [convert_argument(f"argument {n} of {name}", *pair)
            for n, pair in enumerate(zip(types, arguments, strict=True), 1)]


def convert_argument(what: str, kind: type, value: Any) -> Any:
    """One argument as a launch takes it."""
    dtype = np.dtype(kind)
    if getattr(value, "ndim", 0):                                       # an array
        if dtype.itemsize != 8 or dtype.kind == "f":
            raise TypeError(f"{what} is a number, not an array")
        if not value.flags.c_contiguous:
            raise TypeError(f"{what} must be row-major without gaps")
        return value
    if dtype.kind == "f":
        return dtype.type(value)
    if value is None:
        value = 0
    if value != int(value) or not -1 << 8 * dtype.itemsize - 1 <= value < 1 << 8 * dtype.itemsize - 1:
        raise TypeError(f"{what} must be an integer of {8 * dtype.itemsize} bits, not {value}")
    return np.array(int(value), f"i{dtype.itemsize}").view(dtype)[()]     # PTX does not distinguish int and unsigned


@cache
def gpu_architecture() -> str:
    """The GPU's name among nvcc's targets, such as sm_90.  Raises RuntimeError below MIN_COMPUTE_CAPABILITY."""
    capability = cupy.cuda.Device().compute_capability
    if int(capability) < MIN_COMPUTE_CAPABILITY:
        required = f"{MIN_COMPUTE_CAPABILITY // 10}.{MIN_COMPUTE_CAPABILITY % 10}"
        raise RuntimeError(f"this GPU has compute capability {capability[:-1]}.{capability[-1]}, and the kernels need "
                           f"{required}: TINYSCOUT_CUDA=simulator runs them without it")
    return f"sm_{capability}"


def load_on_gpu(path: Path, name: str) -> Any:
    """Load a kernel onto the GPU: CuPy reads a cubin only from a file."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(nvrtc.compile_cubin(path, gpu_architecture()))
        file.flush()
        return cupy.RawModule(path=file.name).get_function(name)


def launch_and_sync(function: Any, name: str, launch: Launch, arguments: list) -> None:
    """Launch on the GPU and wait, so that an error is raised here and not at a later call."""
    try:
        launch_async(function, launch, arguments)
        cupy.cuda.get_current_stream().synchronize()
    except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
        raise RuntimeError(f"{name} with {launch} failed: {error}") from error


def launch_async(function: Any, launch: Launch, arguments: list) -> None:
    """Launch on the GPU and do not wait."""
    if launch.shared > DEFAULT_SHARED_BYTES:
        function.max_dynamic_shared_size_bytes = launch.shared
    function(launch.grid, launch.block, tuple(arguments), shared_mem=launch.shared)
