"""The machine that a measurement ran on: a description, and the limits of its memory and arithmetic."""
import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np


def best_time(function: Callable[[], object], seconds: float = 0.3) -> float:
    """The shortest time of a call in seconds.  Calls are repeated for `seconds`, and at least three times."""
    stop, times = time.perf_counter() + seconds, list[float]()
    while time.perf_counter() < stop or len(times) < 3:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure_roofline(threads: int | None = None) -> dict:
    """Measure the limits of the machine: bytes read per second and float32 operations per second.

    threads for reading, by default one per processor

    Bandwidth is measured twice, with np.max in one thread per part and with BLAS's matrix-vector product; the higher
    value counts.  The two share nothing but memory, so if they agree, the result is the speed of the memory.
    """
    threads = threads or cpu_count()
    matrix, vector = np.ones((16_384, 4096), np.float32), np.ones(4096, np.float32)     # 256 MB: larger than any cache
    parts = np.array_split(matrix.view(np.int32).ravel(), threads)
    with ThreadPoolExecutor(threads) as pool:
        scan = best_time(lambda: list(pool.map(np.max, parts)))
    read = {"scan": matrix.nbytes / scan, "matrix times vector": matrix.nbytes / best_time(lambda: matrix @ vector)}
    square = np.ones((2048, 2048), np.float32)
    return {"read bytes per second": max(read.values()), "operations per second": 2 * 2048 ** 3 / best_time(
        lambda: square @ square), "reading, tried as": read}


def elementwise_best(old: dict, new: dict) -> dict:
    """Element-wise maximum of two measurements: a disturbance can only make a machine look slower."""
    return {key: elementwise_best(value, new[key]) if isinstance(value, dict) else max(value, new[key])
            for key, value in old.items()}


def peak_memory() -> int | None:
    """Peak memory of this process so far, in bytes, or None if the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cpu_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> dict:
    """The processor, the system and the versions of the libraries."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    description = {"cpu": cpu, "cores": cpu_count(), "system": f"{platform.system()} {platform.machine()}",
                   "python": platform.python_version(), "numpy": np.__version__,
                   "blas": f"{blas.get('name')} {blas.get('version')}",
                   "environment": {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}}
    for name in "torch", "transformers", "llama-cpp-python", "gguf":
        with contextlib.suppress(Exception):
            description[name] = version(name)
    return description


def git_commit() -> str | None:
    """The git commit of this source, with "-dirty" if files differ from it; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip() or None
    return None
