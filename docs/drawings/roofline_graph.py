"""The roofline of a benchmark run, and the operations that were measured in it, from its JSON file."""
import json
from math import log10
from pathlib import Path

from drawings import Canvas
from drawings.graph import Graph
from tinyscout.bench.operations import float32_peak

RUNS = Path(__file__).parents[1] / "benchmarks"
RUN = sorted(RUNS.glob("*-operations-cpu.json"))[-1]
DEPENDS_ON = [RUN]
INTENSITY, RATE = (0.3, 700), (0.3e9, 900e9)    # FLOP per byte and FLOP/s, from edge to edge
OURS, NUMPY, STAIRS = 1, 2, 3                   # tints
POINTS = {      # (operation, name, rows or tokens): (label, tint, where the label is, its shift down)
    ("linear float32", "numpy", "1"): ("NumPy", NUMPY, "start", -7),
    ("linear float32", "c", "1"): ("float32", OURS, "start", 2),
    ("linear bfloat16", "c", "1"): ("bfloat16", OURS, "middle", 15),
    ("linear int8", "c", "1"): ("int8", OURS, "middle", 15),
    ("linear int4", "c", "1"): ("int4", OURS, "middle", 15),
    ("attention decode", "c", "1"): ("attention", OURS, "middle", 15),
    ("attention prefill", "c", "512"): ("attention", OURS, "middle", 15),
    ("linear float32", "c linear_1", "512"): ("linear_1", STAIRS, "start", 0),
    ("linear float32", "c linear_2", "512"): ("linear_2", STAIRS, "start", 0),
    ("linear float32", "numpy", "512"): ("NumPy", NUMPY, "start", 2),
    ("linear float32", "c linear_3", "512"): ("linear_3", STAIRS, "start", 10),
}
ASIDE = {"start": 8, "middle": 0, "end": -8}    # pixels from a point to its label


def draw_roof(graph, bandwidth, peak):
    corner = peak / bandwidth
    low, high = INTENSITY
    graph.curve([(low, log10(low * bandwidth)), (corner, log10(peak)), (high, log10(peak))], 0)
    graph.mark_x(corner)
    x, y = graph.place(corner, log10(peak))
    graph.canvas.text(x + 10, y - 9, f"roof: {peak / 1e9:.0f} GFLOP/s", "note")
    graph.canvas.text(graph.left + 8, y + 22, f"slope: {bandwidth / 1e9:.0f} GB/s", "note")
    bottom = graph.top + graph.height
    middle = graph.place_x(corner)
    graph.canvas.text(middle - 8, bottom - 8, "memory-bound", "note", "end")
    return graph.canvas.text(middle + 8, bottom - 8, "compute-bound", "note")


def draw_points(graph, samples):
    for (operation, name, rows), (label, tint, anchor, down) in POINTS.items():
        row = next((row for row in samples if (row["operation"], row["name"]) == (operation, name)
                    and row["at"].split()[0] == rows), None)
        if row is None:
            continue
        seconds = sorted(row["seconds"])[len(row["seconds"]) // 2]
        x, y = row["flops"] / row["bytes"], log10(row["flops"] / seconds)
        graph.dots([(x, y)], tint)
        x, y = graph.place(x, y)
        graph.canvas.text(x + ASIDE[anchor], y + 4 + down, label, "small", anchor)


def draw():
    run = json.loads(RUN.read_text(encoding="utf-8"))
    samples = run["operations"]["samples"]
    bandwidth, peak = run["limits"]["read bytes per second"], float32_peak(samples, run["limits"])
    canvas = Canvas(600, 430, f"Operations per second over operations per byte: a slope of {bandwidth / 1e9:.0f} GB/s "
                    f"that ends at a roof of {peak / 1e9:.0f} GFLOP/s, and the measured operations below it")
    graph = Graph(canvas, 56, 30, 536, 344, INTENSITY, tuple(log10(rate) for rate in RATE), log_x=True)
    graph.x_ticks({value: f"{value:g}" for value in (1, 10, 100)})
    graph.y_ticks({log10(value * 1e9): f"{value:g}" for value in (1, 10, 100)})
    canvas.text(2, 18, "GFLOP/s", "note").text(324, 412, "operations per byte", "note", "middle")
    draw_roof(graph, bandwidth, peak)
    draw_points(graph, samples)
    return canvas
