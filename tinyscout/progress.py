"""A progress bar for long work, silent for short."""
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 2.0      # seconds of work before a bar appears


def track(items, what, total=None):
    """Yield from `items`; where that takes longer than two seconds, show a bar on the terminal's stderr.

    items iterable, what str, total int or None for len(items)
    """
    total = len(items) if total is None else total
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task(what, total=total)
    begun, shown = time.monotonic(), False
    try:
        for item in items:
            if not shown and time.monotonic() - begun > PATIENCE:
                bar.start()
                shown = True
            yield item
            bar.advance(task)
    finally:
        bar.stop()
