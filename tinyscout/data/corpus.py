"""Training text for a small model: this Python's standard library and this project's pages, or your own files.

The same version of Python gives the same texts in the same order on every machine.
"""
import os
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

HELD_OUT_ONE_IN = 20            # one file in 20 is held out for evaluation
MAX_GROUP_BYTES = {             # limits, since half the library is its tests, and encodings are tables of numbers
    "test": 3_000_000, "encodings": 100_000,
}
TEST_DIRS = {"test", "tests", "idle_test"}
EXCLUDED_DIRS = {"site-packages", "dist-packages", "__pycache__"}


class Corpus(NamedTuple):
    """Texts with their names, sorted by name; no text is in both lists."""

    train: list[tuple[str, str]]
    held_out: list[tuple[str, str]]


def load_corpus(source: str | os.PathLike | Iterable[str | os.PathLike] | None = None) -> Corpus:
    r"""Read all texts and split them into training texts and held-out texts.

    source   None for the standard library and this project's pages; or one or several paths of your own files and
             directories, from which every UTF-8 text that is not hidden is read
    Returns a Corpus.  About one file in twenty is held out, chosen by a hash of its name, so that it stays on its side
    of the split when other files are added or removed.  If there are too few files for that, the last twentieth of each
    file is held out instead.  Texts are kept exactly, except that \r is removed.
    Raises ValueError if no text is found, OSError or ValueError if a file in `source` cannot be read or is not text.
    """
    texts = sorted(_read_library() if source is None else _read_user_files(source))
    if not texts:
        raise ValueError("found no text to learn from: " + (
            "this Python does not have its standard library as files" if source is None
            else f"no UTF-8 file in {source}"))
    corpus = Corpus([], [])
    for name, text in texts:
        corpus[is_held_out(name)].append((name, text))
    return corpus if all(corpus) else _split_texts(texts)


def is_held_out(name):
    """True if the file of this name is held out for evaluation, by a hash of its name."""
    return crc32(name.encode()) % HELD_OUT_ONE_IN == 0


def _read_library():
    """(name, text) of the standard library, and of this project's pages if the package is in a source checkout."""
    root = Path(sysconfig.get_path("stdlib"))
    project = Path(__file__).parents[2]
    files = [(path.relative_to(root), path) for path in root.rglob("*.py")]
    files = [(name, path) for name, path in files if not EXCLUDED_DIRS & set(name.parts)]
    texts = [(f"python/{name.as_posix()}", text) for name, path in _limit_groups(files) if (text := _read_text(path))]
    if texts and (project / "pyproject.toml").is_file():
        texts += [(f"tinyscout/{path.relative_to(project).as_posix()}", text)
                  for path in [project / "README.md", *project.glob("docs/*.md")] if (text := _read_text(path))]
    return texts


def _limit_groups(files):
    """Select files within MAX_GROUP_BYTES by a hash of their names, the same on every machine."""
    groups: dict[str, list] = {}
    for name, path in files:
        group = "test" if TEST_DIRS & set(name.parts) else name.parts[0]
        groups.setdefault(group if group in MAX_GROUP_BYTES else "unlimited", []).append((name, path))
    selected = groups.pop("unlimited", [])
    for group, members in groups.items():
        members.sort(key=lambda member: (crc32(member[0].as_posix().encode()), member))
        sizes = accumulate(path.stat().st_size for _, path in members)
        selected += [member for member, size in zip(members, sizes, strict=True) if size <= MAX_GROUP_BYTES[group]]
    return selected


def _read_user_files(source) -> Iterator[tuple[str, str]]:
    """(name, text) of the user's files and directories."""
    for path in [Path(source)] if isinstance(source, str | os.PathLike) else map(Path, source):
        if path.is_dir():
            for file in path.rglob("*"):
                name = file.relative_to(path)
                is_hidden = any(part.startswith(".") or part in EXCLUDED_DIRS for part in name.parts)
                if not is_hidden and file.is_file() and (text := _read_text(file)):
                    yield name.as_posix(), text
        elif (text := _decode(path.read_bytes())) is None:
            raise ValueError(f"{path} is not UTF-8 text")
        elif text:
            yield path.name, text


def _read_text(path):
    """Read a file as text; None if it cannot be read or is not text."""
    try:
        return _decode(path.read_bytes())
    except OSError:
        return None


def _decode(data):
    try:
        return None if b"\0" in data else data.decode("utf-8").replace("\r", "")
    except UnicodeDecodeError:
        return None


def _split_texts(texts):
    """Split every text in two near its end, after a newline if possible."""
    corpus = Corpus([], [])
    for name, text in texts:
        end = len(text) - len(text) // HELD_OUT_ONE_IN
        edge = text.rfind("\n", len(text) // 2, end) + 1 or end
        corpus.train.append((name, text[:edge]))
        if text[edge:]:
            corpus.held_out.append((name, text[edge:]))
    return corpus
