"""Open the book in a browser; build it first if it is absent or older than its sources."""
import importlib.util
import os
import subprocess
import sys
import webbrowser
from pathlib import Path

import tinyscout
from tinyscout.cli import print_error

EXAMPLE = """\
examples:
  tinyscout docs
  tinyscout docs --build
  tinyscout docs --print-path"""

ROOT = Path(tinyscout.__file__).resolve().parents[1]
SOURCES = ("docs", "examples", "csrc", "tinyscout")
STDERR = 2          # the file descriptor
MADE = {"_build", "gallery", "__pycache__"}     # folders that a build writes
NEEDED = ("sphinx", "furo", "myst_parser", "sphinx_design", "sphinx_copybutton", "sphinx_gallery", "pybtex",
          "latex2mathml", "matplotlib", "hypothesis")


def add_arguments(sub):
    sub.add_argument("--build", action="store_true", help="build what has changed, and open nothing")
    sub.add_argument("--print-path", action="store_true", help="print the path of the first page, and open nothing")


def run(args):
    if not (ROOT / "docs" / "conf.py").is_file():
        raise FileNotFoundError("the book is not in an installed package: run this in a clone of the repository")
    built = ROOT / "docs" / "_build"
    page = built / "index.html"
    if args.build or is_stale(ROOT, built):
        build(built)
    if args.print_path:
        print(page)
    elif not args.build and not webbrowser.open(page.as_uri()):
        print_error(f"no browser was found; the first page is {page}")
        return 1
    return 0


def is_stale(root, built):
    """True if the book was never built, or a source is newer than the file that a build writes last."""
    last = built / "_static" / "search_texts.js"
    if not (last.is_file() and (built / "index.html").is_file()):
        return True
    return max(map(os.path.getmtime, find_sources(root))) > last.stat().st_mtime


def find_sources(root):
    """The files that pages are made from: text, examples, and the code that chapters show."""
    for source in SOURCES:
        for folder, folders, files in os.walk(root / source):
            folders[:] = [name for name in folders if name not in MADE]
            yield from (os.path.join(folder, name) for name in files if not name.endswith((".so", ".pyc", ".rst")))


def build(built):
    """Run Sphinx.  On a terminal its progress is shown, otherwise only its warnings; both on stderr."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the book needs {', '.join(missing)}: run pip install '.[docs]' in {ROOT}")
    print_error("building the book; the first time takes a few minutes, as every example runs")
    quiet = [] if sys.stderr.isatty() else ["-q"]
    command = [sys.executable, "-m", "sphinx", *quiet, "-b", "html", str(built.parent), str(built)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, stdout=STDERR, env={**os.environ, "PYTHONPATH": path}, check=False)
    if done.returncode:
        raise RuntimeError("Sphinx could not build the book; its messages are above")
