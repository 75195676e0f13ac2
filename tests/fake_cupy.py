"""A stand-in for CuPy where there is no GPU: arrays that refuse to meet NumPy's, and modules that run in the simulator.

A real CuPy refuses to mix arrays of both in one operation, and so does this one: a model that runs on it never mixes
them.
"""
from time import perf_counter
from types import SimpleNamespace

import numpy as np


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the device."""

    __cuda_array_interface__: dict = {}     # noqa: RUF012  (no more than a mark here)
    __array_priority__ = 100

    def __init__(self, host):
        self.host = host

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return to_device(getattr(ufunc, method)(*map(to_host, inputs), **{k: to_host(v) for k, v in options.items()}))

    def __array_function__(self, function, types, args, kwargs):
        kwargs.pop("like", None)
        return to_device(function(*map(to_host, args), **{k: to_host(v) for k, v in kwargs.items()}))

    def __getattr__(self, name):
        if name.startswith("__array"):
            raise AttributeError(name)              # or NumPy would read the device's memory as its own
        member = getattr(self.host, name)
        if callable(member):
            return lambda *args, **kwargs: to_device(member(*map(to_host, args), **kwargs))
        return to_device(member)

    def __getitem__(self, key):
        return to_device(self.host[to_host(key)])

    def __setitem__(self, key, value):
        self.host[to_host(key)] = to_host(value)

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        return map(to_device, self.host)

    def __bool__(self):
        return bool(self.host)

    def __int__(self):
        return int(self.host)

    __index__ = __int__

    def __float__(self):
        return float(self.host)


def to_host(value):
    """The NumPy array of a device array, also inside tuples and lists.  Raises TypeError for a NumPy array."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return type(value)(map(to_host, value)) if type(value) in (tuple, list) else value


def to_device(value):
    return ndarray(value) if isinstance(value, np.ndarray) else value


def asarray(a, dtype=None):
    return ndarray(np.asarray(a.host, dtype) if isinstance(a, ndarray) else np.array(a, dtype))


def asnumpy(a):
    return a.host.copy() if isinstance(a, ndarray) else np.asarray(a)


def ascontiguousarray(a, dtype=None):
    return ndarray(np.ascontiguousarray(asarray(a).host, dtype))


def empty(shape, dtype=np.float32):
    return ndarray(np.empty(shape, dtype))


def zeros(shape, dtype=np.float32):
    return ndarray(np.zeros(shape, dtype))


def arange(n):
    return ndarray(np.arange(n))


def stack(arrays):
    return ndarray(np.stack(list(map(to_host, arrays))))


class RawModule:
    """The kernels of a file, which holds PTX here instead of a cubin: see tests/kernels/test_cuda_driver.py."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.ptx = file.read()

    def get_function(self, name):
        return Function(self.ptx, name)


class Function:
    """A kernel, which the simulator runs."""

    max_dynamic_shared_size_bytes = 48 << 10

    def __init__(self, ptx, name):
        self.ptx, self.name = ptx, name

    def __call__(self, grid, block, arguments, *, shared_mem):
        from tinyscout.simulator import run
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        run(self.ptx, self.name, grid, block, shared_mem, list(map(to_host, arguments)))


class CUDADriverError(RuntimeError):
    pass


class CUDARuntimeError(RuntimeError):
    pass


class Event:
    """A time on the device, which is known when the host has waited for it, or for a later one."""

    time = None

    def record(self):
        self.time, self.waited = perf_counter(), False
        events.append(self)

    def synchronize(self):
        for event in events[:events.index(self) + 1]:
            event.waited = True


events: list = []


def get_elapsed_time(begin, end):
    """Milliseconds."""
    if begin.time is None or end.time is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    if not (begin.waited and end.waited):
        raise CUDARuntimeError("cudaErrorNotReady: device not ready")
    return 1e3 * (end.time - begin.time)


__version__ = "14.0.0"
cuda = SimpleNamespace(
    Device=lambda: SimpleNamespace(compute_capability="90", id=0),
    driver=SimpleNamespace(CUDADriverError=CUDADriverError), Event=Event, get_elapsed_time=get_elapsed_time,
    runtime=SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, memGetInfo=lambda: (1 << 30, 2 << 30),
        driverGetVersion=lambda: 13010, runtimeGetVersion=lambda: 13000,
        getDeviceProperties=lambda n: {"name": b"stand-in", "multiProcessorCount": 1, "totalGlobalMem": 2 << 30}),
    get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None))
