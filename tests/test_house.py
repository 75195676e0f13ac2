"""The house itself: which floor may import which, what may never be, and that the columns have the same shape."""
import ast
import inspect
import re
import sys
from pathlib import Path

import pytest

from tinyscout import reference

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinyscout"

FLOORS = [                      # each may import from its own floor and from those below
    {"config", "progress", "reference", "simulator", "machine"},
    {"weights", "cache", "tokenizer", "vocabulary", "image", "hf", "files", "names", "disk", "budget"},
    {"text", "text_backward", "vision", "vision_backward", "chat", "checkpoint", "kernels"},
    {"scout", "learn", "longcontext"},
    {"generate", "train", "data", "exam", "laws", "quantize"},
    {"model"},
    {"bench", "cli", "__main__", "__init__"},
]
FLOOR = {part: n for n, floor in enumerate(FLOORS) for part in floor}
THIRD_PARTY = {                 # beside numpy and rich, which every file may use
    "reference": set(), "laws": {"hypothesis", "PIL", "regex", "ml_dtypes"}, "tokenizer": {"regex"},
    "vocabulary": {"regex"}, "image": {"PIL"}, "checkpoint": {"ml_dtypes"}, "cache": {"ml_dtypes"},
    "files": {"ml_dtypes", "safetensors"}, "quantize": {"ml_dtypes"},
    "kernels": {"cupy"},
    "bench": {"torch", "transformers", "matplotlib", "safetensors", "ml_dtypes", "threadpoolctl", "gguf",
              "llama_cpp"},
    "data": {"PIL"}, "cli": {"hypothesis", "PIL", "matplotlib"}, "train": {"safetensors", "matplotlib"},
}
STANDARD = {"numpy", "rich", "tinyscout", "cffi"}


def part_of(path):
    """The part of the package that a file belongs to: reference/norm.py is of `reference`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(module, line) of every import in a file, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            inside = node.module == "tinyscout"
            yield from ((f"tinyscout.{alias.name}" if inside else node.module, node.lineno) for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(PACKAGE).as_posix() for path in FILES])
def test_imports_go_down(path):
    mine = part_of(path)
    assert mine in FLOOR, f"{path.name} has no floor yet: give it one"
    for module, line in imports(path):
        root, *rest = module.split(".")
        if root != "tinyscout":
            known = sys.stdlib_module_names | STANDARD | THIRD_PARTY.get(mine, set())
            assert root in known, f"{path}:{line} imports {root}"
            continue
        part = rest[0] if rest else "__init__"
        if part.startswith("_") or part == "__version__":
            continue            # the compiled extensions
        assert FLOOR.get(part, 99) <= FLOOR[mine], f"{path}:{line}: {mine} imports {part}, which is a floor above"


@pytest.mark.parametrize(("mine", "never"), [
    ("reference", {"config", "progress", "weights", "kernels", "simulator", "laws"}),
    ("text", {"kernels", "vision", "laws"}), ("vision", {"kernels", "text", "laws"}), ("scout", {"kernels", "laws"}),
    ("generate", {"kernels", "laws"}), ("image", {"tokenizer"}),
])
def test_some_doors_stay_shut(mine, never):
    for path in FILES:
        if part_of(path) == mine:
            found = {module.split(".")[1] for module, _ in imports(path) if module.startswith("tinyscout.")}
            assert not found & never, f"{path} imports {found & never}"


@pytest.mark.parametrize("part", ["reference", "simulator"])
def test_some_parts_are_numpy_alone(part):
    for path in (PACKAGE / part).glob("*.py"):
        for module, line in imports(path):
            root, *rest = module.split(".")
            assert root in sys.stdlib_module_names | {"numpy", "tinyscout"}, f"{path}:{line} imports {module}"
            assert root != "tinyscout" or rest[:1] == [part], f"{path}:{line} imports {module}"


def test_the_reference_stays_small():
    assert sum(len(path.read_text().splitlines()) for path in (PACKAGE / "reference").glob("*.py")) <= 1200


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(PACKAGE).as_posix() for path in FILES])
def test_files_and_functions_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300, f"{path} is long: it is telling you something about the design"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 40, f"{path}: {node.name} is long"
    assert ast.get_docstring(ast.parse(source)), f"{path} does not say what it is"


def prototypes(source):
    """{name: names of its parameters} of every operation declared in C; `decode` is many of them."""
    source = re.sub(r"//.*", "", source)
    return {name: [p.split()[-1].lstrip("*") for p in params.split(",")]
            for name, params in re.findall(r"\bvoid\s+(\w+)\s*\(([^)]*)\)", source) if name != "decode"}


HEADER = prototypes((ROOT / "csrc" / "c" / "kernels.h").read_text()) if (ROOT / "csrc").exists() else {}


@pytest.mark.parametrize("name", HEADER)
def test_c_takes_the_references_arguments(name):
    """First out (or out_w, out_m: one for each result), then the inputs in Python's order, then the sizes as letters.

    A dtype is no input there: C has it in its types.
    """
    outs = [p for p in HEADER[name] if re.fullmatch(r"out|out_\w+", p)]
    assert outs
    assert HEADER[name][:len(outs)] == outs
    rest = HEADER[name][len(outs):]
    plain = re.sub(r"_\d$", "", name)               # linear_1 is an earlier version of linear
    python = [p for p in inspect.signature(getattr(reference, plain)).parameters if p != "dtype"]
    assert rest[:len(python)] == python
    assert all(re.fullmatch(r"[A-Z]|d", size) for size in rest[len(python):])


def test_cuda_takes_cs_arguments():
    for path in (ROOT / "csrc" / "cuda").glob("*.cu"):
        for name, parameters in prototypes(path.read_text()).items():
            assert parameters[:len(HEADER.get(name, parameters))] == HEADER.get(name, parameters), f"{path}: {name}"


def test_a_backend_is_the_reference_with_names_replaced(ops):
    for name in reference.__all__:
        assert callable(getattr(ops, name)), f"{ops.__name__} has no {name}"
