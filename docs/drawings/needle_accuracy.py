"""Facts that the laboratory's models find, against the length of the text, from the reports in docs/laboratory."""
import json
from collections import defaultdict
from pathlib import Path

from drawings import Canvas
from drawings.graph import Graph, legend
from tinyscout.eval.needle import wilson_interval
from tinyscout.train import PRESETS

DIRECTORY = Path(__file__).parents[1] / "laboratory"
DEPENDS_ON = sorted(DIRECTORY.glob("*.json"))
CURVES = {      # label: preset, jobs of measure.py, colour, line style
    "iRoPE": ("laboratory", "needles hundred million far", 3, "curve"),
    "iRoPE without temperature": ("laboratory", "flat million-flat far-flat", 1, "dashed"),
    "RoPE in every layer": ("laboratory-rope", "needles", 4, "curve"),
    "RoPE without chunks, NoPE last": ("laboratory-nope-unchunked", "needles", 2, "curve"),
    "chunks, RoPE last": ("laboratory-rope-global", "needles", 5, "curve"),
}


def read_rows(preset, jobs):
    """All rows of a preset's reports, of every seed."""
    files = [file for job in jobs.split() for name in (preset, f"{preset}-seed-*")
             for file in sorted(DIRECTORY.glob(f"{name}.{job}.json"))]
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]


def count(preset, jobs):
    """{length: (correct, asked)}, all seeds together, in order."""
    counts = defaultdict(lambda: [0, 0])
    for row in read_rows(preset, jobs):
        counts[row["context"]][0] += row["correct"]
        counts[row["context"]][1] += row["asked"]
    return {length: tuple(counts[length]) for length in sorted(counts)}


def draw():
    trained = max(length for _, length in PRESETS["laboratory"][1].row_length)
    canvas = Canvas(520, 400, "The share of facts found, from 512 to ten million tokens: iRoPE finds nearly all; "
                              "without temperature the share falls from a million on; the other plans find almost "
                              "none from a few thousand tokens on")
    canvas.text(14, 18, "facts found", "note")
    graph = Graph(canvas, 60, 34, 440, 200, (400, 13_000_000), (0, 1), log_x=True)
    graph.mark_x(trained)
    for preset, jobs, tint, kind in CURVES.values():
        counts = count(preset, jobs)
        graph.curve([(length, correct / asked) for length, (correct, asked) in counts.items()], tint, kind)
        for length, (correct, asked) in counts.items():
            graph.bar(length, *wilson_interval(correct, asked), tint)
        graph.dots([(length, correct / asked) for length, (correct, asked) in counts.items()], tint)
    graph.y_ticks({0: "0%", 0.5: "50%", 1: "100%"})
    graph.x_ticks({512: "512", 4096: "4,096", 51_200: "51,200", 1 << 20: "1 million", 10 << 20: "10 million"})
    canvas.text(280, 270, "tokens of text; dashed line: the longest row of the training", "note", "middle")
    return legend(canvas, 70, 300, {name: tint for name, (_, _, tint, _) in CURVES.items()},
                  {name: kind for name, (_, _, _, kind) in CURVES.items()})
