"""Measure tokens a second, beside transformers."""
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from rich.table import Table

from tinyscout.cli import above_zero, terminal
from tinyscout.model import BACKENDS

EXAMPLE = """\
examples:
  tinyscout bench                                     minutes, and 12 GB of memory
  tinyscout bench --quick --peer none                 seconds
  tinyscout bench --out run.json --plot run.png"""

QUICK = {"model_size": "small", "prefill": [32], "context": [32], "repeats": 2}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def arguments(sub):
    sub.add_argument("--model-size", choices=["mid", "small"], default="mid", help="0.9 or 0.007 billion parameters")
    sub.add_argument("--prefill", type=above_zero, nargs="+", default=[512, 2048], metavar="N", help="tokens to read")
    sub.add_argument("--context", type=above_zero, nargs="+", default=[512, 4096], metavar="N",
                     help="tokens already read when decoding begins")
    sub.add_argument("--repeats", type=above_zero, default=5, metavar="N", help="samples of each (%(default)s)")
    sub.add_argument("--backends", nargs="+", default=["numpy", "c"], choices=list(BACKENDS), help="of ours")
    sub.add_argument("--peer", choices=["transformers", "none"], default="transformers", help="whom to compare with")
    sub.add_argument("--threads", type=above_zero, metavar="N", help="for all of them; default: one per processor")
    sub.add_argument("--out", type=Path, metavar="FILE.json", help="write everything that was measured")
    sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it")
    sub.add_argument("--quick", action="store_true", help="a tiny model and few samples, to see that it works")


def run(args):
    if args.threads and any(os.environ.get(name) != str(args.threads) for name in THREADS):
        return again(args)
    for file in filter(None, (args.out, args.plot)):        # before the minutes, not after
        if not file.parent.is_dir():
            raise FileNotFoundError(f"{file.parent} is not a directory")
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        raise RuntimeError("--plot needs matplotlib: pip install matplotlib")
    from tinyscout.bench import measure, plot

    chosen = {**vars(args), **(QUICK if args.quick else {})}
    report = measure(chosen["model_size"], chosen["prefill"], chosen["context"], chosen["repeats"], args.backends,
                     args.peer != "none", args.threads)
    show(report, terminal())
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(report, args.plot)
    return 0


def again(args):
    """The same command in a new process: NumPy's BLAS asks for its number of threads once, when it is loaded."""
    words: list[str] = []
    for name, value in vars(args).items():
        if name != "run" and value not in (None, False):
            words += [f"--{name.replace('_', '-')}", *map(str, [] if value is True else value if isinstance(value, list)
                                                         else [value])]
    environment = {**os.environ, **dict.fromkeys(THREADS, str(args.threads))}
    return subprocess.call([sys.executable, "-m", "tinyscout", "bench", *words], env=environment)


def show(report, console):
    """The report as one reads it."""
    m, size = report["machine"], report["model"]
    console.print(f"{m['cpu']}, threads: {report['threads']}, NumPy {m['numpy']} with {m['blas']}")
    console.print(f"model {size['size']}: {size['parameters'] / 1e9:.3g} billion parameters, "
                  f"{size['active'] / 1e9:.3g} active, float32\n")
    console.print(speeds(report))
    console.print("\ntokens a second: median (slowest to fastest) and how many times the peer's median")
    for row in report["agreement"]:
        console.print(f"{row['what']} {row['at']}: {row['name']}'s scores are within {row['largest difference']:.1e} "
                      f"of {row['beside']}'s, the largest of which is {row['largest score']:.2g}")
    limit = report["limits"]
    console.print(f"NumPy reads {limit['read bytes per second'] / 1e9:.1f} GB/s and multiplies matrices at "
                  f"{limit['operations per second'] / 1e9:.0f} GFLOP/s here")
    for row in report["summary"]:
        if "of bandwidth" in row:
            console.print(f"{row['what']} {row['at']}: {row['name']} reads weights and cache at "
                          f"{row['of bandwidth']:.0%} of that")
    for note in report["notes"]:
        console.print(note)


def speeds(report):
    """A row for each contender, a column for each measurement."""
    rows = {(row["name"], row["what"], row["at"]): row for row in report["summary"]}
    columns = list(dict.fromkeys((what, at) for _, what, at in rows))
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    made.add_column("")
    for what, at in columns:
        made.add_column(f"{what} {at}", justify="right", no_wrap=True)
    for name in dict.fromkeys(name for name, *_ in rows):
        made.add_row(name, *(cell(rows[name, *column]) for column in columns))
    return made


def cell(row):
    times = f" [bold]{row['times peer']:.1f}x[/]" if "times peer" in row else ""
    middle, low, high = (f"{row[key]:,.0f}" if row[key] >= 100 else f"{row[key]:.3g}"
                         for key in ("median", "slowest", "fastest"))
    return f"{middle} [dim]({low} to {high})[/]{times}"
