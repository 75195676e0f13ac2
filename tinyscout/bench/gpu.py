"""GPU side of the benchmark: device info, measured limits and timing.

The GPU measures time with events.  Between two events it must never wait for the host, so each measurement begins with
some copying, during which the launches queue up.
"""
import contextlib
import subprocess
from collections.abc import Callable
from functools import partial

import ml_dtypes
import numpy as np

from tinyscout.kernels import device, launch
from tinyscout.reference import Quantized

QUEUE_SECONDS = 0.005   # duration of the copying before a measurement: hundreds of launches can queue up


def describe_gpu() -> dict:
    """The GPU, its driver and the versions of the libraries, as a dict for json."""
    cuda, driver = device.cupy.cuda, None
    properties = cuda.runtime.getDeviceProperties(cuda.Device().id)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", f"--id={cuda.Device().id}", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    return {"card": properties["name"].decode(), "compute capability": cuda.Device().compute_capability,
            "multiprocessors": properties["multiProcessorCount"], "memory": properties["totalGlobalMem"],
            "driver": driver, "CUDA of the driver": cuda.runtime.driverGetVersion(),
            "CUDA": cuda.runtime.runtimeGetVersion(), "CuPy": device.cupy.__version__}


def require_memory(nbytes: float) -> None:
    """Raise MemoryError if fewer bytes of the GPU's memory are free."""
    free = device.cupy.cuda.runtime.memGetInfo()[0]
    if free < nbytes:
        raise MemoryError(f"this needs {nbytes / 1e9:.1f} GB on the GPU, but only {free / 1e9:.1f} GB are free")


def to_gpu(inputs: tuple) -> tuple:
    """Copy the inputs of an operation to the GPU: arrays and quantized matrices."""
    return tuple(Quantized(*map(device.asarray, x)) if isinstance(x, Quantized) else device.asarray(x) for x in inputs)


def record_launches(function, inputs):
    """Call a function once, and record its kernel launches.

    function of the CUDA backend, inputs on the GPU  ->  the result as a NumPy array, a function that repeats the
    launches and does not wait.  Raises RuntimeError if nothing was launched because the reference computed it.
    """
    with launch.record_launches() as launches:
        result = device.asnumpy(function(*inputs))
    if not launches:
        raise RuntimeError(f"no kernel was launched for {function.__name__}: there is nothing to measure")

    def launch_again():
        for launch_once in launches:
            launch_once()
    return result, launch_again


def cublas(inputs):
    """CuPy's product of two matrices, by cuBLAS.  inputs on the GPU  ->  as `record_launches`"""
    x, w = inputs
    return device.asnumpy(x @ w), lambda: x @ w


def flash(inputs):
    """torch's causal attention, by its flash kernel only.  inputs in bfloat16  ->  as `record_launches`"""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (torch.from_dlpack(a.view(np.int16)).view(torch.bfloat16).transpose(1, 2) for a in inputs)

    def attend():
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)
    return attend().transpose(1, 2).float().cpu().numpy(), attend


class GpuTimer:
    """A timer for work on the GPU.  nbytes: size of each of the two arrays that are copied before a measurement"""

    def __init__(self, nbytes: int = 1 << 30):
        self.source, self.target = (device.xp.zeros(nbytes, np.uint8) for _ in range(2))
        self.copies = 1
        self.copy_seconds = self.fastest_call(self.copy)
        self.copies = max(1, round(QUEUE_SECONDS / self.copy_seconds))

    def copy(self) -> None:
        self.target[...] = self.source

    def time_calls(self, calls: list[Callable], loops: int) -> float:
        """Mean seconds per call over `loops` calls.  calls: functions that do not wait; they take turns"""
        cuda = device.cupy.cuda
        begin, end = cuda.Event(), cuda.Event()
        for _ in range(self.copies):
            self.copy()
        begin.record()
        for n in range(loops):
            calls[n % len(calls)]()
        end.record()
        end.synchronize()
        return cuda.get_elapsed_time(begin, end) / 1e3 / loops          # CUDA returns milliseconds

    def fastest_call(self, call: Callable) -> float:
        return min(self.time_calls([call], 5) for _ in range(5))

    def measure_limits(self, side: int = 8192) -> dict[str, float]:
        """The limits of the GPU: bytes per second of a copy, reads and writes, and operations per second of cuBLAS.

        side: of the square matrices that are multiplied.  They are random, since zeros take less power.
        """
        random = device.asarray(np.random.default_rng(0).standard_normal((side, side), np.float32))
        limits = {"bytes per second": 2 * self.source.nbytes / self.copy_seconds}
        for name, dtype in {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}.items():
            square = random.astype(dtype)
            product = partial(square.__matmul__, square)
            product()                                                   # the first call takes longer
            limits[f"{name} operations per second"] = 2 * side ** 3 / self.fastest_call(product)
        return limits
