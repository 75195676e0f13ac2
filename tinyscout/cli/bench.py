"""Measure generation, training and single operations, compared with transformers and llama.cpp; or a GPU's kernels."""
import datetime
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import tinyscout
from tinyscout.bench.engines import EXTERNAL_ENGINES
from tinyscout.bench.sizes import WEIGHT_DTYPES
from tinyscout.cli import make_console, positive_int, print_error
from tinyscout.model import BACKENDS

EXAMPLE = """\
examples:
  tinyscout bench                                     takes many minutes, 16 GB of memory and 4 GB of disk
  tinyscout bench --models --groups int8 int4         whole models, quantized
  tinyscout bench --operations                        each operation against the limits of the machine
  tinyscout bench --training                          training steps, compared with PyTorch
  tinyscout bench --backend cuda --plot run.png       each CUDA kernel on this machine's GPU
  tinyscout bench --quick --compare none              takes seconds
  tinyscout bench --out run.json --plot run.png"""

QUICK = {"model_size": "small", "prompt_tokens": [32], "context": [32], "repeats": 2, "megabytes": 0.1}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def add_arguments(sub):
    group = sub.add_argument_group("what to measure (default: models and operations)")
    group.add_argument("--models", action="store_true", help="whole models: prefill and decode")
    group.add_argument("--operations", action="store_true",
                       help="single operations at Scout's sizes; on a GPU with --backends cuda")
    group.add_argument("--training", action="store_true", help="training steps of scout-mini's text model")
    group.add_argument("--tokenizer", action="store_true", help="encoding and decoding text")
    sub.add_argument("--groups", nargs="+", default=list(WEIGHT_DTYPES), choices=WEIGHT_DTYPES,
                     help="dtypes of the weights to measure; engines are compared within one dtype")
    sub.add_argument("--model-size", choices=["mid", "small"], default="mid",
                     help="0.9 or 0.007 billion parameters (%(default)s)")
    sub.add_argument("--prompt-tokens", type=positive_int, nargs="+", default=[512, 2048], metavar="N",
                     help="lengths of the prompts whose prefill is measured (512 2048)")
    sub.add_argument("--context", type=positive_int, nargs="+", default=[512, 4096], metavar="N",
                     help="numbers of tokens in the cache when decoding begins (512 4096)")
    sub.add_argument("--repeats", type=positive_int, default=5, metavar="N",
                     help="samples of each measurement (%(default)s)")
    sub.add_argument("--backends", "--backend", nargs="+", default=["numpy", "c"], choices=list(BACKENDS),
                     help="tinyscout backends to measure (numpy c); with cuda alone, every CUDA kernel is measured on "
                     "this machine's GPU")
    sub.add_argument("--compare", nargs="+", default=list(EXTERNAL_ENGINES), choices=[*EXTERNAL_ENGINES, "none"],
                     help="other engines to compare with (default: both)")
    sub.add_argument("--threads", type=positive_int, metavar="N",
                     help="threads of every engine (default: one per processor)")
    sub.add_argument("--megabytes", type=float, default=4, metavar="N",
                     help="megabytes of text for the tokenizer (%(default)s)")
    sub.add_argument("--gguf-dir", type=Path, metavar="DIR",
                     help="directory for the temporary GGUF files (default: the system's temporary directory)")
    sub.add_argument("--out", type=Path, metavar="FILE.json", help="write all measurements to this file")
    sub.add_argument("--plot", type=Path, metavar="FILE.png", help="plot the results of the models, or of the GPU")
    sub.add_argument("--quick", action="store_true", help="use a tiny model and few samples, as a check that it runs")


def run(args):
    if args.threads and any(os.environ.get(name) != str(args.threads) for name in THREAD_VARIABLES):
        return rerun_in_subprocess(args)
    check_arguments(args)
    if "cuda" in selected_parts(args) and (reason := missing_gpu_reason()):
        print_error(f"no GPU here: {reason}; `tinyscout profile` counts the memory accesses of a kernel "
                    "without one")
        return 1
    from tinyscout.bench.machine import cpu_count, describe_machine, elementwise_best, git_commit, measure_roofline

    args.threads = args.threads or cpu_count()
    options = {**vars(args), **(QUICK if args.quick else {})}
    report = {"tinyscout": tinyscout.__version__, "date": datetime.datetime.now().isoformat(timespec="seconds"),
              "commit": git_commit(), "machine": describe_machine(), "threads": args.threads}
    uses_cpu = selected_parts(args) != ["cuda"]
    if uses_cpu:
        report["limits"] = measure_roofline(args.threads)
    results = {name: measure(options) for name, measure in PARTS.items() if name in selected_parts(args)}
    console = make_console()
    if uses_cpu:                                            # again: the machine may have been disturbed the first time
        report["limits"] = elementwise_best(report["limits"], measure_roofline(args.threads))
        show_machine(report, console)
    for name, result in results.items():
        part = importlib.import_module(f"tinyscout.bench.{name}")
        if "summary" not in result and hasattr(part, "summary"):
            result["summary"] = part.summary(result, report["limits"])
        report[name] = result
        part.show(result, console)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        from tinyscout.bench.plot import plot_gpu, plot_models
        if "models" in report:
            plot_models(report["models"], args.plot)
        else:
            plot_gpu(report["cuda"], args.plot)
    return 0


def selected_parts(args):
    """The requested parts.  The single operations of CUDA are a separate part."""
    parts = [name for name in ("models", "operations", "training", "tokenizer") if getattr(args, name)]
    cpu_backends = [name for name in args.backends if name != "cuda"]
    if not parts:
        parts = ["models", "operations"] if cpu_backends else ["operations"]
    if "operations" in parts and "cuda" in args.backends:
        parts.append("cuda")
    return [name for name in PARTS if name in parts and (cpu_backends or name != "operations")]


def missing_gpu_reason():
    """The reason why no GPU can be used, or None if one can."""
    from tinyscout.kernels import device  # here, because this import looks for a GPU, which takes time
    if device.cupy is not None:
        return None
    if os.environ.get("TINYSCOUT_CUDA") == "simulator":
        return "TINYSCOUT_CUDA is set to simulator"
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is missing (run pip install '.[cuda,cuda13]' in the checkout)"
    return "CuPy does not find one"


def check_arguments(args):
    """Reject arguments that would make the benchmark fail after minutes of work."""
    for file in filter(None, (args.out, args.plot)):
        if not file.parent.is_dir():
            raise FileNotFoundError(f"{file.parent} is not a directory")
    if args.gguf_dir and not args.gguf_dir.is_dir():
        raise FileNotFoundError(f"{args.gguf_dir} is not a directory")
    if args.plot and not {"models", "cuda"} & set(selected_parts(args)):
        raise ValueError("--plot plots the results of models or of a GPU: add --models")
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        raise RuntimeError("--plot needs matplotlib: pip install matplotlib")


def measure_models(options):
    from tinyscout.bench.models import measure
    names = ("prompt_tokens", "context", "repeats", "groups", "backends", "compare", "threads", "gguf_dir")
    return measure(options["model_size"], **{name: options[name] for name in names})


def measure_operations(options):
    from tinyscout.bench.operations import SCOUT, TINY, measure
    backends = [name for name in options["backends"] if name != "cuda"]
    return measure(TINY if options["quick"] else SCOUT, backends, options["repeats"], options["groups"])


def measure_cuda(options):
    from tinyscout.bench.cuda import SCOUT, TINY, measure
    return measure(TINY if options["quick"] else SCOUT, options["repeats"], options["groups"])


def measure_training(options):
    from tinyscout.bench.training import measure
    backends = [name for name in options["backends"] if name != "cuda"]
    return measure("small" if options["quick"] else "scout-mini", options["repeats"], backends, options["compare"],
                   options["threads"])


def measure_tokenizer(options):
    from tinyscout.bench.tokenizer import measure
    return measure(options["megabytes"], options["repeats"], options["compare"] != ["none"])


PARTS = {"models": measure_models, "operations": measure_operations, "cuda": measure_cuda,
         "training": measure_training, "tokenizer": measure_tokenizer}


def rerun_in_subprocess(args):
    """Run the same command in a new process, since NumPy's BLAS reads the number of threads only when it is loaded."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(args.threads))}
    return subprocess.call([sys.executable, "-m", "tinyscout", *args.argv], env=environment)


def show_machine(report, console):
    machine, limits = report["machine"], report["limits"]
    tried = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in limits["reading, tried as"].items())
    console.print(f"{machine['cpu']}, threads: {report['threads']}, NumPy {machine['numpy']} with {machine['blas']}")
    console.print(f"reads {limits['read bytes per second'] / 1e9:.1f} GB/s ({tried}), "
                  f"multiplies float32 matrices at {limits['operations per second'] / 1e9:.0f} GFLOP/s")
