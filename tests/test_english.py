"""Plain English: how often the book, the docstrings and the comments use constructions that stop a reader.

A search finds them, as a search found them in comparable projects: 0.6 to 2.5 in 1,000 words.  `python
tests/test_english.py FILE ...` prints the rate of every text, and every hit in the files that are named.
"""
import ast
import io
import re
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LIMIT = 3.0     # hits in 1,000 words
PATTERNS = {
    "who-clause: name the person or the thing": r"\b[Ww]ho [a-z]+s\b",
    "what-clause: name the thing":
        r"\b[Ww]hat (?:is|was|stands|comes|came|lies|follows|belongs)\b(?![^.]*\?)",
    "stands, lies: is, is stored, is at": r"\b(?:stands?|stood|lies?|lay)\b(?! (?:for|out)\b)",
    "where: if, when": r"\b[Ww]here (?:an?|the|it|there|no|one|they|nothing|that)\b",
    "is no X: is not a X":
        r"\b(?:is|are|was|were|has|have) no (?!longer|more|less|one|need|effect)[a-z]+\b|\bno \w+ any more\b",
    "but for: except": r"\bbut for\b",
    "behind: after, beyond": r"\bbehind\b",
    "beside: next to, with, as well as": r"\bbeside\b",
    "is told: is printed, says": r"\b(?:is|are|was|were|be|been) told\b|\btells?\b",
    "comes to: amounts to; comes down: the gradient": r"\b(?:comes?|came) (?:down|back|to)\b",
    "hand over: pass": r"\bhand(?:s|ed|ing)? (?:over|out|on|back|in|it|them)\b",
    "so many, as many as: n": r"\b[Ss]o many\b|\bas many as\b|\bat most so\b",
    "of its own, for itself: separate": r"\bof (?:its|their) own\b|\b(?:for|by|of) (?:itself|themselves)\b",
    "at once: immediately, or at the same time": r"\bat once\b",
    "anew, as ever, go on: again": r"\banew\b|\bas ever\b|\bthen too\b|\b(?:go|goes|went|going) (?:round|on)\b",
    "a docstring that is a question: True if": r"^(?:Is|Are|Does|Do|May|Can|Has|Have) [^.]*\?",
    "nobody, whoever: threads and code are not persons":
        r"\b(?:[Nn]obody|[Ss]omebody|[Ee]verybody|[Ww]hoever)\b",
    "few bits: quantized": r"\bfew bits\b",
    "picture: image, figure": r"\b[Pp]ictures?\b",
}
PROSE = {"dropdown", "note", "tip", "warning", "admonition", "figure", "glossary", "list-table", "tab-set", "tab-item",
         "grid", "grid-item-card", "drawing"}      # directives that hold sentences
FOUND = {name: re.compile(pattern, re.MULTILINE) for name, pattern in PATTERNS.items()}


def read_markdown(path):
    """The prose of a page: without code, formulas, roles, the targets of links and the numbers worked out."""
    return [strip_markup(strip_fences(path.read_text(encoding="utf-8")))]


def strip_fences(text):
    """A page without code and directives, except those that hold sentences."""
    prose, code = [], ""
    for line in text.splitlines():
        fence, name = re.match(r"(`{3,}|:{3,}|)(\S*)", line).groups()
        if code:
            code = "" if fence == code and not name else code
        elif fence and name and name.strip("{}") not in PROSE:
            code = fence
        elif not fence and not re.match(r":[a-z-]+:", line):        # an option of a directive
            prose.append(line)
    return "\n".join(prose)


def strip_markup(text):
    return re.sub(r"\$[^$]*\$|\{[\w:-]+\}`[^`]*`|`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", text)


def read_docstrings(path):
    """The docstrings of a module, and each comment, as one text each."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    comments = [token.string.lstrip("#! ") for token in tokenize.generate_tokens(io.StringIO(source).readline)
                if token.type == tokenize.COMMENT]
    return [strip_code(text) for text in [*texts, *comments]]


def read_messages(path):
    """The strings of a module that hold a sentence: help texts, messages, errors."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    docstrings = {id(node.body[0].value) for node in nodes if isinstance(getattr(node, "body", None), list)
                  and node.body and isinstance(node.body[0], ast.Expr)}
    return [strip_code(node.value) for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
            and id(node) not in docstrings and len(re.findall(r"[a-z]{2,}", node.value)) >= 4]


def read_c_comments(path):
    """The comments of a C or CUDA file, those on following lines as one text."""
    text = re.sub(r"\n[ \t]*//[ \t]?", " ", path.read_text(encoding="utf-8"))     # a comment goes on in the next line
    return [strip_code(block or line) for block, line in re.findall(r"/\*(.*?)\*/|//([^\n]*)", text, flags=re.DOTALL)]


def strip_code(text):
    return re.sub(r"`[^`]*`", " ", text)


def pages():
    return [ROOT / "README.md", *(page for page in sorted(DOCS.glob("*.md")) if page.stem != "changelog")]


def sources(folder, *suffixes):
    return [file for file in sorted((ROOT / folder).rglob("*")) if file.suffix in suffixes]


TEXTS = {      # name: the function that reads a file, the files
    "README and docs": (read_markdown, pages()),
    "docstrings and comments of tinyscout": (read_docstrings, sources("tinyscout", ".py")),
    # without the questions of tinyscout.data: they are training data, in the words that scout-mini has learned
    "help texts and messages of tinyscout": (read_messages, [file for file in sources("tinyscout", ".py")
                                                             if not file.stem.endswith("_questions")]),
    "comments of csrc": (read_c_comments, sources("csrc", ".c", ".h", ".cpp", ".cu", ".cuh")),
    "docstrings and comments of the examples": (read_docstrings, sources("examples", ".py")),
}


def find_hits(texts):
    """(words, [(pattern's name, the words around the hit)])."""
    hits = [(name, " ".join(text[max(0, hit.start() - 40):hit.end() + 40].split()))
            for text in texts for name, pattern in FOUND.items() for hit in pattern.finditer(text)]
    return sum(len(re.findall(r"[A-Za-z][A-Za-z'-]*", text)) for text in texts), hits


@pytest.mark.parametrize("name", TEXTS)
def test_unusual_constructions_are_rare(name):
    read, files = TEXTS[name]
    if not files:
        pytest.skip(f"no {name} beside these tests")
    words, hits = find_hits([text for file in files for text in read(file)])
    print(f"{name}: {len(hits)} in {words:,} words, {1000 * len(hits) / words:.1f} in 1,000")
    assert 1000 * len(hits) / words <= LIMIT, hits


@pytest.mark.parametrize(("text", "pattern"), [
    ("Who hands over arrays gets arrays back.", "who-clause"), ("What comes out is a row.", "what-clause"),
    ("The weights lie in one file.", "stands"), ("None where there is nothing.", "where"),
    ("This is no checkpoint.", "is no X"), ("All but for the last.", "but for"),
    ("The keys behind the last.", "behind"),
    ("A table beside it.", "beside"), ("Each layer is told its place.", "is told"), ("The sum comes to 3.", "comes to"),
    ("It hands out pairs.", "hand over"), ("So many rows.", "so many"), ("A thread of its own.", "of its own"),
    ("Two rows at once.", "at once"), ("Write it anew.", "anew"), ("Is it a layer?  True if so.", "a docstring"),
    ("Nobody reads it.", "nobody"), ("Weights of few bits.", "few bits"), ("The picture on the left.", "picture"),
])
def test_each_pattern_finds_its_construction(text, pattern):
    assert any(name.startswith(pattern) for name, _ in find_hits([text])[1])


def test_plain_sentences_have_no_hit():
    text = ("Pass NumPy arrays and you get NumPy arrays back. If a layer is local, its keys are stored in chunks. "
            "Each block of the grid handles 64 rows. True if the file is a checkpoint. What does it cost?")
    assert find_hits([text])[1] == []


if __name__ == "__main__":
    for name, (read, files) in TEXTS.items():
        words, hits = find_hits([text for file in files for text in read(file)])
        print(f"{1000 * len(hits) / words:5.1f} in 1,000: {name} ({len(hits)} in {words:,} words)")
        for file in files:
            words, hits = find_hits(read(file))
            named = any(Path(argument).resolve() in (file, *file.parents) for argument in sys.argv[1:])
            for kind, context in hits if named else []:
                print(f"    {file.relative_to(ROOT)}: {kind.split(':')[0]}: … {context} …")
