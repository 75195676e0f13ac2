"""The losses and accuracies of scout-mini's training, from the log in docs/scout-mini."""
import csv
from pathlib import Path

from drawings import Canvas
from drawings.graph import Graph, legend
from tinyscout.train import PRESETS

LOG = Path(__file__).parents[1] / "scout-mini" / "log.csv"
DEPENDS_ON = [LOG]
MEAN_OF = 50        # steps
TINTS = {"text": 2, "needles": 1, "images": 3, "patch labels": 4}


def read_means(column):
    """[(step, mean)] of every MEAN_OF steps."""
    with open(LOG, newline="", encoding="utf-8") as file:
        rows = [(int(row["step"]), float(row[column])) for row in csv.DictReader(file) if row[column]]
    groups = [rows[n:n + MEAN_OF] for n in range(0, len(rows), MEAN_OF)]
    return [tuple(sum(values) / len(group) for values in zip(*group, strict=True)) for group in groups]


def draw():
    _, recipe = PRESETS["scout-mini"]
    starts = [round(until * recipe.steps) for until, _ in recipe.stages[:-1]]
    canvas = Canvas(520, 500, "Two graphs over the steps of scout-mini's training: losses that fall and accuracies "
                              "that rise, with a jump where a stage of the curriculum begins")
    panels = [("nats per token", 44, "", (0, 7), {n: str(n) for n in range(0, 8, 2)}),
              ("correct", 270, "_accuracy", (0, 1), {0: "0%", 0.5: "50%", 1: "100%"})]
    for title, top, suffix, y, ticks in panels:
        canvas.text(14, top - (30 if not suffix else 14), title, "note")
        graph = Graph(canvas, 60, top, 440, 170, (0, recipe.steps), y)
        for start in starts:
            graph.mark_x(start)
        for name, tint in TINTS.items():
            graph.curve(read_means(name.replace(" ", "_") + suffix), tint)
        graph.y_ticks(ticks).x_ticks({value: f"{value:,}" for value in (0, *starts, recipe.steps)})
        for n, (begin, end) in enumerate(zip((0, *starts), (*starts, recipe.steps), strict=True)):
            if not suffix:
                canvas.text(graph.place_x((begin + end) / 2), top - 6, f"stage {n + 1}", "note", "middle")
    for n, (name, tint) in enumerate(TINTS.items()):
        legend(canvas, 60 + 108 * n, 482, {name: tint})
    return canvas
