"""Measure tokens a second, training and single operations, beside transformers and llama.cpp; or a GPU's kernels."""
import datetime
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import tinyscout
from tinyscout.cli import make_console, positive_int, print_error
from tinyscout.model import BACKENDS

EXAMPLE = """\
examples:
  tinyscout bench                                     many minutes, 16 GB of memory and 4 GB of disk
  tinyscout bench --models --groups int8 int4         whole models, quantized
  tinyscout bench --operations                        each operation beside the machine's limits
  tinyscout bench --training                          steps of training, beside PyTorch
  tinyscout bench --backend cuda --plot run.png       each CUDA kernel on this machine's GPU
  tinyscout bench --quick --peers none                seconds
  tinyscout bench --out run.json --plot run.png"""

QUICK = {"model_size": "small", "prefill": [32], "context": [32], "repeats": 2, "megabytes": 0.1}
GROUPS = ("float32", "bfloat16", "int8", "int4")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def add_arguments(sub):
    parts = sub.add_argument_group("what to measure (default: models and operations)")
    parts.add_argument("--models", action="store_true", help="whole models: reading a prompt and writing tokens")
    parts.add_argument("--operations", action="store_true",
                       help="single operations at Scout's sizes; with --backends cuda on a GPU")
    parts.add_argument("--training", action="store_true", help="steps of training scout-mini's text model")
    parts.add_argument("--tokenizer", action="store_true", help="cutting text into tokens")
    sub.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS,
                     help="forms of the weights; each is compared among its own")
    sub.add_argument("--model-size", choices=["mid", "small"], default="mid", help="0.9 or 0.007 billion parameters")
    sub.add_argument("--prefill", type=positive_int, nargs="+", default=[512, 2048], metavar="N", help="tokens to read")
    sub.add_argument("--context", type=positive_int, nargs="+", default=[512, 4096], metavar="N",
                     help="tokens already read when decoding begins")
    sub.add_argument("--repeats", type=positive_int, default=5, metavar="N", help="samples of each (%(default)s)")
    sub.add_argument("--backends", "--backend", nargs="+", default=["numpy", "c"], choices=list(BACKENDS),
                     help="of ours (numpy c); cuda alone measures each of its kernels on this machine's GPU")
    sub.add_argument("--peers", nargs="+", default=["transformers", "llama.cpp"],
                     choices=["transformers", "llama.cpp", "none"], help="whom to compare with")
    sub.add_argument("--threads", type=positive_int, metavar="N", help="for all of them; default: one per processor")
    sub.add_argument("--megabytes", type=float, default=4, metavar="N", help="of text for the tokenizer (%(default)s)")
    sub.add_argument("--gguf-dir", type=Path, metavar="DIR",
                     help="where llama.cpp's files stand while they are used; default: the usual temporary directory")
    sub.add_argument("--out", type=Path, metavar="FILE.json", help="write everything that was measured")
    sub.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the models' figures, or the GPU's")
    sub.add_argument("--quick", action="store_true", help="a tiny model and few samples, to see that it works")


def run(args):
    if args.threads and any(os.environ.get(name) != str(args.threads) for name in THREADS):
        return rerun_in_subprocess(args)
    check_arguments(args)
    if "cuda" in selected_parts(args) and no_gpu():
        print_error(f"no GPU here: {no_gpu()}; `tinyscout profile` counts what a kernel does without one")
        return 1
    from tinyscout.bench.machine import cpu_count, describe_machine, elementwise_best, git_commit, measure_roofline

    args.threads = args.threads or cpu_count()
    chosen = {**vars(args), **(QUICK if args.quick else {})}
    report = {"tinyscout": tinyscout.__version__, "date": datetime.datetime.now().isoformat(timespec="seconds"),
              "commit": git_commit(), "machine": describe_machine(), "threads": args.threads}
    host = selected_parts(args) != ["cuda"]
    if host:
        report["limits"] = measure_roofline(args.threads)
    found = {name: part(chosen) for name, part in PARTS.items() if name in selected_parts(args)}
    console = make_console()
    if host:
        report["limits"] = elementwise_best(report["limits"],
                                            measure_roofline(args.threads))   # a quiet moment may come only now
        show_machine(report, console)
    for name, result in found.items():
        part = importlib.import_module(f"tinyscout.bench.{name}")
        if "summary" not in result and hasattr(part, "summary"):
            result["summary"] = part.summary(result, report["limits"])
        report[name] = result
        part.show(result, console)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        from tinyscout.bench.plot import plot, plot_card
        if "models" in report:
            plot(report["models"], args.plot)
        else:
            plot_card(report["cuda"], args.plot)
    return 0


def selected_parts(args):
    """The parts that were asked for; single operations of CUDA are a part of their own."""
    parts = [name for name in ("models", "operations", "training", "tokenizer") if getattr(args, name)]
    others = [name for name in args.backends if name != "cuda"]
    if not parts:
        parts = ["models", "operations"] if others else ["operations"]
    if "operations" in parts and "cuda" in args.backends:
        parts.append("cuda")
    return [name for name in PARTS if name in parts and (others or name != "operations")]


def no_gpu():
    """Why none can be used, or None."""
    from tinyscout.kernels import device  # which takes its time to look for one
    if device.cupy is not None:
        return None
    if os.environ.get("TINYSCOUT_CUDA") == "simulator":
        return "TINYSCOUT_CUDA says simulator"
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is missing (pip install 'tinyscout[cuda,cuda13]')"
    return "CuPy sees none"


def check_arguments(args):
    """What cannot come to a good end is said before the minutes, not after."""
    for file in filter(None, (args.out, args.plot)):
        if not file.parent.is_dir():
            raise FileNotFoundError(f"{file.parent} is not a directory")
    if args.gguf_dir and not args.gguf_dir.is_dir():
        raise FileNotFoundError(f"{args.gguf_dir} is not a directory")
    if args.plot and not {"models", "cuda"} & set(selected_parts(args)):
        raise ValueError("--plot draws the models' figures or a GPU's: ask for --models too")
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        raise RuntimeError("--plot needs matplotlib: pip install matplotlib")


def models(chosen):
    from tinyscout.bench.models import measure
    return measure(chosen["model_size"], chosen["prefill"], chosen["context"], chosen["repeats"], chosen["groups"],
                   chosen["backends"], chosen["peers"], chosen["threads"], chosen["gguf_dir"])


def operations(chosen):
    from tinyscout.bench.operations import SCOUT, TINY, measure
    backends = [name for name in chosen["backends"] if name != "cuda"]
    return measure(TINY if chosen["quick"] else SCOUT, backends, chosen["repeats"], chosen["groups"])


def cuda(chosen):
    from tinyscout.bench.cuda import SCOUT, TINY, measure
    return measure(TINY if chosen["quick"] else SCOUT, chosen["repeats"], chosen["groups"])


def training(chosen):
    from tinyscout.bench.training import measure
    backends = [name for name in chosen["backends"] if name != "cuda"]
    return measure("small" if chosen["quick"] else "scout-mini", chosen["repeats"], backends, chosen["peers"],
                   chosen["threads"])


def tokenizer(chosen):
    from tinyscout.bench.tokenizer import measure
    return measure(chosen["megabytes"], chosen["repeats"], chosen["peers"] != ["none"])


PARTS = {"models": models, "operations": operations, "cuda": cuda, "training": training,
         "tokenizer": tokenizer}


def rerun_in_subprocess(args):
    """The same command in a new process: NumPy's BLAS asks for its number of threads once, when it is loaded."""
    words: list[str] = []
    for name, value in vars(args).items():
        if name != "run" and value not in (None, False):
            words += [f"--{name.replace('_', '-')}", *map(str, [] if value is True else value if isinstance(value, list)
                                                          else [value])]
    environment = {**os.environ, **dict.fromkeys(THREADS, str(args.threads))}
    return subprocess.call([sys.executable, "-m", "tinyscout", "bench", *words], env=environment)


def show_machine(report, console):
    m, limit = report["machine"], report["limits"]
    tried = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in limit["reading, tried as"].items())
    console.print(f"{m['cpu']}, threads: {report['threads']}, NumPy {m['numpy']} with {m['blas']}")
    console.print(f"reads {limit['read bytes per second'] / 1e9:.1f} GB/s ({tried}), "
                  f"multiplies float32 matrices at {limit['operations per second'] / 1e9:.0f} GFLOP/s")
