"""Progress bars for long loops; a short loop shows none."""
import sys
import threading
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 2.0      # seconds of work before a bar appears
WIDTH = 24          # characters of the small bar


def track(items, what, total=None):
    """Yield from `items`; if that takes longer than two seconds, show a bar on the terminal's stderr.

    items iterable, what str, total int or None for len(items)
    """
    return Display().track(items, what, total)


class Display:
    """The progress display of one task: a bar for its loop and, below it, a line for each loop inside it."""

    def __init__(self):
        self.bar: Any = None            # of the outermost loop that is running

    def track(self, items, what, total=None):
        """Yield from `items` like the function `track`; inside another loop of this display, add a line to its bar."""
        total = len(items) if total is None else total
        if not sys.stderr.isatty():
            yield from items
        elif self.bar is not None:
            yield from self._add_line(items, what, total)
        else:
            yield from self._show_bar(items, what, total)

    def track_steps(self, items, what, total):
        """Yield from `items` like `track`, for loops that run hundreds of times a second.

        The clock is checked between items, not in a thread.  Outside a loop of this display, the cursor may be in the
        middle of a line, so a small bar is drawn after it and erased at the end.
        """
        if not sys.stderr.isatty():
            yield from items
        elif self.bar is not None:
            yield from self._add_line(items, what, total)
        else:
            yield from _draw_after_cursor(items, what, total)

    def _show_bar(self, items, what, total):
        bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                       console=Console(stderr=True), transient=True)
        task = bar.add_task(what, total=total)
        late = threading.Timer(PATIENCE, bar.start)     # a thread, since the first item alone may take minutes
        late.daemon = True
        late.start()
        self.bar = bar
        try:
            for item in items:
                yield item
                bar.advance(task)
        finally:
            self.bar = None
            late.cancel()
            late.join()
            bar.stop()

    def _add_line(self, items, what, total):
        bar: Progress = self.bar
        task = bar.add_task(what, total=total)
        try:
            for item in items:
                yield item
                bar.advance(task)
        finally:
            bar.remove_task(task)


def _draw_after_cursor(items, what, total):
    start, is_drawn = perf_counter(), False
    try:
        for n, item in enumerate(items):
            if perf_counter() - start > PATIENCE:
                is_drawn, filled = True, n * WIDTH // total
                show_after_cursor(f" {'━' * filled}{'╌' * (WIDTH - filled)} {what} {n}/{total}")
            yield item
    finally:
        if is_drawn:
            show_after_cursor("")


def show_after_cursor(text):
    """Show a text to the right of the cursor without moving it; the part that does not fit on the line is cut off."""
    save, restore, erase, wrap, do_not_wrap = "\x1b7", "\x1b8", "\x1b[K", "\x1b[?7h", "\x1b[?7l"
    sys.stderr.write(f"{save}{do_not_wrap}{erase}{text}{restore}{wrap}")
    sys.stderr.flush()
