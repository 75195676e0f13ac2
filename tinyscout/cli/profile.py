"""Run a CUDA kernel without a GPU, and count what each of its lines does to memory."""
import argparse
import re
from math import prod
from pathlib import Path

import numpy as np
from rich.text import Text

from tinyscout.cli import make_console
from tinyscout.cli.info import make_table
from tinyscout.kernels import nvrtc
from tinyscout.simulator import Fault, Profile
from tinyscout.simulator import run as simulate

EXAMPLE = """\
example:
  tinyscout profile csrc/cuda/norm.cu rms_norm --grid 4 --block 256 \\
      out=f32[4,1000] x=f32[4,1000] weight=f32[1000] eps=f32:1e-5 N=i32:4 D=i32:1000

An argument is NAME=TYPE[SIZES] for an array of drawn numbers, NAME=TYPE[SIZES]:VALUE for one of equal numbers, or
NAME=TYPE:VALUE for a number; in the order of the kernel's.  An array called out is empty at first."""

TYPES = {f"{letter}{bits}": np.dtype(f"{letter}{bits // 8}") for letter in "iu" for bits in (8, 16, 32, 64)}
TYPES |= {f"f{bits}": np.dtype(f"f{bits // 8}") for bits in (16, 32, 64)} | {"bf16": np.dtype("u2")}
ARGUMENT = re.compile(r"(\w+)=([a-z]+\d+)(\[[\d, ]+\])?(?::([-+.\w]+))?")


def arguments(sub):
    sub.intermixed = True
    sub.add_argument("file", metavar="KERNEL.cu", help="a file of CUDA")
    sub.add_argument("name", metavar="NAME", help='the kernel in it, which is extern "C" __global__')
    sub.add_argument("arguments", nargs="*", metavar="ARGUMENT", type=argument,
                     help="what it is called with: see below")
    sub.add_argument("--grid", type=parse_dims, default=(1,), metavar="X[,Y[,Z]]", help="blocks (1)")
    sub.add_argument("--block", type=parse_dims, default=(32,), metavar="X[,Y[,Z]]", help="threads of a block (32)")
    sub.add_argument("--shared", type=int, default=0, metavar="BYTES", help="shared memory of the launch (%(default)s)")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of the drawn numbers (%(default)s)")


def parse_dims(text):
    """4,2 as (4, 2), for argparse."""
    if not re.fullmatch(r"\d+(,\d+){0,2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not one to three sizes such as 4 or 4,2")
    return tuple(int(size) for size in text.split(","))


def argument(text):
    """x=f32[4,1000] as name, type, sizes or None, value or None, for argparse."""
    found = ARGUMENT.fullmatch(text)
    if not found or found[2] not in TYPES or (found[3] is None and found[4] is None):
        raise argparse.ArgumentTypeError(f"{text!r} is no argument such as x=f32[4,1000], n=i64[4]:0 or eps=f32:1e-5; "
                                         f"types are {', '.join(TYPES)}")
    try:
        value = None if found[4] is None else float(found[4]) if "f" in found[2] else int(found[4], 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{found[4]!r} is no number of type {found[2]}") from None
    return found[1], found[2], found[3] and tuple(int(size) for size in found[3][1:-1].split(",")), value


def make_argument(name, kind, shape, value, rng):
    """The argument itself: an array or a NumPy scalar."""
    dtype = TYPES[kind]
    if value is not None or name == "out":
        numbers = np.full(shape or (), 0 if value is None else value, np.float32 if kind == "bf16" else dtype)
    else:
        numbers = rng.standard_normal(shape, np.float32) if "f" in kind else rng.integers(0, 8, shape)
    numbers = (numbers.view(np.uint32) >> 16).astype(dtype) if kind == "bf16" else numbers.astype(dtype)
    return numbers if shape else numbers[()]


def run(args):
    rng, counted, console = np.random.default_rng(args.seed), Profile(), make_console()
    values = [make_argument(name, kind, shape, value, rng) for name, kind, shape, value in args.arguments]
    empty = [n for n, (name, _, shape, value) in enumerate(args.arguments) if name == "out" and shape and value is None]
    text = nvrtc.ptx(args.file)
    try:
        simulate(text, args.name, args.grid, args.block, args.shared, values, unwritten=empty, profile=counted)
    except Fault as fault:
        console.print(Text(str(fault), "red"))
        return 1
    console.print(lines(counted, Path(args.file)))
    registers, spilled = nvrtc.resource_usage(args.file, "sm_80")[args.name]
    console.print(f"\n{prod(args.grid):,} blocks of {prod(args.block):,} threads; on sm_80 {registers} registers a "
                  f"thread, {spilled} bytes spilled.")
    return 0


def lines(counted, file):
    """One row for each line of the source that does anything, and what it would take at best."""
    shown = make_table("", "line", "instructions of a warp", "lanes", "requests", "sectors", "at best", "wavefronts",
                       "at best", "")
    shown.columns[-1].justify, shown.columns[-1].no_wrap = "left", True
    for place, counts in sorted(counted.lines.items(), key=lambda item: (item[0].partition(":")[0], number(item[0]))):
        name = place.partition(":")[0]
        source = next((path / name for path in nvrtc.includes(file.resolve()) if (path / name).is_file()), None)
        text = source.read_text(encoding="utf-8").splitlines()[number(place) - 1].strip() if source else ""
        shown.add_row(str(number(place)) if name == file.name else place, f"{counts.instructions:,}",
                      f"{counts.lanes / counts.instructions:.1f}", count(counts.requests),
                      *ratio(counts.sectors, counts.ideal_sectors), *ratio(counts.wavefronts, counts.ideal_wavefronts),
                      Text(text[:60]))
    return shown


def number(place):
    return int(place.rpartition(":")[2]) if place[-1].isdecimal() else 1


def count(n):
    return f"{n:,}" if n else ""


def ratio(n, best):
    """What was counted, red where it is more than the best, and the best."""
    return (Text(f"{n:,}", "red" if n > best else ""), f"{best:,}") if best else ("", "")
