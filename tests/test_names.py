"""What a script can tell of good names: no function is a participle, predicates ask, variables are things."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tinyscout").rglob("*.py")) + sorted((ROOT / "examples").glob("*.py"))
SOURCES = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".c", ".h", ".cu", ".cuh", ".cpp"))

VAGUE = {       # words that stand for a thing instead of naming it; `most` and `least` are `max` and `min`
    "mine", "ours", "theirs", "their", "most", "least", "few", "fewest", "some", "each", "whole", "place", "places",
    "placed", "beside", "here", "there", "thing", "things",
}
VERBS_IN_ED = {"embed", "feed", "seed", "need", "speed"}
PARTICIPLES = {"made", "shown", "drawn", "said", "spoken", "kept", "held", "begun", "taken", "written", "given",
               "found",
               "known", "cut", "lost", "told", "sent", "built"}
PREDICATES = ("is", "are", "has", "have", "can", "uses", "needs", "does", "was", "contains", "differs", "equals")
PREDICATES_OF_PYTHON = {"__eq__", "__bool__", "__contains__"}


def words(name):
    """The words of a name: `d_gate`, `DecodeStep` and `MAX_HEAD_DIM` as lower-case words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")


def bound_names(tree):
    """(name, line) of all that a file binds: functions, classes, arguments, variables, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr), node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname, node.lineno) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs) and node.name:
            yield node.name, node.lineno


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_variable_is_called_after_what_it_holds(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    vague = [f"{line}: {name}" for name, line in bound_names(tree)
             if VAGUE & set(words(name)) and not is_law(path, name)]
    assert not vague, f"{name_of(path)}: {', '.join(vague)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_function_is_a_verb_and_not_a_participle(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [f"{f.lineno}: {f.name}" for f in functions(tree) if is_participle(f.name) and not is_law(path, f.name)]
    assert not wrong, f"{name_of(path)}: {', '.join(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_predicate_is_called_as_one(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [f"{f.lineno}: {f.name}" for f in functions(tree)
             if asks(f) and words(f.name)[0] not in PREDICATES and f.name not in PREDICATES_OF_PYTHON]
    assert not wrong, f"{name_of(path)}: {', '.join(wrong)}"


def asks(function):
    """Does its docstring say that the answer is yes or no?"""
    docstring = (ast.get_docstring(function) or "").split("\n")[0].rstrip()
    return docstring.endswith("?") or docstring.startswith("True if")


def is_participle(name):
    """`turned`, and `checked_tokens`; but a noun may have one as its adjective: `chunked_mask`."""
    first, *rest = words(name)
    if rest:
        return first in ("checked", "made", "given", "cut")
    return first in PARTICIPLES or (first.endswith("ed") and first not in VERBS_IN_ED)


def is_law(path, name):
    """The names of laws are sentences."""
    return path.parent.name == "laws" and name.count("_") >= 2


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_c_names_things_too(path):
    code = re.sub(r"//.*|\"(?:\\.|[^\"\\])*\"", "", path.read_text(encoding="utf-8"))
    names = set(re.findall(r"\b[A-Za-z_]\w*\b", code)) - {"for_each", "for_each_output"}
    vague = sorted(name for name in names if VAGUE & set(words(name)))
    assert not vague, f"{name_of(path)}: {', '.join(vague)}"
