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

FLOORS = [                      # from the ground up; each imports only from its own floor and from those below
    ("sizes and operations", {"config", "progress", "reference", "simulator"}),
    ("the parts of the model, and data", {"nn", "inputs", "data"}),
    ("files, kernels, laws, generation", {"checkpoint", "kernels", "laws", "inference"}),
    ("the model for users, and its training", {"model", "train"}),
    ("what is measured", {"eval", "bench"}),
    ("the command line", {"cli", "__main__", "__init__"}),
]
FLOOR = {part: n for n, (_, floor) in enumerate(FLOORS) for part in floor}
MODEL = ["config", "reference", "nn", "inputs", "checkpoint", "inference"]      # what a reader of the model reads
THIRD_PARTY = {                 # besides numpy and rich, which every file may use
    "reference": set(), "laws": {"hypothesis", "PIL", "regex", "ml_dtypes"}, "nn": {"ml_dtypes"},
    "inputs": {"regex", "PIL"}, "checkpoint": {"ml_dtypes", "safetensors"}, "kernels": {"cupy"}, "data": {"PIL"},
    "train": {"safetensors", "matplotlib"}, "cli": {"hypothesis", "PIL", "matplotlib"},
    "bench": {"torch", "transformers", "matplotlib", "safetensors", "ml_dtypes", "gguf", "llama_cpp"},
}
STANDARD = {"numpy", "rich", "tinyscout", "cffi"}


def part_of(path):
    """The part of the package that a file belongs to: reference/norm.py is of `reference`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path):
    """The dotted name of a file inside the package: nn/text.py is nn.text."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def is_within(module, rooms):
    """Is a module one of some packages and modules, or inside one?"""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def imports(path):
    """(module, line) of every import in a file, also inside functions; of tinyscout with the name that is imported."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            inside = node.module.split(".")[0] == "tinyscout"
            yield from ((f"{node.module}.{alias.name}" if inside else node.module, node.lineno) for alias in node.names)


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


@pytest.mark.parametrize(("room", "never"), [
    ("reference", {"config", "progress", "nn", "kernels", "simulator", "laws"}),
    ("nn", {"kernels", "laws"}), ("inputs", {"kernels", "laws"}), ("checkpoint", {"kernels", "laws", "inference"}),
    ("inference", {"kernels", "laws"}), ("nn.text", {"nn.vision"}), ("nn.vision", {"nn.text"}),
    ("inputs.image", {"inputs.tokenizer"}),
])
def test_some_doors_stay_shut(room, never):
    for path in FILES:
        if is_within(module_of(path), {room}):
            shut = {f"tinyscout.{name}" for name in never}
            found = {module for module, _ in imports(path) if is_within(module, shut)}
            assert not found, f"{path} imports {found}"


@pytest.mark.parametrize("part", ["reference", "simulator"])
def test_some_parts_are_numpy_alone(part):
    for path in (PACKAGE / part).glob("*.py"):
        for module, line in imports(path):
            root, *rest = module.split(".")
            assert root in sys.stdlib_module_names | {"numpy", "tinyscout"}, f"{path}:{line} imports {module}"
            assert root != "tinyscout" or rest[:1] == [part], f"{path}:{line} imports {module}"


def test_the_reference_stays_small():
    assert count_lines("reference") <= 1200


def test_the_model_stays_small():
    assert sum(map(count_lines, MODEL)) <= 4500


def test_every_floor_is_inhabited():
    assert set(FLOOR) == {part_of(path) for path in FILES}


def count_lines(room):
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES if part_of(path) == room)


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
