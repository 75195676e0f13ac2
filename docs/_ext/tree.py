"""The files of a folder, each with the sentence that it says about itself.

    ```{tree} tinyscout
    ```
draws a table: a folder's row has the sentence of its __init__.py, a file's row the first paragraph of its docstring, or
of the comment at its top.  So the page cannot name a file that is gone, or miss one that is new.
"""
import ast
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".c", ".h", ".cpp", ".cu", ".cuh"}


def describe(path):
    """The first paragraph of a file's docstring, or of its first comment, on one line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        says = ast.get_docstring(ast.parse(text)) or ""
    else:
        says = re.sub("^// ?", "", re.match(r"(?://.*\n)*", text)[0], flags=re.MULTILINE)
    return re.split(r"(?<=\.) (?=[A-Z])", " ".join(says.split("\n\n")[0].split()))[0]


def walk(folder):
    """(path, depth, what it says) of a folder, then of its files, then of the folders in it."""
    init = folder / "__init__.py"
    yield folder, len(folder.relative_to(ROOT).parts) - 1, describe(init) if init.exists() else ""
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path != init)
    for path in files:
        yield path, len(path.relative_to(ROOT).parts) - 1, describe(path)
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(path.suffix in SUFFIXES for path in below.rglob("*")):
            yield from walk(below)


def make_row(path, depth, says):
    name = nodes.literal(text=path.name + "/" * path.is_dir())
    indent = nodes.Text("\u2003" * depth)       # an em space for each level
    cells = nodes.paragraph("", "", indent, name), nodes.paragraph(text=says)
    return nodes.row("", *(nodes.entry("", cell) for cell in cells))


class Tree(SphinxDirective):
    required_arguments = 1

    def run(self):
        entries = list(walk(ROOT / self.arguments[0]))
        for path, _, _ in entries:
            self.env.note_dependency(str(path / "__init__.py" if path.is_dir() else path))
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (30, 70)), cols=2)
        group += nodes.tbody("", *(make_row(*entry) for entry in entries))
        return [nodes.table("", group, classes=["tree"])]


def setup(app):
    app.add_directive("tree", Tree)
    return {"parallel_read_safe": True}
