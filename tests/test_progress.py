"""Progress bars: nothing for short work or where nobody looks, a bar for long work, and every item in any case."""
import io
import time

import pytest

from tinyscout import progress
from tinyscout.progress import Display, track


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def use_terminal(monkeypatch):
    """Make stderr a terminal, within a test: pytest sets its own stream before each."""
    screen = FakeTerminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    return screen


def test_short_work_is_silent(monkeypatch):
    screen = use_terminal(monkeypatch)
    assert list(track(range(5), "Counting")) == [0, 1, 2, 3, 4]
    assert "Counting" not in screen.getvalue()


def test_long_work_shows_a_bar_even_before_its_first_item_is_done(monkeypatch):
    screen = use_terminal(monkeypatch)
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
    use_terminal(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)

    def fail():
        yield 1
        raise KeyError

    with pytest.raises(KeyError):
        list(track(fail(), "Counting", 2))


def test_steps_are_silent_while_they_are_quick(monkeypatch):
    screen = use_terminal(monkeypatch)
    assert list(Display().track_steps(iter("abc"), "layers", 3)) == ["a", "b", "c"]
    assert screen.getvalue() == ""


def test_slow_steps_are_drawn_behind_the_cursor_and_taken_away(monkeypatch):
    """The text on the line stays: the cursor is saved, nothing wraps, and at the end all behind it is erased."""
    screen = use_terminal(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    for n in Display().track_steps(range(4), "layers", 4):
        drawn = screen.getvalue()
        assert f"layers {n}/4" in drawn
        assert "\n" not in drawn
        assert "\r" not in drawn
    last = screen.getvalue().rpartition("\x1b7")[2]
    assert last == "\x1b[?7l\x1b[K\x1b8\x1b[?7h"
    interrupted = Display().track_steps(range(4), "layers", 4)
    next(interrupted)
    interrupted.close()
    assert screen.getvalue().endswith(last)


def test_steps_within_a_loop_are_a_line_of_its_bar(monkeypatch):
    screen = use_terminal(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    display = Display()
    for n in display.track(range(2), "Counting"):
        bar = display.bar
        for _ in display.track_steps(range(3), "layers", 3) if n else display.track(range(3), "tiles"):
            time.sleep(0.15)
            assert display.bar is bar
            assert len(bar.tasks) == 2
        assert len(bar.tasks) == 1
    for what in ("Counting", "layers", "tiles"):
        assert what in screen.getvalue()
    assert display.bar is None


def test_one_piece_of_work_knows_nothing_of_another(monkeypatch):
    use_terminal(monkeypatch)
    outer, inner = Display(), Display()
    for _ in outer.track(range(2), "Counting"):
        assert inner.bar is None
    assert outer.bar is None


def test_each_call_of_track_has_its_own_display(monkeypatch):
    displays = []
    monkeypatch.setattr(progress, "Display", lambda: displays.append(Display()) or displays[-1])
    for _ in track(range(2), "Counting"):
        list(track(range(2), "Counting more"))
    assert len({id(display) for display in displays}) == 3


def test_steps_start_no_thread(monkeypatch):
    use_terminal(monkeypatch)
    monkeypatch.setattr("threading.Timer", None)
    assert list(Display().track_steps(range(3), "layers", 3)) == [0, 1, 2]
