"""Which names of other projects the book links to: docs/inventories/*.txt, so that it is built without a network.

    python docs/inventories.py python=objects.inv numpy=objects.inv hypothesis=objects.inv

takes the addresses of NAMES from those projects' own inventories (each has one at the top of its documentation) and
writes them in version 1 of Sphinx's inventories, which is plain text.
"""
import sys
from pathlib import Path

NAMES = {
    "python": "bool bytearray bytes collections.abc.Callable collections.abc.Collection collections.abc.Iterable "
              "collections.abc.Iterator collections.abc.Mapping collections.abc.Sequence dict float frozenset int list "
              "memoryview object os.PathLike pathlib.Path set str tuple type types.ModuleType typing.Any "
              "typing.IO typing.NamedTuple typing.Protocol FileNotFoundError IndexError MemoryError OSError "
              "RuntimeError TypeError ValueError",
    "numpy": "numpy.asarray numpy.dtype numpy.generic numpy.ndarray",
    "hypothesis": "hypothesis.HealthCheck hypothesis.assume hypothesis.example hypothesis.given hypothesis.note "
                  "hypothesis.settings hypothesis.strategies.SearchStrategy hypothesis.strategies.composite "
                  "hypothesis.strategies.data hypothesis.strategies.floats hypothesis.strategies.integers "
                  "hypothesis.strategies.just hypothesis.strategies.lists hypothesis.strategies.sampled_from "
                  "hypothesis.strategies.text hypothesis.strategies.tuples hypothesis.target",
}
MOVED = {       # pages that have other addresses today than in the inventories that Debian ships
    "hypothesis.strategies.": "reference/strategies.html", "hypothesis.": "reference/api.html",
    "numpy.generic": "reference/arrays.scalars.html",
}
HEADER = "# Sphinx inventory version 1\n# Project: {}\n# Version: {}\n"


def find(inventory, name):
    """The line of a name: its kind as the book refers to it, and its page.  Version 1 adds #name by itself."""
    for kind in ("class", "exception", "function", "data"):
        item = inventory.get(f"py:{kind}", {}).get(name)
        if item:
            page, _, anchor = item.uri.partition("#")
            page = next((new for start, new in MOVED.items() if name.startswith(start)), page)
            if anchor in (name, "$"):
                return f"{name} {'class' if kind == 'data' else kind} {page}"
    raise SystemExit(f"the inventory has no {name}")


def main(arguments):
    from sphinx.util.inventory import InventoryFile

    for argument in arguments:
        project, _, path = argument.partition("=")
        inventory = InventoryFile.loads(Path(path).read_bytes(), uri="").data
        item = next(iter(next(iter(inventory.values())).values()))
        lines = [find(inventory, name) for name in sorted(NAMES[project].split(), key=str.lower)]
        target = Path(__file__).parent / "inventories" / f"{project}.txt"
        target.parent.mkdir(exist_ok=True)
        header = HEADER.format(item.project_name, item.project_version)
        target.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
