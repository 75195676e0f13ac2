"""What one sees of a training: a live line, a line of the log for every step, and a picture of the log."""
import csv
import io
import os
import sys
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# of log.csv
COLUMNS = ("step", "seconds", "tokens", "rate", "norm", "text", "text_right", "needles", "needles_right", "pictures",
           "pictures_right", "spots", "spots_right", "soft", "held_out", "least_load", "most_load")
PRINT_EVERY = 10.0            # seconds between two lines where nobody watches a terminal


class CsvLog:
    """log.csv: a line for each step, in the order of COLUMNS.  A run that goes on cuts off what it will do again."""

    def __init__(self, directory, done):
        self.path = Path(directory) / "log.csv"
        self.rows = [row for row in self.read() if int(row["step"]) <= done]
        self.rewrite()

    def read(self):
        """The lines that are whole."""
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
        """row dict by COLUMNS; what is missing stays empty."""
        row = {name: format_value(row.get(name)) for name in COLUMNS}
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(to_csv_line(row))

    @property
    def seconds(self):
        """How long the training has run so far, all its parts together."""
        return float(self.rows[-1]["seconds"]) if self.rows else 0.0


def format_value(value):
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def to_csv_line(row):
    """A row as a line of CSV."""
    text = io.StringIO()
    csv.DictWriter(text, COLUMNS, lineterminator="\n").writerow(row)
    return text.getvalue()


class ProgressLine:
    """A bar with what matters beside it on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, steps, done):
        self.steps, self.begun, self.done, self.said = steps, monotonic(), done, 0.0
        self.bar = None
        if sys.stderr.isatty():
            self.bar = Progress(TextColumn("step"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
                                TimeRemainingColumn(), console=Console(stderr=True))
            self.task = self.bar.add_task("", total=steps, completed=done)

    def __enter__(self):
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *failed):
        if self.bar:
            self.bar.stop()

    def show(self, row, tokens):
        """row dict by COLUMNS; tokens int: how many were read since the training began or went on."""
        step, passed = row["step"], monotonic() - self.begun
        words = format_summary(row, tokens / passed if passed else 0.0)
        if self.bar:
            self.bar.update(self.task, completed=step, description=words)
        elif step == self.steps or monotonic() - self.said > PRINT_EVERY:
            self.said = monotonic()
            left = passed / max(1, step - self.done) * (self.steps - step)
            print(f"step {step}/{self.steps}  {words}  {passed:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)


def format_summary(row, speed):
    """The figures of a step in a few words."""
    words = []
    if row.get("text") is not None:
        words.append(f"text {row['text']:.3f}")
    for name in ("needles", "pictures", "spots"):
        if row.get(name) is not None:
            words.append(f"{name} {row[name]:.3f} ({row[f'{name}_right']:.0%} right)")
    if row.get("most_load") is not None:
        words.append(f"experts {row['least_load']:.1%}-{row['most_load']:.1%}")
    return "  ".join([*words, f"{speed:,.0f} tokens/s"])


def plot(rows, file):
    """The losses and the part that is right, over steps.  rows of a Log, file path.  False without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axis, names, label in [(left, ("text", "held_out", "needles", "pictures", "spots"), "nats a token"),
                                   (right, ("needles_right", "pictures_right", "spots_right"), "right")]:
            for name in names:
                points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
                if points:
                    axis.plot(*zip(*smooth(points), strict=True), label=name.replace("_", " "), linewidth=1.2)
            axis.set_xlabel("step")
            axis.set_ylabel(label)
            if axis.lines:
                axis.legend(frameon=False)
        figure.savefig(file, dpi=110)
    return True


def smooth(points, most=400):
    """Means of neighbours, so that at most `most` points are left."""
    width = -(-len(points) // most)
    groups = [points[n:n + width] for n in range(0, len(points), width)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
