"""The compiled kernels, in the widest build that this processor supports."""
import importlib
import os
from types import SimpleNamespace

# OpenMP's idle threads spin by default.  The threads of NumPy's BLAS then wait for a core: on two cores, 10 ms a call.
# OpenMP reads the variable when the extension is first loaded, so it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Let them spin for a fraction of a millisecond: the next product of a token follows that soon.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

LEVELS = ("_c", "_c_v3", "_c_v4")        # as csrc/c/cpu_level.c counts them


def load_widest(level=None):
    """Import the extension module of the highest level that is built and runs here, or of the requested level.

    level one of LEVELS or None  ->  module with ffi and lib.  Raises ImportError.
    """
    base = importlib.import_module("tinyscout._c")
    if level not in (None, *LEVELS[:base.lib.cpu_level() + 1]):
        raise ImportError(f"{level} does not run on this processor: choose from {LEVELS[:base.lib.cpu_level() + 1]}")
    for name in [level] if level else LEVELS[base.lib.cpu_level():0:-1]:
        try:
            return importlib.import_module(f"tinyscout.{name}")
        except ImportError:
            if level:
                raise
    return base


# The kernels that allocate memory.  tests/kernels/test_memory_error.py detects one that is missing here.
ALLOCATING = {"grouped_query_attention", "grouped_query_attention_1", "grouped_query_attention_backward", "linear",
              "linear_backward", "router", "router_backward", "load_balance", "load_balance_backward", "experts",
              "experts_backward", "rms_norm_backward", "layer_norm_backward", "muon_step", "top_p", "sample"}


def add_memory_check(kernel, allocation_failed):
    """Wrap a kernel to raise MemoryError if an allocation failed: its result is undefined then."""
    def call_kernel(*arguments):
        kernel(*arguments)
        if allocation_failed():
            raise MemoryError(f"{kernel.__name__}: out of memory for its temporary arrays")
    return call_kernel


def add_memory_checks(lib):
    """The functions and constants of an extension module; those functions that allocate raise MemoryError."""
    members = {name: getattr(lib, name) for name in dir(lib)}
    members |= {name: add_memory_check(members[name], lib.allocation_failed) for name in ALLOCATING}
    return SimpleNamespace(**members)


module = load_widest(os.environ.get("TINYSCOUT_C"))
ffi, lib = module.ffi, add_memory_checks(module.lib)
