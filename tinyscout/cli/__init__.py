"""The command `tinyscout`: one file per subcommand, and here what they share: arguments, errors, exit codes.

Exit codes: 0 done, 1 the answer is no (a law failed, a tensor or a GPU is missing), 2 bad input, 130 interrupted.
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

COMMANDS = ("demo", "generate", "chat", "tokenize", "info", "budget", "quantize", "train", "exam", "needle", "nll",
            "check", "profile", "bench")      # cli/<name>.py
BAD_INPUT = (ValueError, OSError, RuntimeError, MemoryError, ImportError, FloatingPointError)


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaint is one line.  intermixed: positional words may stand around the options."""

    intermixed = False

    def parse_known_args(self, args=None, namespace=None):
        if not self.intermixed:
            return super().parse_known_args(args, namespace)
        self.intermixed = False                 # it is made of several plain calls
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
        warnings.showwarning = lambda message, *where: print_error(f"warning: {message}")
        try:
            args = parser().parse_args(argv)
            code = args.run(args) or 0
            sys.stdout.flush()
            return code
        except SystemExit as stop:              # argparse: --help, --version, a wrong argument
            return stop.code
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:                 # the reader has seen enough: `tinyscout info scout | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141                          # as a program that SIGPIPE ends
        except BAD_INPUT as error:
            if os.environ.get("TINYSCOUT_DEBUG"):
                raise
            print_error(format_error(error))
            return 2


def parser():
    """The parser of the whole command."""
    top = Parser(prog="tinyscout", description="Llama 4 Scout as a small readable codebase.",
                 epilog="TINYSCOUT_DEBUG=1 shows where an error comes from.")
    top.add_argument("--version", action="version", version=f"tinyscout {tinyscout.__version__}")
    below = top.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"tinyscout.cli.{name}")
        sub = below.add_parser(name, help=command.__doc__, description=command.__doc__,
                               epilog=command.EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.arguments(sub)
        sub.set_defaults(run=command.run)
    return top


def model_arguments(sub):
    """The arguments of every subcommand that runs a model."""
    sub.add_argument("--model", metavar="DIR",
                     help="checkpoint directory in Hugging Face's layout (the small model in this package)")
    sub.add_argument("--backend", default="numpy", choices=list(BACKENDS), help="who computes (%(default)s)")
    sub.add_argument("--dtype", choices=["float32", "bfloat16", "float16"],
                     help="convert the weights first (default: as in the files); NumPy is fastest with float32")
    sub.add_argument("--kv", default="float32", choices=KV_DTYPES,
                     help="how keys and values are kept; int8 and int4 in the global layers only (%(default)s)")
    sub.add_argument("--max-tokens", type=positive_int, default=256, metavar="N", help="at most N tokens (%(default)s)")
    sub.add_argument("--temperature", type=float, default=0.6, metavar="T", help="0 is greedy (%(default)s)")
    sub.add_argument("--top-p", type=float, default=0.9, metavar="P", help="(%(default)s)")
    sub.add_argument("--top-k", type=int, metavar="K", help="draw only from the K likeliest tokens")
    sub.add_argument("--seed", type=int, metavar="S", help="the same seed gives the same text")
    sub.add_argument("--quiet", action="store_true", help="do not tell the speed at the end")


def load_model(args):
    """The model that the arguments name.  Raises FileNotFoundError or ValueError."""
    model = tinyscout.load(args.model, args.backend, args.dtype)
    if model.tokenizer is None:
        raise FileNotFoundError(f"{args.model} holds no tokenizer.json and no tokenizer.model")
    return model


def load_config_arg(name):
    """The config that a directory or one of the known names stands for  ->  ScoutConfig, the directory or None

    Raises FileNotFoundError or ValueError.
    """
    if name in CONFIGS:
        return CONFIGS[name], None
    directory = Path(name).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(f"{name} is neither a directory nor one of {', '.join(CONFIGS)}")
    return load_config(directory), directory


def sampling(args):
    """What the arguments say of how tokens are drawn and the past is kept, as `Model.generate` takes it."""
    return {"max_new_tokens": args.max_tokens, "temperature": args.temperature, "top_p": args.top_p,
            "top_k": args.top_k, "seed": args.seed, "kv": args.kv}


def positive_int(text):
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def read_text_arg(argument):
    """The argument itself, or all of the standard input where it is "-".  Raises ValueError for what is not text."""
    if argument != "-":
        return argument
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"the standard input is not UTF-8: {error}") from None


class Terminal(Console):
    """rich's console, which leaves a closed pipe to `main`."""

    def on_broken_pipe(self):
        raise BrokenPipeError


def make_console():
    """The console of the standard output; in a pipe without colours, and with room for every line."""
    return Terminal(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


def write_stdout(text):
    """Text to the standard output, at once.  A terminal is not given control characters: a model may say anything."""
    sys.stdout.write(text.translate(VISIBLE) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_error(message):
    """One line on stderr."""
    print("tinyscout:", " ".join(str(message).split()), file=sys.stderr, flush=True)


def format_error(error):
    """An error as one reads it."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


def set_encoding_errors():
    """A terminal that is not UTF-8 gets a question mark, not a crash."""
    for stream in sys.stdout, sys.stderr:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
