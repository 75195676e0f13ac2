"""Run a CUDA kernel without a GPU, and count the memory accesses of each of its lines."""
import argparse
import re
from math import prod
from pathlib import Path

import numpy as np
from rich.text import Text

from tinyscout.cli import make_console
from tinyscout.cli._format import make_table
from tinyscout.kernels import nvrtc
from tinyscout.simulator import Fault, Profile
from tinyscout.simulator import run as simulate

EXAMPLE = """\
example:
  tinyscout profile csrc/cuda/norm.cu rms_norm --grid 4 --block 256 \\
      out=f32[4,1000] x=f32[4,1000] weight=f32[1000] eps=f32:1e-5 N=i32:4 D=i32:1000

Write the arguments in the kernel's order: NAME=TYPE[SIZES] for an array of random numbers, NAME=TYPE[SIZES]:VALUE for
an array filled with one value, NAME=TYPE:VALUE for a number.  An array called out is uninitialised."""

TYPES = {f"{letter}{bits}": np.dtype(f"{letter}{bits // 8}") for letter in "iu" for bits in (8, 16, 32, 64)}
TYPES |= {f"f{bits}": np.dtype(f"f{bits // 8}") for bits in (16, 32, 64)} | {"bf16": np.dtype("u2")}
ARGUMENT = re.compile(r"(\w+)=([a-z]+\d+)(\[[\d, ]+\])?(?::([-+.\w]+))?")


def add_arguments(sub):
    sub.intermixed = True
    sub.add_argument("file", metavar="KERNEL.cu", help="CUDA source file")
    sub.add_argument("name", metavar="NAME", help='a kernel in this file, declared extern "C" __global__')
    sub.add_argument("arguments", nargs="*", metavar="ARGUMENT", type=parse_argument,
                     help="an argument of the kernel, see below")
    sub.add_argument("--grid", type=parse_dims, default=(1,), metavar="X[,Y[,Z]]", help="blocks of the grid (1)")
    sub.add_argument("--block", type=parse_dims, default=(32,), metavar="X[,Y[,Z]]", help="threads per block (32)")
    sub.add_argument("--shared", type=int, default=0, metavar="BYTES",
                     help="dynamic shared memory per block (%(default)s)")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="random seed of the arrays (%(default)s)")


def parse_dims(text):
    """Parse 4,2 as (4, 2), for argparse."""
    if not re.fullmatch(r"\d+(,\d+){0,2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of one to three sizes such as 4 or 4,2")
    return tuple(int(size) for size in text.split(","))


def parse_argument(text):
    """Parse x=f32[4,1000]  ->  name, type, sizes or None, value or None, for argparse"""
    match = ARGUMENT.fullmatch(text)
    if not match or match[2] not in TYPES or (match[3] is None and match[4] is None):
        raise argparse.ArgumentTypeError(f"{text!r} is not an argument such as x=f32[4,1000], n=i64[4]:0 or "
                                         f"eps=f32:1e-5; types are {', '.join(TYPES)}")
    try:
        value = None if match[4] is None else float(match[4]) if "f" in match[2] else int(match[4], 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{match[4]!r} is not a valid {match[2]}") from None
    return match[1], match[2], match[3] and tuple(int(size) for size in match[3][1:-1].split(",")), value


def make_argument(rng, name, type_name, shape, value):
    """Make an argument of the kernel: an array or a NumPy scalar."""
    dtype = TYPES[type_name]
    if value is not None or name == "out":
        numbers = np.full(shape or (), 0 if value is None else value, np.float32 if type_name == "bf16" else dtype)
    else:
        numbers = rng.standard_normal(shape, np.float32) if "f" in type_name else rng.integers(0, 8, shape)
    numbers = (numbers.view(np.uint32) >> 16 if type_name == "bf16" else numbers).astype(dtype)
    return numbers if shape else numbers[()]


def run(args):
    rng, profile, console = np.random.default_rng(args.seed), Profile(), make_console()
    values = [make_argument(rng, *argument) for argument in args.arguments]
    unwritten = [n for n, (name, _, shape, value) in enumerate(args.arguments) if name == "out" and shape
                 and value is None]
    text = nvrtc.compile_ptx(args.file)
    try:
        simulate(text, args.name, args.grid, args.block, args.shared, values, unwritten=unwritten, profile=profile)
    except Fault as fault:
        console.print(Text(str(fault), "red"))
        return 1
    console.print(line_table(profile, Path(args.file)))
    registers, spilled = nvrtc.resource_usage(args.file, "sm_80")[args.name]
    console.print(f"\n{prod(args.grid):,} blocks of {prod(args.block):,} threads; on sm_80 {registers} registers "
                  f"per thread, {spilled} bytes spilled.")
    return 0


def line_table(profile, file):
    """One row for each executed line of the source, with the counts of its accesses and the minimum for each."""
    table = make_table("", "line", "warp instructions", "lanes", "requests", "sectors", "at best", "wavefronts",
                       "at best", "")
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", True
    for location, counts in sorted(profile.lines.items(), key=lambda item: (file_name(item[0]), line_number(item[0]))):
        name = file_name(location)
        source = next((path / name for path in nvrtc.include_dirs(file.resolve()) if (path / name).is_file()), None)
        text = source.read_text(encoding="utf-8").splitlines()[line_number(location) - 1].strip() if source else ""
        table.add_row(str(line_number(location)) if name == file.name else location, f"{counts.instructions:,}",
                      f"{counts.lanes / counts.instructions:.1f}", format_count(counts.requests),
                      *format_pair(counts.sectors, counts.ideal_sectors),
                      *format_pair(counts.wavefronts, counts.ideal_wavefronts), Text(text[:60]))
    return table


def file_name(location):
    """The file of a location: norm.cu of norm.cu:12."""
    return location.partition(":")[0]


def line_number(location):
    """The line of a location: 12 of norm.cu:12."""
    return int(location.rpartition(":")[2]) if location[-1].isdecimal() else 1


def format_count(n):
    return f"{n:,}" if n else ""


def format_pair(n, best):
    """Format a count and the minimum; the count is red if it is above the minimum."""
    return (Text(f"{n:,}", "red" if n > best else ""), f"{best:,}") if best else ("", "")
