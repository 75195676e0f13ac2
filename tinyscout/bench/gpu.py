"""The graphics card: what it is, what it allows, and how long it takes.  All of the benchmark that needs one is here.

The card tells the time itself, through events.  Between two of them it must never wait for the host, so a measurement
begins with some copying, behind which the launches queue.
"""
import contextlib
import subprocess
from functools import partial
from unittest import mock

import ml_dtypes
import numpy as np

from tinyscout.kernels import device, launch
from tinyscout.reference import Quantized

HEAD = 0.005            # seconds of copying before a measurement: hundreds of launches are queued meanwhile


def card():
    """What it is, and what drives it  ->  dict that json can write"""
    cuda, driver = device.cupy.cuda, None
    found = cuda.runtime.getDeviceProperties(cuda.Device().id)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        words = ["nvidia-smi", f"--id={cuda.Device().id}", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    return {"card": found["name"].decode(), "compute capability": cuda.Device().compute_capability,
            "multiprocessors": found["multiProcessorCount"], "memory": found["totalGlobalMem"], "driver": driver,
            "CUDA of the driver": cuda.runtime.driverGetVersion(), "CUDA": cuda.runtime.runtimeGetVersion(),
            "CuPy": device.cupy.__version__}


def require_memory(needed):
    """Raises MemoryError where fewer than `needed` bytes of the card's memory are free."""
    free = device.cupy.cuda.runtime.memGetInfo()[0]
    if free < needed:
        raise MemoryError(f"this takes {needed / 1e9:.1f} GB on the GPU, and {free / 1e9:.1f} GB are free there")


def to_gpu(inputs):
    """Inputs of an operation, moved to the card: arrays and quantized matrices."""
    return tuple(Quantized(*map(device.asarray, x)) if isinstance(x, Quantized) else device.asarray(x) for x in inputs)


def record_launches(function, inputs):
    """Compute once, and keep what was launched.

    function of the CUDA column, inputs on the card  ->  the result as a NumPy array, a function that launches the same
    again and does not wait.  Raises RuntimeError where nothing was launched because the reference computed it.
    """
    launches, waiting = [], launch.Kernel.__call__

    def kept(kernel, shape, *arguments):
        waiting(kernel, shape, *arguments)
        checked = launch.convert_arguments(kernel.name, kernel.types, arguments)
        launches.append(partial(launch.launch_async, kernel.function, shape, checked))

    with mock.patch.object(launch.Kernel, "__call__", kept):
        result = device.asnumpy(function(*inputs))
    if not launches:
        raise RuntimeError(f"no kernel was launched for {function.__name__}: there is nothing to measure")

    def again():
        for one in launches:
            one()
    return result, again


def cublas(inputs):
    """CuPy's product of two matrices.  inputs on the card  ->  as `record_launches`"""
    x, w = inputs
    return device.asnumpy(x @ w), lambda: x @ w


def flash(inputs):
    """torch's causal attention by its flash kernel and no other.  inputs bfloat16, on the card  ->  as `record_launches`"""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (torch.from_dlpack(a.view(np.int16)).view(torch.bfloat16).transpose(1, 2) for a in inputs)

    def attend():
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1, enable_gqa=True)
    return attend().transpose(1, 2).float().cpu().numpy(), attend


class Clock:
    """Tells how long the card takes.  nbytes of the two arrays that are copied beforehand"""

    def __init__(self, nbytes=1 << 30):
        self.here, self.there = (device.xp.zeros(nbytes, np.uint8) for _ in "ab")
        self.copies = 1
        self.copying = self.fastest(self.copy)
        self.copies = max(1, round(HEAD / self.copying))

    def copy(self):
        self.there[...] = self.here

    def seconds(self, calls, loops):
        """Seconds of one call, on average over `loops` of them.  calls functions that do not wait, which take turns"""
        cuda = device.cupy.cuda
        begin, end = cuda.Event(), cuda.Event()
        for _ in range(self.copies):
            self.copy()
        begin.record()
        for n in range(loops):
            calls[n % len(calls)]()
        end.record()
        end.synchronize()
        return cuda.get_elapsed_time(begin, end) / 1e3 / loops          # it is in milliseconds

    def fastest(self, call):
        return min(self.seconds([call], 5) for _ in range(5))

    def limits(self, side=8192):
        """What the card allows: bytes copied a second, read and written, and operations a second of cuBLAS  ->  dict

        side: of the square matrices that it multiplies.  They are drawn, since zeros take less current.
        """
        drawn = device.asarray(np.random.default_rng(0).standard_normal((side, side), np.float32))
        found = {"bytes per second": 2 * self.here.nbytes / self.copying}
        for name, dtype in {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}.items():
            square = drawn.astype(dtype)
            product = partial(square.__matmul__, square)
            product()                                                   # the first takes longer
            found[f"{name} operations per second"] = 2 * side ** 3 / self.fastest(product)
        return found
