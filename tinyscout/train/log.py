"""Training output: a live status line, log.csv with one row per step, and a plot of it."""
import csv
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

COLUMNS = (             # of log.csv; losses are in nats per token
    "step", "seconds", "tokens", "lr", "grad_norm", "text", "text_accuracy", "needles", "needles_accuracy", "images",
    "images_accuracy", "patch_labels", "patch_labels_accuracy", "distill_loss", "held_out", "min_load", "max_load")
PRINT_EVERY = 10.0      # seconds between two lines if stderr is not a terminal


class CsvLog:
    """log.csv: a line for each step, with COLUMNS.  A run that resumes first removes the lines after its checkpoint."""

    def __init__(self, directory, done):
        self.path = Path(directory) / "log.csv"
        self.rows = [row for row in self.read() if int(row["step"]) <= done]
        self.rewrite()

    def read(self):
        """Read the complete lines of the file."""
        if not self.path.is_file():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdecimal()]

    def rewrite(self):
        scratch = self.path.with_suffix(".new")
        scratch.write_text("".join(map(to_csv_line, [dict(zip(COLUMNS, COLUMNS, strict=True)), *self.rows])),
                           encoding="utf-8")
        os.replace(scratch, self.path)

    def add(self, row):
        """Append a row: a dict by COLUMNS; missing values stay empty."""
        row = {name: format_value(row.get(name)) for name in COLUMNS}
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(to_csv_line(row))

    @property
    def seconds(self):
        """Training time so far, over all interruptions."""
        return float(self.rows[-1]["seconds"]) if self.rows else 0.0


def format_value(value):
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def to_csv_line(row):
    """Format a row as a line of CSV."""
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerow(row)
    return text.getvalue()


class ProgressLine:
    """A progress bar with the metrics on a terminal; otherwise a line every ten seconds."""

    def __init__(self, steps, done):
        self.steps, self.done, self.start_time, self.print_time = steps, done, monotonic(), 0.0
        self.bar = None
        if sys.stderr.isatty():
            self.bar = Progress(TextColumn("step"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
                                TimeRemainingColumn(), console=Console(stderr=True))
            self.task = self.bar.add_task("", total=steps, completed=done)

    def __enter__(self):
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *error):
        if self.bar:
            self.bar.stop()

    def show(self, row, tokens):
        """Show the metrics of a step.  row dict by COLUMNS, tokens int: number read since the run started or resumed"""
        step, seconds = row["step"], monotonic() - self.start_time
        text = format_summary(row, tokens / seconds if seconds else 0.0)
        if self.bar:
            self.bar.update(self.task, completed=step, description=text)
        elif step == self.steps or monotonic() - self.print_time > PRINT_EVERY:
            self.print_time = monotonic()
            left = seconds / max(1, step - self.done) * (self.steps - step)
            print(f"step {step}/{self.steps}  {text}  {seconds:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)


def format_summary(row, tokens_per_second):
    """Format the metrics of a step in a short line."""
    words = []
    if row.get("text") is not None:
        words.append(f"text {row['text']:.3f}")
    for name in ("needles", "images", "patch_labels"):
        if row.get(name) is not None:
            words.append(f"{name.replace('_', ' ')} {row[name]:.3f} ({row[f'{name}_accuracy']:.0%} right)")
    if row.get("max_load") is not None:
        words.append(f"experts {row['min_load']:.1%}-{row['max_load']:.1%}")
    return "  ".join([*words, f"{tokens_per_second:,.0f} tokens/s"])


def save_figure(path: Path, draw: Callable) -> bool:
    """Let draw(figure) plot, and write the figure to an image file; return False if matplotlib is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        draw(figure)
        figure.savefig(path, dpi=160)
    return True


def plot_log(figure, rows):
    """Plot the losses and accuracies over the steps.  rows of a CsvLog"""
    left, right = figure.subplots(1, 2)
    for axis, names, label in [
            (left, ("text", "held_out", "needles", "images", "patch_labels"), "nats per token"),
            (right, ("needles_accuracy", "images_accuracy", "patch_labels_accuracy"), "accuracy")]:
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
            if points:
                axis.plot(*zip(*smooth(points), strict=True), label=name.replace("_", " "), linewidth=1.2)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        if axis.lines:
            axis.legend(frameon=False)


def smooth(points, max_points=400):
    """Average neighbouring points, so that at most `max_points` points are left."""
    width = -(-len(points) // max_points)
    groups = [points[n:n + width] for n in range(0, len(points), width)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
