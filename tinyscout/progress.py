"""A progress bar for long work, silent for short."""
import sys
import threading

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 2.0      # seconds of work before a bar appears


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
    try:
        for item in items:
            yield item
            bar.advance(task)
    finally:
        late.cancel()
        late.join()
        bar.stop()
