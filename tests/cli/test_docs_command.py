"""`tinyscout docs`: when it builds, what it opens, and what it says if something is missing."""
import os
from types import SimpleNamespace

import pytest

from tinyscout.cli import docs, main


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A checkout with a book that was just built; notes of what is run and opened."""
    for path in ("docs/conf.py", "docs/norm.md", "docs/gallery/new.rst", "docs/_build/index.html",
                 "docs/_build/_static/search_texts.js", "examples/01.py", "csrc/c/norm.c", "tinyscout/norm.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    notes = SimpleNamespace(root=tmp_path, runs=[], opened=[], returncode=0, has_browser=True)
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "NEEDED", ())
    monkeypatch.setattr(docs.subprocess, "run", lambda command, **_: (
        notes.runs.append(command), SimpleNamespace(returncode=notes.returncode))[1])
    monkeypatch.setattr(docs.webbrowser, "open", lambda uri: (notes.opened.append(uri), notes.has_browser)[1])
    make_old(tmp_path / "docs/_build/_static/search_texts.js", seconds=-60)
    return notes


def make_old(path, seconds):
    time = path.stat().st_mtime - seconds
    os.utime(path, (time, time))


def test_a_built_book_is_opened(book):
    assert main(["docs"]) == 0
    assert book.opened == [(book.root / "docs/_build/index.html").as_uri()]
    assert not book.runs


@pytest.mark.parametrize("source", ["docs/norm.md", "examples/01.py", "csrc/c/norm.c", "tinyscout/norm.py"])
def test_it_is_built_if_a_source_is_newer(source, book):
    make_old(book.root / source, seconds=-120)
    assert main(["docs"]) == 0
    assert len(book.runs) == len(book.opened) == 1


def test_it_is_built_if_it_is_absent(book):
    (book.root / "docs/_build/index.html").unlink()
    assert main(["docs"]) == 0
    [command] = book.runs
    assert command[1:3] == ["-m", "sphinx"]
    assert command[-2:] == [str(book.root / "docs"), str(book.root / "docs/_build")]


def test_build_opens_nothing(book):
    assert main(["docs", "--build"]) == 0
    assert len(book.runs) == 1
    assert not book.opened


def test_the_path_is_printed(book, capsys):
    assert main(["docs", "--print-path"]) == 0
    assert capsys.readouterr().out.strip() == str(book.root / "docs/_build/index.html")
    assert not book.opened


def test_without_a_browser_the_path_is_printed_as_an_error(book, capsys):
    book.has_browser = False
    assert main(["docs"]) == 1
    assert "index.html" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "message"), [
    (lambda book, patch: (book.root / "docs/conf.py").unlink(), "clone of the repository"),
    (lambda book, patch: patch.setattr(docs, "NEEDED", ("no_such_package",)), "pip install '.[docs]'"),
    (lambda book, patch: setattr(book, "returncode", 2), "could not build")])
def test_what_is_missing_is_said_in_a_line(change, message, book, monkeypatch, capsys):
    change(book, monkeypatch)
    assert main(["docs", "--build"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert lines[-1].startswith("tinyscout: ")
