"""Check your own kernels against the laws that the kernels of this package obey."""
import importlib.util
import sys
import warnings
from pathlib import Path

from rich.text import Text

from tinyscout import reference
from tinyscout.cli import make_console, positive_int
from tinyscout.model import BACKENDS, get_backend

EXAMPLE = """\
example: a file mine.py with these lines

  from tinyscout.reference import *
  def swiglu(gate, up):
      return gate * sigmoid(gate) * up

is checked by: tinyscout check mine.py"""

MAX_LINES, MAX_WIDTH = 12, 150      # of a law's message


def add_arguments(sub):
    target = sub.add_mutually_exclusive_group(required=True)
    target.add_argument("module", nargs="?", metavar="MODULE.py",
                        help="a module that replaces some functions of tinyscout.reference")
    target.add_argument("--backend", choices=[name for name in BACKENDS if name != "numpy"],
                        help="check a backend of this package instead")
    sub.add_argument("--only", action="append", metavar="NAME",
                     help="check only this operation (repeatable; default: all that differ from the reference's)")
    sub.add_argument("--examples", type=positive_int, default=100, metavar="N",
                     help="random inputs per law (%(default)s)")


def run(args):
    try:
        from tinyscout.laws import check
    except ImportError as error:
        raise RuntimeError(f"the laws need hypothesis ({error}): run pip install '.[test]' in the checkout") from None
    if unknown := set(args.only or ()) - set(reference.__all__):
        raise ValueError(f"unknown operation {', '.join(sorted(unknown))}: choose from {', '.join(reference.__all__)}")
    warnings.simplefilter("ignore")     # Hypothesis warns about inputs that are too long to print
    console, n_broken, n_held = make_console(), 0, 0
    ops = get_backend(args.backend) if args.backend else load_module(args.module)
    for name, message in check(ops, args.only, args.examples):
        console.print(Text.assemble(("✓ holds ", "green"), name) if message is None else
                      Text.assemble(("✗ broken ", "red"), (name, "bold"), "\n", truncate_message(message)))
        n_broken, n_held = n_broken + (message is not None), n_held + (message is None)
    if not n_broken + n_held:
        raise ValueError(f"{args.module} replaces no operation of tinyscout.reference, so there is nothing to check")
    console.print(f"{n_held} law{'s hold' if n_held != 1 else ' holds'}, {n_broken} "
                  f"{'are' if n_broken != 1 else 'is'} broken.")
    return 1 if n_broken else 0


def load_module(path):
    """Import a file as a module; it may import other files of its directory.  Raises OSError, ValueError."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python module: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:          # a user's file may raise anything
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return module


def truncate_message(message):
    """Indent a law's message, and cut off long lines and long inputs."""
    lines = [f"    {line[:MAX_WIDTH]}{'…' * (len(line) > MAX_WIDTH)}" for line in message.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"    … and {len(lines) - MAX_LINES:,} more lines"]
    return "\n".join(lines)
