"""The command `tinyscout`: one file per subcommand; shared arguments, error handling and exit codes are here.

Exit codes: 0 done, 1 negative result (a law failed, a tensor or a GPU is missing), 2 bad input, 130 interrupted.
"""
import argparse
import importlib
import os
import sys
import warnings
from pathlib import Path

from rich.console import Console

import tinyscout
from tinyscout.checkpoint import load_config
from tinyscout.config import CONFIGS
from tinyscout.model import BACKENDS
from tinyscout.nn.cache import KV_DTYPES

COMMANDS = ("demo", "generate", "chat", "tokenize", "info", "budget", "quantize", "train", "eval", "needle", "nll",
            "check", "profile", "bench", "docs")      # cli/<name>.py
BAD_INPUT = (ValueError, OSError, RuntimeError, MemoryError, ImportError, FloatingPointError)


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports errors in one line.  intermixed: options may follow positional arguments."""

    intermixed = False

    def parse_known_args(self, args=None, namespace=None):
        if not self.intermixed:
            return super().parse_known_args(args, namespace)
        self.intermixed = False                 # parse_known_intermixed_args calls this method again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.intermixed = True

    def error(self, message):
        self.exit(2, f"tinyscout: {message} (see {self.prog} --help)\n")


def main(argv=None):
    """Run the command.  argv list of str, or None for the process's own  ->  exit code"""
    set_encoding_errors()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *rest: print_error(f"warning: {message}")
        try:
            argv = sys.argv[1:] if argv is None else argv
            args = make_parser().parse_args(argv, argparse.Namespace(argv=argv))
            code = args.run(args) or 0
            sys.stdout.flush()
            return code
        except SystemExit as exit_request:      # argparse: --help, --version, a wrong argument
            return exit_request.code
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:                 # the reader closed the pipe: `tinyscout info scout | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141                          # the code of a program that SIGPIPE ends
        except BAD_INPUT as error:
            if os.environ.get("TINYSCOUT_DEBUG"):
                raise
            print_error(format_error(error))
            return 2


def make_parser():
    """Make the parser of the whole command, with every subcommand."""
    top = Parser(prog="tinyscout", description="Llama 4 Scout as a small readable codebase.",
                 epilog="Set TINYSCOUT_DEBUG=1 to get the traceback of an error.")
    top.add_argument("--version", action="version", version=f"tinyscout {tinyscout.__version__}")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"tinyscout.cli.{name}")
        sub = subparsers.add_parser(name, help=command.__doc__, description=command.__doc__,
                                    epilog=command.EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return top


def add_backend_argument(sub):
    """Add the argument of every subcommand that computes on a chosen backend."""
    sub.add_argument("--backend", default="numpy", choices=list(BACKENDS), help="backend to run on (%(default)s)")


def add_model_arguments(sub, default=None):
    """Add the arguments of every subcommand that runs a model: which one, and on which backend."""
    sub.add_argument("--model", default=default, metavar="DIR",
                     help="checkpoint directory in Hugging Face's layout (default: the small model in this package)")
    add_backend_argument(sub)


def add_generation_arguments(sub):
    """Add the arguments of every subcommand that generates text."""
    add_model_arguments(sub)
    sub.add_argument("--dtype", choices=["float32", "bfloat16", "float16"],
                     help="dtype to convert the weights to (default: that of the files); NumPy is fastest with float32")
    sub.add_argument("--kv-dtype", default="float32", choices=KV_DTYPES,
                     help="dtype of the KV cache; int8 and int4 apply to the global layers only (%(default)s)")
    sub.add_argument("--max-tokens", type=positive_int, default=256, metavar="N",
                     help="generate at most N tokens (%(default)s)")
    sub.add_argument("--temperature", type=float, default=0.6, metavar="T",
                     help="sampling temperature; 0 is greedy (%(default)s)")
    sub.add_argument("--top-p", type=float, default=0.9, metavar="P",
                     help="sample from the most likely tokens whose probabilities add up to P (%(default)s)")
    sub.add_argument("--top-k", type=int, metavar="K", help="sample from the K most likely tokens only")
    sub.add_argument("--seed", type=int, metavar="S", help="random seed; the same seed gives the same text")
    sub.add_argument("--quiet", action="store_true", help="do not print the speed at the end")


def load_model(args, dtype=None):
    """Load --model on --backend, with weights in `dtype`.  Raises FileNotFoundError or ValueError."""
    model = tinyscout.load(args.model, args.backend, dtype)
    if model.tokenizer is None:
        raise FileNotFoundError(f"{args.model} contains neither tokenizer.json nor tokenizer.model")
    return model


def load_config_arg(name):
    """Load the config of a checkpoint directory or of a known model  ->  ScoutConfig, the directory or None

    Raises FileNotFoundError or ValueError.
    """
    if name in CONFIGS:
        return CONFIGS[name], None
    directory = Path(name).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(f"{name} is neither a directory nor one of {', '.join(CONFIGS)}")
    return load_config(directory), directory


def sampling_options(args):
    """The options of `Model.generate` from the arguments: sampling, and the dtype of the cache."""
    return {"max_new_tokens": args.max_tokens, "temperature": args.temperature, "top_p": args.top_p,
            "top_k": args.top_k, "seed": args.seed, "kv_dtype": args.kv_dtype}


def positive_int(text):
    """Parse a whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def read_text_arg(argument):
    """Return the argument, or all of the standard input if it is "-".  Raises ValueError if that is not UTF-8."""
    if argument != "-":
        return argument
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"the standard input is not UTF-8: {error}") from None


class Terminal(Console):
    """rich's console, except that `main` handles a closed pipe."""

    def on_broken_pipe(self):
        raise BrokenPipeError


def make_console():
    """Make the console of the standard output.  In a pipe, it drops colours and does not wrap lines at 80 columns."""
    return Terminal(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


CONTROL_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


def write_stdout(text):
    """Write text to the standard output immediately.  On a terminal, show control characters as symbols."""
    sys.stdout.write(text.translate(CONTROL_PICTURES) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_error(message):
    """Print a message as one line on stderr."""
    print("tinyscout:", " ".join(str(message).split()), file=sys.stderr, flush=True)


def format_error(error):
    """Format an error as one line for the user."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


def set_encoding_errors():
    """Make output write a question mark for characters that the terminal's encoding lacks, instead of failing."""
    for stream in sys.stdout, sys.stderr:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
