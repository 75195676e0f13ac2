"""Progress bars: nothing for short work or where nobody looks, a bar for long work, and every item in any case."""
import io
import time

import pytest

from tinyscout import progress
from tinyscout.progress import track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Makes stderr a terminal, from within a test: pytest puts its own stream there before each."""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    return screen


def test_short_work_is_silent(monkeypatch):
    screen = terminal(monkeypatch)
    assert list(track(range(5), "Counting")) == [0, 1, 2, 3, 4]
    assert "Counting" not in screen.getvalue()


def test_long_work_shows_a_bar_even_before_its_first_item_is_done(monkeypatch):
    screen = terminal(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    for n in track(range(2), "Counting"):
        if n == 0:
            time.sleep(0.3)
            assert "Counting" in screen.getvalue()
    assert "2/2" in screen.getvalue()


def test_a_pipe_gets_nothing(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert list(track(iter("ab"), "Counting", 2)) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_a_failure_comes_through(monkeypatch):
    terminal(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)

    def failing():
        yield 1
        raise KeyError

    with pytest.raises(KeyError):
        list(track(failing(), "Counting", 2))
