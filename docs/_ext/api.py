"""The reference of names: signatures with types, docstrings as they are written, and where each operation is found.

    ```{api}
    tinyscout.load
    tinyscout.Model
    ```
documents functions, classes, records (NamedTuples and dataclasses, with the comments of their fields) and constants.

    ```{operations} norm
    ```
documents the operations of tinyscout/reference/norm.py, each with its backends, its laws and its chapter.

A docstring is plain text.  A line ends where it is written, unless it was only wrapped; "equation (rope)" links to the
equation, `softmax` to the operation, and what is indented is code.
"""
import ast
import importlib
import inspect
import re
from functools import cache
from textwrap import dedent
from types import GenericAlias

from columns import GRID, ROOT, find_all, public_names
from sphinx.util.docutils import SphinxDirective

WRAPPED = 108       # columns: a line that its next word would take beyond was wrapped
BACKENDS = {"C": "c", "CUDA": "cuda"}
PUBLIC = ("tinyscout", "tinyscout.reference", "tinyscout.laws", "tinyscout.simulator", "tinyscout.train")
SPANS = re.compile(r"""
    `([^`]+)`
    | ((?:\w+=)?"[\w./:-]+" | <\|[^|]+\|> | \{"[^}]*\})
    | (?<=quation\ )\(([\w-]+)\)
    | (?<=quations\ )\(([\w-]+)\)\ and\ \(([\w-]+)\)
    | docs/(\w+)\.md
    """, re.VERBOSE)
CHAPTERS = {name: chapter or name for name, _, chapter in (entry.partition(":") for entry in GRID)}


@cache
def public():
    """Names that docstrings may link to: {"softmax": "tinyscout.reference.softmax"}."""
    return {name: f"{module}.{name}" for module in PUBLIC
            for name in getattr(importlib.import_module(module), "__all__", [])}


def to_rst(lines):
    """A docstring's lines as reStructuredText."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc("\n".join(lines)))
    return [*"\n\n".join(map(format_paragraph, paragraphs)).splitlines(), ""]


def format_paragraph(text):
    out, code = [], []
    for line in [*join_wrapped(text.splitlines()), ""]:
        if re.match(" {4}", line):
            code.append(line)
            continue
        if code:
            out.append("::\n\n" + "\n".join(code) + "\n")
            code = []
        if line:
            out.append(escape(line))
    if len(out) == 1 and not out[0].startswith("::"):
        return out[0]
    return "\n".join(block if block.startswith("::") else f"| {block}" for block in out).replace("\n::", "\n\n::")


def join_wrapped(lines):
    joined, previous = [], ""
    for line in lines:
        wrapped = previous and len(previous) + 1 + len(line.split(maxsplit=1)[0]) > WRAPPED
        if wrapped and not re.match(" {4}", previous) and not re.match(r"Raises |Returns |\w+(  |: )", line):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line)
        previous = line
    return joined


def escape(line):
    """Code spans, quoted values, equations and pages become what they name; nothing else is markup."""
    out, end = [], 0
    for match in SPANS.finditer(line):
        out.append(re.sub(r"([*|\\`]|_(?!\w))", r"\\\1", line[end:match.start()]))
        code, value, equation, first, second, page = match.groups()
        if re.search(r"[^\s(]$", line[:match.start()]):
            out.append("\\ ")
        if code in public():
            out.append(f":py:obj:`{code} <{public()[code]}>`")
        elif code or value:
            out.append(f"``{code or value}``")
        elif equation:
            out.append(f":eq:`{equation}`")
        elif first:
            out.append(f":eq:`{first}` and :eq:`{second}`")
        else:
            out.append(f":doc:`{page}`")
        if re.match(r"\w", line[match.end():]):
            out.append("\\ ")
        end = match.end()
    return "".join([*out, re.sub(r"([*|\\`]|_(?!\w))", r"\\\1", line[end:])])


def look_up(path):
    """The object of a dotted name."""
    parts = path.split(".")
    for n in range(len(parts) - 1, 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            value = getattr(value, part)
        return value
    raise AttributeError(path)


class Qualify(ast.NodeTransformer):
    """The classes of an annotation by their full names, which a link needs."""

    def __init__(self, kind):
        self.names = vars(importlib.import_module(kind.__module__))

    def visit_Name(self, node):
        value = self.names.get(node.id)
        if isinstance(value, GenericAlias):     # a name of the module's own, such as Schedule
            return ast.parse(repr(value), mode="eval").body
        return ast.Name(f"{value.__module__}.{value.__qualname__}") if inspect.isclass(value) else node

    def visit_Attribute(self, node):
        value = getattr(self.names.get(ast.unparse(node.value)), node.attr, None)
        return ast.Name(f"{value.__module__}.{value.__qualname__}") if inspect.isclass(value) else node


def read_fields(kind):
    """[(name, type, default or None, comment)] of a record, as its source has them."""
    source = inspect.getsource(kind)
    lines, [tree] = source.splitlines(), ast.parse(dedent(source)).body
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_"):
            comment = re.sub(r"\s*\(?noqa.*", "", lines[node.end_lineno - 1].partition("  #")[2]).strip()
            default = node.value and ast.unparse(node.value)
            yield node.target.id, ast.unparse(Qualify(kind).visit(node.annotation)), default, comment


def is_record(value):
    return inspect.isclass(value) and ("__dataclass_fields__" in vars(value) or "_fields" in vars(value))


def describe(path):
    """One name, as reStructuredText."""
    value = look_up(path)
    if is_record(value):
        lines = [f".. autoclass:: {path}", "   :members:", "   :exclude-members: " + ", ".join(
            name for name, *_ in read_fields(value)), ""]
        for name, kind, default, comment in read_fields(value):
            lines += [f"   .. py:attribute:: {name}", f"      :type: {kind}",
                      *([f"      :value: {default}"] if default else []), "", f"      {escape(comment)}", ""]
        return lines
    if inspect.isclass(value):
        return [f".. autoclass:: {path}", "   :members:", ""]
    if callable(value):
        return [f".. autofunction:: {path}", ""]
    keys = ", ".join(f"``{key}``" for key in value)
    return [f".. py:data:: {path}", f"   :type: dict[str, {type(next(iter(value.values()))).__name__}]", "",
            f"   Keys: {keys}.", ""]


@cache
def replaced(backend):
    """The operations that a backend replaces, read from its source: it may not be built here."""
    return {name for file in (ROOT / "tinyscout/kernels" / backend).glob("*.py") for name in public_names(file)}


@cache
def chapters_by_operation():
    shown = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        for names in re.findall(r"```\{columns\} (.+)", page.read_text(encoding="utf-8")):
            for name in names.split():
                shown.setdefault(name, page.stem)
    return shown


def laws_of(name):
    from tinyscout.laws import CASES
    return [case.name.partition(": ")[2] for case in CASES if name in case.operations]


def operations_of(component):
    """The public operations of a file, in its order."""
    from tinyscout import reference
    module = importlib.import_module(f"tinyscout.reference.{component}")
    return [name for name, value in vars(module).items()
            if name in reference.__all__ and getattr(value, "__module__", None) == module.__name__]


def describe_operation(name, component):
    path = f"tinyscout.reference.{name}"
    places = [("NumPy", find_all(name, "NumPy"))]
    places += [(column, find_all(name, column)) for column in BACKENDS if name in replaced(BACKENDS[column])]
    forms = ", ".join(column + (f" (``{found[-1][0].relative_to(ROOT).as_posix()}``)" if found else "")
                      for column, found in places)
    chapter = chapters_by_operation().get(name) or (
        "backward" if name.endswith("_backward") else CHAPTERS.get(component, component))
    return [f".. autofunction:: {path}", "", f"   :Backends: {forms}", f"   :Chapter: :doc:`{chapter}`",
            f"   :Laws: {escape(', '.join(laws_of(name)))}", ""]


class Rst(SphinxDirective):
    """Shows what `lines` returns, reStructuredText on a page of Markdown."""

    def run(self):
        try:
            text = "\n".join(self.lines())
        except (AttributeError, ImportError) as error:
            raise self.error(f"{type(error).__name__}: {error}") from error
        return self.parse_text_to_nodes(f"~~~~{{eval-rst}}\n{text}\n~~~~")


class Api(Rst):
    has_content = True

    def lines(self):
        return [line for path in self.content if path.strip() for line in describe(path.strip())]


class Operations(Rst):
    required_arguments = 1

    def lines(self):
        component = self.arguments[0]
        self.env.note_dependency(str(ROOT / f"tinyscout/reference/{component}.py"))
        return [line for name in operations_of(component) for line in describe_operation(name, component)]


def process_docstring(app, what, name, obj, options, lines):
    made_by_namedtuple = what == "class" and re.fullmatch(r"\w+\(.*\)", " ".join(lines).strip())
    lines[:] = [] if made_by_namedtuple else to_rst(lines)


def keep_punctuation(app, domain, kind, content):
    """Shapes keep their three dots, and strings their quotes."""
    if domain == "py":
        content["support_smartquotes"] = False


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("api", Api)
    app.add_directive("operations", Operations)
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("object-description-transform", keep_punctuation)
    return {"parallel_read_safe": True}
