"""Bad input for kernels: the result is the reference's own or a plain error, and never a crash.

Every operation that C replaces is called with its laws' inputs, spoilt in every way below.  This runs in a process of
its own, so that a crash is a failure of one test and not the end of them all: the operation named last has crashed.
"""
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import tinyscout
from tinyscout import laws, reference
from tinyscout.kernels import c
from tinyscout.laws import universal

INPUTS = {name: strategy for component in laws.COMPONENTS for name, strategy in component.INPUTS.items()}
REPLACED = [name for name in laws.replaced_names(c) if name in INPUTS]
PROCESSES = 4           # to start one takes as long as an operation's inputs
REFUSALS = (ValueError, TypeError, IndexError)       # IndexError: NumPy's own word for a mask of the wrong length


def misalign(a, offset):
    """The same numbers, `offset` bytes off their alignment."""
    raw = np.zeros(a.nbytes + offset, np.uint8)
    raw[offset:] = np.frombuffer(a.tobytes(), np.uint8)
    return np.frombuffer(raw.data, a.dtype, a.size, offset).reshape(a.shape)


def make_strided(a):
    """The same numbers as every other one of a larger array."""
    larger = np.zeros([2 * n for n in a.shape], a.dtype)
    every_other = tuple(slice(None, None, 2) for _ in a.shape)
    larger[every_other] = a
    return larger[every_other]


def store_backwards(a):
    """The same numbers, in memory from the last to the first."""
    reverse = tuple(slice(None, None, -1) for _ in a.shape)
    return np.ascontiguousarray(a[reverse])[reverse]


def make_read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {         # the same numbers, stored otherwise: the same result
    "unaligned": lambda a: misalign(a, 1), "off by two": lambda a: misalign(a, 2), "strided": make_strided,
    "backwards": store_backwards, "transposed": np.asfortranarray, "read only": make_read_only,
}
TYPES = ["float16", "float64", ">f4", "int32", "int64", "uint8", "bool", "complex64", "object", "U3"]
SHAPES = {          # another shape: the reference's result, or a refusal
    "shorter": lambda a: a[..., :-1], "longer": lambda a: np.concatenate([a, np.zeros_like(a[..., :1])], axis=-1),
    "fewer": lambda a: a[:-1], "one axis less": lambda a: a[0], "one axis more": lambda a: a[None],
    "flat": lambda a: a.reshape(-1), "no rows": lambda a: a[:0], "empty rows": lambda a: a[..., :0],
    "a number": lambda a: a.reshape(-1)[0], "None": lambda a: None, "a list": lambda a: a.tolist(),
}
SPECIAL_VALUES = [float("nan"), float("inf"), -float("inf")]


def call(f, args):
    """What f returns, or the error by which it refuses; any other error is raised."""
    try:
        return universal.as_tuple(f(*args))
    except (*REFUSALS, AttributeError) as error:         # AttributeError: a list has no shape
        return error


def spoil_each(args, change):
    """The arguments, once for each array among them, with that one changed."""
    for n, a in enumerate(args):
        if isinstance(a, np.ndarray) and a.ndim and a.size:
            yield (*args[:n], change(a), *args[n + 1:])


# A masked key with an infinite value gives 0 * inf = NaN.  The reference multiplies all keys, C skips most masked ones.
SKIPS_MASKED_KEYS = {"grouped_query_attention"}


def check_agreement(name, args):
    """C returns what the reference returns, NaN and infinities included; or both refuse; or C alone, with a message."""
    function = getattr(reference, name)
    actual, expected = call(getattr(c, name), args), call(function, args)
    if isinstance(actual, Exception):
        is_plain_error = isinstance(actual, ValueError | TypeError)
        assert isinstance(expected, Exception) or is_plain_error, f"{actual!r}, not {expected}"
        assert str(actual), f"{actual!r} has no message"
        return
    assert not isinstance(expected, Exception), f"{actual} for {expected!r}"
    for n, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        finite = np.isfinite(b) if np.asarray(b).dtype.kind == "f" else np.zeros(np.shape(b), bool)
        special, expected_special = np.asarray(a)[~finite], np.asarray(b)[~finite]
        if name in SKIPS_MASKED_KEYS:
            special = np.where(np.isnan(expected_special) & np.isinf(special), np.nan, special)
        np.testing.assert_array_equal(special, expected_special)
        if np.any(finite):
            truth = universal.compute_expected(lambda *args, n=n: np.asarray(universal.as_tuple(function(*args))[n]),
                                               *args)
            universal.assert_close(np.asarray(a)[finite], truth[finite])


def insert_value(a, value):
    """A copy in which every third number is that value, and the first row is nothing else."""
    a = a.copy()
    if a.dtype.kind == "f":
        a.reshape(-1)[::3] = value
        a[0] = value
    return a


def convert(a, dtype):
    return (a > 0 if dtype == "bool" else a).astype(dtype)


CHANGES = {
    **LAYOUTS,
    **SHAPES,
    **{f"as {dtype}": lambda a, dtype=dtype: convert(a, dtype) for dtype in TYPES},
    **{f"with {value}": lambda a, value=value: insert_value(a, value) for value in SPECIAL_VALUES},
}


def try_all(name, examples):
    """Every change of each argument of an operation, on a few drawn inputs."""
    @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))
    @given(INPUTS[name])
    def run(args):
        for change_name, change in CHANGES.items():
            for spoilt in spoil_each(args, change):
                try:
                    check_agreement(name, spoilt)
                except Exception as error:
                    error.add_note(f"{name}, {change_name}")
                    raise

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        run()


def try_each(names, examples):
    """try_all of several operations, each named before it is tried, so that a crash is that operation's."""
    for name in names:
        print(name, file=sys.stderr, flush=True)
        try_all(name, examples)


@pytest.mark.parametrize("names", [REPLACED[n::PROCESSES] for n in range(PROCESSES)], ids=" ".join)
def test_bad_input(names):
    command = [sys.executable, "-c", f"import test_bad_input; test_bad_input.try_each({names!r}, 8)"]
    folders = Path(__file__).parent, Path(tinyscout.__file__).parents[1]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("name", REPLACED)
def test_threads_do_not_matter(name):
    """One thread, two, and more than there are cores: within the tolerance of the laws."""
    case = next(case for case in laws.CASES if case.name == f"{name}: same as reference")
    before = c.set_threads(1)
    try:
        for threads in (1, 2, 5):
            c.set_threads(threads)
            laws.run_law(case, c, 10, seed=threads)
    finally:
        c.set_threads(before)
