"""The machine that a measurement ran on: what it is, and what it allows."""
import contextlib
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np


def best_time(work, seconds=0.3):
    """The shortest time of `work`, tried for that long."""
    stop, times = time.perf_counter() + seconds, list[float]()
    while time.perf_counter() < stop or len(times) < 3:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def measure_roofline(threads=None):
    """What the machine allows: bytes read a second and float32 operations a second, each the best of what was tried.

    threads int for the reading, by default one per processor  ->  dict

    Reading is tried as NumPy's largest integer, a thread for each part, and as BLAS's matrix times vector: the
    two have nothing in common but the memory, and where they agree it is the memory that was measured.
    """
    threads = threads or cpu_count()
    matrix, vector = np.ones((16_384, 4096), np.float32), np.ones(4096, np.float32)     # 256 MB: no cache holds it
    parts = np.array_split(matrix.view(np.int32).ravel(), threads)
    with ThreadPoolExecutor(threads) as pool:
        scan = best_time(lambda: list(pool.map(np.max, parts)))
    read = {"scan": matrix.nbytes / scan, "matrix times vector": matrix.nbytes / best_time(lambda: matrix @ vector)}
    square = np.ones((2048, 2048), np.float32)
    return {"read bytes per second": max(read.values()), "operations per second": 2 * 2048 ** 3 / best_time(
        lambda: square @ square), "reading, tried as": read}


def elementwise_best(old, new):
    """Of two measurements by `measure_roofline` the higher values: what disturbs a machine only ever makes it slower."""
    return {key: elementwise_best(value, new[key]) if isinstance(value, dict) else max(value, new[key])
            for key, value in old.items()}


def peak_memory():
    """Bytes that this process has had in memory at most so far, or None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cpu_count():
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine():
    """What ran it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found = {"cpu": cpu, "cores": cpu_count(), "system": f"{platform.system()} {platform.machine()}",
             "python": platform.python_version(), "numpy": np.__version__,
             "blas": f"{blas.get('name')} {blas.get('version')}",
             "environment": {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}}
    for name in "torch", "transformers", "llama-cpp-python", "gguf":
        with contextlib.suppress(Exception):
            found[name] = version(name)
    return found


def git_commit():
    """The git commit of this source, with "-dirty" where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip() or None
    return None
