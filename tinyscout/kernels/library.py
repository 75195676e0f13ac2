"""The compiled kernels, in the widest build that this processor runs."""
import importlib
import os

# OpenMP's idle threads spin by default.  NumPy's BLAS has threads of its own, which then wait for a core: on two
# cores that costs 10 ms a call.  Read when the extension is first loaded, so it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# But a fraction of a millisecond they may: a token's next product is not far.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

LEVELS = ("_c", "_c_v3", "_c_v4")        # as csrc/c/level.c counts them


def load_widest(wanted=None):
    """The extension module of the highest level that is built and runs here, or of the level that is asked for.

    wanted one of LEVELS or None  ->  module with ffi and lib.  Raises ImportError.
    """
    base = importlib.import_module("tinyscout._c")
    if wanted not in (None, *LEVELS[:base.lib.level() + 1]):
        raise ImportError(f"{wanted} does not run on this processor: choose from {LEVELS[:base.lib.level() + 1]}")
    for name in [wanted] if wanted else LEVELS[base.lib.level():0:-1]:
        try:
            return importlib.import_module(f"tinyscout.{name}")
        except ImportError:
            if wanted:
                raise
    return base


module = load_widest(os.environ.get("TINYSCOUT_C"))
ffi, lib = module.ffi, module.lib
