"""The grid on the page: one function in every column that has it, and the table of which column has what.

    ```{columns} rms_norm
    ```
shows rms_norm as tabs, NumPy first, then C and CUDA where they exist.  Several names, `{columns} router experts`,
stand in each tab one below the other.  A column that has no such function has no tab, and a name that
the NumPy column does not have fails the build, so a page cannot show code that is gone.  Where a CUDA kernel only
chooses how its row is read, its tab begins with what a block does for a row: rms_norm_row before rms_norm.  Of
grouped_query_attention, which CUDA has only in numbered versions, the tab shows the first.

    ```{components}
    ```
draws the table of GRID: rows are components, columns are forms, and a cell holds the file's name, or the
last numbered version's.  A dot is a form that is not written yet, "none" one that is not planned.
"""
import ast
import re
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
GRID = ("bpe:tokenizer", "norm", "rope", "attention", "activation", "linear", "moe", "quantize:quantization", "patches",
        "fusion", "sampling", "loss", "adamw:loss", "muon:training")      # component, or component:chapter
ALSO = {"quantize": ("quantized_matvec", "linear_quantized")}     # files of a component that have other names
NOT_PLANNED = {("bpe", "CUDA")}                                   # a tokenizer is branches and tables, not arithmetic
COLUMNS = {     # where each looks, in this order
    "NumPy": ("tinyscout/reference/*.py", "tinyscout/nn/*.py", "tinyscout/**/*.py"),   # operations, then compositions
    "C": ("csrc/c/*.c", "csrc/cpp/*.cpp", "csrc/cpp/*.h", "csrc/c/*.h"),
    "CUDA": ("csrc/cuda/*.cu", "csrc/cuda/*.cuh"),
}


def files(column):
    return [file for pattern in COLUMNS[column] for file in sorted(ROOT.glob(pattern))]


def find(name, column):
    """Where a column keeps a function: (file, first line, last line) counted from 1, or None."""
    for file in files(column):
        lines = (_python_lines if file.suffix == ".py" else _c_lines)(file.read_text(encoding="utf-8"), name)
        if lines:
            return file, *lines
    return None


def _python_lines(source, name):
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            return first, node.end_lineno
    return None


def _c_lines(source, name):
    """A definition starts at the margin and ends at the first brace there; the comment right above belongs to it."""
    lines = source.splitlines()
    for n, line in enumerate(lines):
        opening = re.search("[{;]", "\n".join(lines[n:]))
        if not re.match(rf"[A-Za-z_][^;=]*\b{name}\s*\(", line) or opening is None or opening[0] == ";":
            continue                                        # something else, or a prototype
        first = n
        while first and re.match(r"//|/\*| \*|template|extern|__global__|static", lines[first - 1]):
            first -= 1
        last = next(k for k in range(n, len(lines)) if lines[k].startswith("}") or (k == n and line.endswith("}")))
        return first + 1, last + 1
    return None


def find_all(name, column):
    """Where a column shows a function: with CUDA's function for a row, or if there is no other the first version."""
    if column != "CUDA":
        return [place for place in [find(name, column)] if place]
    return [place for place in (find(f"{name}_row", column), find(name, column)) if place] or \
        [place for place in [find(f"{name}_1", column)] if place]


def by_name(found, name):
    """The file of that name, or else its numbered versions, the last first: attention_3.cu before attention_1.cu."""
    versions = [file for file in found if re.fullmatch(rf"{name}(_\d)?", file.stem)]
    return sorted(versions, key=lambda file: (file.stem == name, file.stem), reverse=True) or \
        [file for file in found if file.stem in ALSO.get(name, ())]


def find_example(name, chapter):
    """The example of that name, or the first that the chapter shows, or the first that uses the operation."""
    examples = {file.stem: file for file in sorted((ROOT / "examples").glob("[0-9]*_*.py"))}
    shown = re.findall(r"\bgallery/(?:images/sphx_glr_)?(\d+_[a-z_]*[a-z])",
                       (ROOT / f"docs/{chapter}.md").read_text(encoding="utf-8"))
    operations = public_names(ROOT / f"tinyscout/reference/{name}.py")
    using = [stem for stem, file in examples.items()
             if operations & set(re.findall(r"\w+", file.read_text(encoding="utf-8")))]
    named = [stem for stem in examples if stem.partition("_")[2] in (name, chapter)]
    return next((stem for stem in [*named, *shown, *using] if stem in examples), None)


def public_names(file):
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")}


class Columns(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        wanted = self.arguments[0].split()
        tabs = []
        for column in COLUMNS:
            found = [place for name in wanted for place in find_all(name, column)]
            if column == "NumPy" and len(found) < len(wanted):
                raise self.error(f"tinyscout does not define every one of: {' '.join(wanted)}")
            if found:
                tabs.append(self._tab(column, found))
        text = "\n".join(["::::{tab-set}", ":sync-group: column", *tabs, "::::"])
        return self.parse_text_to_nodes(text)

    def _tab(self, column, found):
        lines = [f":::{{tab-item}} {column}", f":sync: {column}"]
        for file, first, last in found:
            path = file.relative_to(ROOT).as_posix()
            lines += [f"```{{literalinclude}} /../{path}", f":lines: {first}-{last}", f":caption: {path}",
                      f":language: {'python' if column == 'NumPy' else 'c++'}", "```"]
        return "\n".join([*lines, ":::"])


class Components(SphinxDirective):
    def run(self):
        table = ["{.grid}", "| component | NumPy | C | CUDA | laws | example |", "|---|---|---|---|---|---|"]
        return self.parse_text_to_nodes("\n".join([*table, *map(self._row, GRID)]))

    def _row(self, name):
        name, _, chapter = name.partition(":")
        forms = {column: files(column) for column in COLUMNS}
        forms["laws"] = sorted((ROOT / "tinyscout/laws").glob("*.py"))
        cells = [self._cell(name, form, found) for form, found in forms.items()]
        example = find_example(name, chapter or name)
        cells.append(f"[{example}](gallery/{example}.rst)" if example else "·")
        return "| " + " | ".join([f"[{name}]({chapter or name}.md)", *cells]) + " |"

    def _cell(self, name, form, found):
        if file := next(iter(by_name(found, name)), None):
            return f"`{file.name}`"
        return "none" if (name, form) in NOT_PLANNED else "·"


def setup(app):
    app.add_directive("columns", Columns)
    app.add_directive("components", Components)
    return {"parallel_read_safe": True}
