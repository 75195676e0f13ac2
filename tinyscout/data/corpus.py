"""The text that a small model learns: the standard library of this Python and this project's own pages, or your own.

The same interpreter gives the same texts in the same order, wherever it is installed.
"""
import os
import sysconfig
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

HELD_OUT = 20                   # one file in so many is kept for tests
CAPS = {                        # bytes at most: half the library is its tests, and encodings are tables of numbers
    "test": 3_000_000, "encodings": 100_000,
}
TESTS = {"test", "tests", "idle_test"}
FOREIGN = {"site-packages", "dist-packages", "__pycache__"}


class Corpus(NamedTuple):
    """Texts with their names, in order of the names; no text is in both lists."""

    train: list[tuple[str, str]]
    held_out: list[tuple[str, str]]


def load_corpus(source=None):
    r"""Reads all texts and divides them.

    source   None for the standard library and this project's pages; or a path, or a list of paths, of files and
             directories of your own, of which every UTF-8 text is taken, but nothing hidden
    Returns a Corpus.  About a file in twenty is held out, chosen by a hash of its name, so that it stays where it is
    when others come or go.  Where the files are too few for that, each is cut and its last twentieth held out.
    Texts are kept exactly, but for \r.
    Raises ValueError where there is no text, OSError or ValueError for a file named by `source` that is none.
    """
    texts = sorted(_library() if source is None else _user_files(source))
    if not texts:
        raise ValueError("there is no text to learn from: " + (
            "this Python has no standard library as files" if source is None else f"no UTF-8 file in {source}"))
    corpus = Corpus([], [])
    for name, text in texts:
        corpus[is_held_out(name)].append((name, text))
    return corpus if all(corpus) else _cut(texts)


def is_held_out(name):
    """Is the file of this name for tests only?  A hash of the name decides: bool."""
    return crc32(name.encode()) % HELD_OUT == 0


def _library():
    """(name, text) of the standard library and of this project's pages where its source is."""
    root = Path(sysconfig.get_path("stdlib"))
    pages = Path(__file__).parents[2]
    found = [(path.relative_to(root), path) for path in root.rglob("*.py")]
    found = [(name, path) for name, path in found if not FOREIGN & set(name.parts)]
    texts = [(f"python/{name.as_posix()}", text) for name, path in _capped(found) if (text := _read(path))]
    if texts and (pages / "pyproject.toml").is_file():
        texts += [(f"tinyscout/{path.relative_to(pages).as_posix()}", text)
                  for path in [pages / "README.md", *pages.glob("docs/*.md")] if (text := _read(path))]
    return texts


def _capped(found):
    """Leaves out what is beyond CAPS: which files stay is decided by a hash of their names, as on every machine."""
    groups: dict[str, list] = {}
    for name, path in found:
        group = "test" if TESTS & set(name.parts) else name.parts[0]
        groups.setdefault(group if group in CAPS else "free", []).append((name, path))
    kept = groups.pop("free", [])
    for group, members in groups.items():
        members.sort(key=lambda member: (crc32(member[0].as_posix().encode()), member))
        sizes = accumulate(path.stat().st_size for _, path in members)
        kept += [member for member, size in zip(members, sizes, strict=True) if size <= CAPS[group]]
    return kept


def _user_files(source):
    """(name, text) of what the user named."""
    for path in [Path(source)] if isinstance(source, str | os.PathLike) else map(Path, source):
        if path.is_dir():
            for file in path.rglob("*"):
                name = file.relative_to(path)
                hidden = any(part.startswith(".") or part in FOREIGN for part in name.parts)
                if not hidden and file.is_file() and (text := _read(file)):
                    yield name.as_posix(), text
        elif (text := _text(path.read_bytes())) is None:
            raise ValueError(f"{path} is no text in UTF-8")
        elif text:
            yield path.name, text


def _read(path):
    """The text of a file, or None where it cannot be read as text."""
    try:
        return _text(path.read_bytes())
    except OSError:
        return None


def _text(data):
    try:
        return None if b"\0" in data else data.decode("utf-8").replace("\r", "")
    except UnicodeDecodeError:
        return None


def _cut(texts):
    """Every text cut in two, near its end and where a line ends, if one does."""
    corpus = Corpus([], [])
    for name, text in texts:
        most = len(text) - len(text) // HELD_OUT
        edge = text.rfind("\n", len(text) // 2, most) + 1 or most
        corpus.train.append((name, text[:edge]))
        if text[edge:]:
            corpus.held_out.append((name, text[edge:]))
    return corpus
