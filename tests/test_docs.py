"""The walkthrough and the code speak of the same things, and a built page asks the network for nothing."""
import ast
import importlib
import json
import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILT = DOCS / "_build"
PAGES = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
SOURCES = [file for folder in ("tinyscout", "csrc") for file in sorted((ROOT / folder).rglob("*"))
           if file.suffix in {".py", ".c", ".h", ".cpp", ".hpp", ".cu", ".cuh"}]

INCLUDE = re.compile(r"```\{literalinclude\} (\S+)\n((?::.*\n)*)")
COLUMNS = re.compile(r"```\{columns\} (.+)")

if not DOCS.exists():
    pytest.skip("no docs/ beside these tests", allow_module_level=True)


@pytest.fixture
def extension(monkeypatch):
    """Imports one of docs/_ext by name."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return load


def definitions(file):
    return {node.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def includes():
    """(page, included file, its options) for every literalinclude."""
    for page, text in PAGES.items():
        for path, options in INCLUDE.findall(text):
            yield page, (DOCS / path.lstrip("/")).resolve(), options


def test_equations_named_in_the_code_exist():
    labels = {label for text in PAGES.values() for label in re.findall(r":label: *(\S+)", text)}
    missing = {(label, file.relative_to(ROOT).as_posix())
               for file in SOURCES
               for label in re.findall(r"equation[\s*/]+\(([\w-]+)\)", file.read_text(encoding="utf-8"))
               if label not in labels}
    assert not missing, f"no chapter has the equations {sorted(missing)}"


def test_identifiers_in_code_font_exist():
    """`kv_dtype` in a chapter is a name of the code; the changelog may speak of old ones."""
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").glob("*.py"), ROOT / "pyproject.toml"]
    known = {word for file in files for word in re.findall(r"\w+", f"{file.stem} {file.read_text(encoding='utf-8')}")}
    missing = {(page.name, word) for page, text in PAGES.items() if page.stem not in ("changelog", "contributing")
               for code in re.findall(r"(?<!\})`([^`\n]+)`", text)
               for word in re.findall(r"\b[a-zA-Z]\w*_\w+\b", code) if word not in known and not word.startswith("my_")}
    assert not missing


def test_readme_says_what_was_measured():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    scores = {score["task"]: score for score in json.loads((DOCS / "scout-mini/exam.json").read_text())["questions"]}

    def part(*tasks):
        correct, asked = (sum(scores[task][key] for task in tasks) for key in ("correct", "asked"))
        return f"{correct / asked:.0%}"

    def found(preset, job, context):
        reports = [json.loads(file.read_text()) for file in (DOCS / "laboratory").glob(f"{preset}*.{job}.json")
                   if re.fullmatch(rf"{preset}(-seed-\d)?", file.name.split(".")[0])]
        rows = [row for report in reports for row in report["rows"] if row["context"] == context]
        assert len(rows) == 3
        return tuple(sum(row[key] for row in rows) for key in ("correct", "asked"))

    seconds = (DOCS / "laboratory/log.csv").read_text().splitlines()[-1].split(",")[1]
    for claim in (
            f"{part('shape', 'colour', 'position')} correctly about shape, colour and position, "
            f"{part('same', 'more', 'changed')} about two images side by side, {part('number')} when it reads a number",
            f"{part('count')} when it counts objects", f"it scores {part('relation')} (chance: 50%)",
            f"trained in {float(seconds):.0f} seconds", "{} of {} in texts of 51,200".format(
                *found("laboratory", "hundred", 51_200)),
            "{} of {} in 10,485,760".format(*found("laboratory", "far", 10 << 20))):
        assert claim in text, claim
    correct, asked = found("laboratory", "million", 1 << 20)
    assert correct == asked
    assert f"all {asked} in 1,048,576" in text
    assert all(found("laboratory-rope", "needles", context)[0] == 0 for context in (2048, 4096, 8192, 20_480))


def test_included_code_exists():
    for page, file, options in includes():
        assert file.is_file(), f"{page.name} includes {file}, which does not exist"
        for name in re.findall(r":pyobject: *(\S+)", options):
            assert name.split(".")[-1] in definitions(file), f"{page.name}: {file.name} does not define {name}"


def test_columns_exist(extension):
    columns = extension("columns")
    for page, text in PAGES.items():
        for name in " ".join(COLUMNS.findall(text)).split():
            assert columns.find(name, "NumPy"), f"{page.name} shows {name}, which the NumPy column does not define"


def book():
    """The pages in the order of the tables of contents on the first page."""
    entries = re.findall(r"```\{toctree\}\n(?::.*\n)*\n([^`]*)```", PAGES[DOCS / "index.md"])
    return [DOCS / f"{name}.md" for name in " ".join(entries).split() if (DOCS / f"{name}.md").exists()]


def glossary():
    """[(names of an entry, pages that it links)]"""
    body = PAGES[DOCS / "glossary.md"].split("```{glossary}\n")[1].split("\n```")[0]
    for entry in body.split("\n\n"):
        lines = entry.splitlines()
        names = [line for line in lines if not line.startswith(" ")]
        yield names, re.findall(r"\]\((\w+)\.md", entry)


def linked_terms(text):
    return {re.sub(r".*<(.*)>", r"\1", term).lower() for term in re.findall(r"\{term\}`([^`]+)`", text)}


@pytest.mark.parametrize(("names", "explained"), [pytest.param(*entry, id=entry[0][0]) for entry in glossary()])
def test_a_term_is_explained_or_linked_at_its_first_use(names, explained):
    """First use: the first paragraph of the book with one of an entry's names; *emphasis* marks an explanation."""
    from test_english import strip_fences, strip_markup

    folded = 0 if all(name.isupper() or name != name.lower() for name in names) else re.IGNORECASE
    any_name = "(?:" + "|".join(map(re.escape, names)) + ")s?"
    used, introduced = re.compile(rf"(?<![\w-]){any_name}(?![\w-])", folded), re.compile(rf"\*{any_name}\b", folded)
    for page in book():
        if page.stem in explained:
            return
        for paragraph in re.sub("(?m)^(?:#|---).*$", "", strip_fences(PAGES[page])).split("\n\n"):
            if linked_terms(paragraph) & {name.lower() for name in names} or introduced.search(paragraph) \
                    or any(f"]({to}.md" in paragraph for to in explained):
                return
            assert not used.search(strip_markup(paragraph)), f"{page.name} neither explains nor links it:\n{paragraph}"


FRAME = ("overview", "gpu_primer", "property_tests", "backward_model", "command", "benchmarks", "press")
PARTS = {
    "a picture": r"\{(?:drawing|figure)\}", "a source": r"\{cite:", "traps": "^## .*traps?",
    "an exercise": "^## Exercise", "its answer": r"\{dropdown\} Answer", "further reading": "^## Further reading",
    "the museum, or why none": "museum",
}
CHAPTERS = [page.stem for page in book() if page.stem not in FRAME and "difficulty:" in PAGES[page]]


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_is_complete(page):
    missing = [part for part, pattern in PARTS.items()
               if not re.search(pattern, PAGES[DOCS / f"{page}.md"], re.MULTILINE | re.IGNORECASE)]
    assert not missing


def test_every_component_has_a_chapter():
    files = {file for _, file, _ in includes()}
    shown = {name for text in PAGES.values() for names in COLUMNS.findall(text) for name in names.split()}
    components = set((ROOT / "tinyscout/reference").glob("[a-z]*.py"))
    absent = [file.name for file in sorted(components) if file not in files and not definitions(file) & shown]
    assert not absent, f"no chapter shows anything of {absent}"


class Requests(HTMLParser):
    """Collects what a browser fetches to show the page, as against what a reader may click."""

    FETCHED = frozenset(["script", "link", "img", "iframe", "source", "video", "audio", "object", "embed"])

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag in self.FETCHED and dict(attributes).get("rel") != "canonical":
            self.found += [value for name, value in attributes
                           if name in {"src", "href", "srcset", "data"} and re.match(r"\s*(https?:)?//", value or "")]


def test_built_pages_need_no_network():
    pages = list(BUILT.rglob("*.html"))
    if not pages:
        pytest.skip("docs/_build does not exist: run sphinx-build -W --keep-going -b html docs docs/_build")
    for page in pages:
        parser = Requests()
        parser.feed(page.read_text(encoding="utf-8"))
        assert not parser.found, f"{page.relative_to(BUILT)} fetches {parser.found}"
    for sheet in BUILT.rglob("*.css"):
        fetched = re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\"')\s]+", sheet.read_text(encoding="utf-8"))
        assert not fetched, f"{sheet.relative_to(BUILT)} fetches {fetched}"


GOOD = {
    r"\frac{a}{b}": "<mfrac>",
    r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}": "<mtable>",
    r"\begin{aligned} a &= b \\ c &= d \end{aligned}": "<mtable",
    r"\begin{cases} a & x > 0 \\ b & \text{otherwise} \end{cases}": "<mtext>otherwise</mtext>",
    r"\sqrt{\sum_{i=1}^{D} x_i^2}": "<munderover>",
    r"\left\lfloor \frac{p}{C} \right\rfloor": "⌊",
    r"\hat{x} \odot \mathbf{w}": "⊙",
    r"\operatorname{rms}(x)": 'rspace="0">rms</mo>',
}


@pytest.mark.parametrize("latex", GOOD)
def test_an_equation_becomes_mathml(latex, extension):
    pytest.importorskip("latex2mathml")
    mathml = extension("mathml").to_mathml(latex, display=True)
    assert mathml.startswith('<math display="block">')
    assert GOOD[latex] in mathml
    assert "\\" not in mathml


@pytest.mark.parametrize("latex", [r"\undefinedthing x", r"\frac{a}", "x^{", "a & b"])
def test_a_bad_equation_is_refused(latex, extension):
    pytest.importorskip("latex2mathml")
    with pytest.raises(ValueError, match=r"\w"):
        extension("mathml").to_mathml(latex)


def test_numbers_are_shown_as_they_are_read(extension):
    show = extension("compute").show
    assert [show(108641793536), show(66.4812), show(66.4812, ".2f"), show("wrong")] == [
        "108,641,793,536", "66.5", "66.48", "wrong"]


def test_the_grid_finds_what_is_there(extension):
    columns = extension("columns")
    row = columns.Components._row.__get__(columns.Components.__new__(columns.Components))
    grid = {line.split(" | ")[0].partition("]")[0][3:]: line.strip("| ").split(" | ")[1:]
            for line in map(row, columns.GRID)}
    assert grid["quantize"][1:3] == ["`quantized_matvec.h`", "`linear_quantized.cu`"]
    assert grid["bpe"][2] == "none"
    assert "18_sampling" in grid["sampling"][-1]
    assert [(name, place) for name, cells in grid.items() for place, cell in enumerate(cells[:4]) if cell == "·"] == [
        ("muon", 2)], "the text above the grid and docs/contributing.md speak of the dots"


def test_the_glossary_is_sorted_and_has_other_peoples_words():
    text = PAGES[DOCS / "glossary.md"].partition("```{glossary}\n")[2]
    entries = [entry.splitlines() for entry in text.partition("\n```")[0].split("\n\n")]
    firsts = [entry[0].lower() for entry in entries]
    assert firsts == sorted(firsts)
    terms = {line for entry in entries for line in entry if not line.startswith(" ")}
    assert {"FlashAttention", "residual stream", "KV cache", "perplexity", "backpropagation", "logits", "GEMM", "PTX",
            "online softmax", "tensor cores", "coalesced access", "occupancy", "LoRA", "distillation", "NVRTC", "nat",
            "gradient accumulation", "needle in a haystack", "CuPy", "cffi", "BLAS", "NoPE", "prefill"} <= terms
    unlinked = [entry[0] for entry in entries if "](" not in (said := " ".join(entry)) and "`" not in said]
    assert not unlinked, f"no chapter is named for {unlinked}"


PUBLIC = ("tinyscout", "tinyscout.reference", "tinyscout.laws", "tinyscout.simulator", "tinyscout.train")


def public_names():
    for module in map(importlib.import_module, PUBLIC):
        names = getattr(module, "__all__", ["check", "run_law", "replaced_names", "overlay", "Case"])
        yield from (f"{module.__name__}.{name}" for name in names)


def test_public_names_are_documented(extension):
    api = extension("api")
    listed = {name for page, text in PAGES.items() if page.stem.startswith("api")
              for block in re.findall(r"```\{api\}\n(.*?)```", text, flags=re.DOTALL) for name in block.split()}
    listed |= {f"tinyscout.reference.{name}" for component in re.findall(
        r"```\{operations\} (\w+)", PAGES[DOCS / "api_operations.md"]) for name in api.operations_of(component)}
    listed |= set(re.findall(r"py:function:: ([\w.]+)\(", PAGES[DOCS / "api_operations.md"]))
    assert not set(public_names()) - listed
    for name in listed:
        assert api.look_up(name) is not None


def test_the_built_inventory_has_the_public_names():
    inventory = BUILT / "objects.inv"
    if not inventory.exists():
        pytest.skip("docs/_build does not exist: run sphinx-build -W --keep-going -b html docs docs/_build")
    lines = zlib.decompress(inventory.read_bytes().split(b"zlib.\n", 1)[1]).decode().splitlines()
    assert not set(public_names()) - {line.split()[0] for line in lines}


def test_docstrings_become_text(extension):
    to_rst = extension("api").to_rst
    assert to_rst(["Softmax, equation (softmax); not *markup*, see `sample` and <|eot|>.", "",
                   "x (N, D), mode \"c\"  ->  (N, D)", "Raises ValueError.", "", "    code"])[:-1] == [
        "Softmax, equation :eq:`softmax`; not \\*markup\\*, see :py:obj:`sample <tinyscout.reference.sample>` and "
        "``<|eot|>``.", "", "| x (N, D), mode ``\"c\"``  ->  (N, D)", "| Raises ValueError.", "", "::", "", "    code"]
    wrapped = "a line that was wrapped because its next word would have gone beyond the width of the page of the source"
    assert to_rst([wrapped, "wordthatistoolong"])[0] == f"{wrapped} wordthatistoolong"


def test_backends_on_the_page_are_those_that_replace(extension):
    from tinyscout import reference
    api = extension("api")
    c = pytest.importorskip("tinyscout.kernels.c")
    assert {name for name in reference.__all__ if getattr(c, name) is not getattr(reference, name)} == \
        api.replaced("c") & set(reference.__all__)


def test_inventories_are_plain_text():
    for file in (DOCS / "inventories").glob("*"):
        assert file.read_text(encoding="utf-8").startswith("# Sphinx inventory version 1\n# Project: ")
        assert file.stat().st_size < 10_000
