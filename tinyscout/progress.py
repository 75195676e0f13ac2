"""A progress bar for long work, silent for short."""
import sys
import threading
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 2.0      # seconds of work before a bar appears
WIDTH = 24          # characters of the small bar
bars: list = []     # those of the loops under way, the innermost last


def track(items, what, total=None):
    """Yield from `items`; where that takes longer than two seconds, show a bar on the terminal's stderr.

    items iterable, what str, total int or None for len(items)
    """
    if not sys.stderr.isatty():
        yield from items
        return
    total = len(items) if total is None else total
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=total)
    late = threading.Timer(PATIENCE, bar.start)     # a thread, since the first item alone may take minutes
    late.daemon = True
    late.start()
    bars.append(bar)
    try:
        for item in items:
            yield item
            bar.advance(task)
    finally:
        bars.remove(bar)
        late.cancel()
        late.join()
        bar.stop()


def track_steps(items, what, total):
    """Yield from `items` as `track` does, for work that is repeated hundreds of times a second.

    No thread looks at the clock: that is done between the items.  Within a loop of `track` its bar gets another line.
    Elsewhere somebody may be in the middle of a line, and the bar is drawn behind the cursor and taken away again.
    """
    if not sys.stderr.isatty():
        yield from items
    elif bars:
        task = bars[-1].add_task(what, total=total)
        try:
            for item in items:
                yield item
                bars[-1].advance(task)
        finally:
            bars[-1].remove_task(task)
    else:
        yield from _drawn_behind(items, what, total)


def _drawn_behind(items, what, total):
    begun, drawn = perf_counter(), False
    try:
        for n, item in enumerate(items):
            if perf_counter() - begun > PATIENCE:
                drawn, full = True, n * WIDTH // total
                show_after_cursor(f" {'━' * full}{'╌' * (WIDTH - full)} {what} {n}/{total}")
            yield item
    finally:
        if drawn:
            show_after_cursor("")


def show_after_cursor(text):
    """Show a text to the right of the cursor, which stays; what does not fit on the line is cut off."""
    save, restore, erase, wrap, do_not_wrap = "\x1b7", "\x1b8", "\x1b[K", "\x1b[?7h", "\x1b[?7l"
    sys.stderr.write(f"{save}{do_not_wrap}{erase}{text}{restore}{wrap}")
    sys.stderr.flush()
