"""Plot what measure.py wrote: facts found against the length of the text, and the loss against the position in it.

    python docs/laboratory/draw.py          writes laboratory.png next to this file, for README.md
"""
import json
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tinyscout.eval.needle import wilson_interval

DIRECTORY = Path(__file__).resolve().parent
CURVES = {      # a preset and its jobs of measure.py, needle and nll: label, colour and line style
    ("laboratory", "needles hundred million far", "nll"): ("iRoPE", "#b06a00", "-"),
    ("laboratory", "flat million-flat far-flat", "nll-flat"): ("without temperature", "#b06a00", ":"),
    ("laboratory-rope", "needles", "nll"): ("RoPE everywhere", "#7a2e8e", "-"),
    ("laboratory-nope-unchunked", "needles", "nll"): ("RoPE unchunked, NoPE last", "#2f6f4f", "-"),
    ("laboratory-rope-global", "needles", "nll"): ("chunks, then global RoPE", "#2b5d9b", "-"),
    ("laboratory-qk-nope", "needles hundred", "nll"): ("keys normed in NoPE too", "0.45", "--"),
}


def read_rows(preset, jobs):
    """All rows of a preset's reports, of every seed."""
    files = [file for job in jobs.split() for name in (preset, f"{preset}-seed-*")
             for file in sorted(DIRECTORY.glob(f"{name}.{job}.json"))]
    return [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]


def plot_accuracy(axis, preset, jobs, label, colour, style):
    """Shares of all seeds' queries that were answered correctly at each length, with their intervals."""
    counts = defaultdict(lambda: [0, 0])
    for row in read_rows(preset, jobs):
        counts[row["context"]][0] += row["correct"]
        counts[row["context"]][1] += row["asked"]
    lengths = sorted(counts)
    shares = np.array([counts[length][0] / counts[length][1] for length in lengths])
    ends = np.array([wilson_interval(*counts[length]) for length in lengths]).reshape(-1, 2).T
    axis.errorbar(lengths, shares, np.maximum(np.abs(ends - shares), 0), color=colour, linestyle=style, marker="o",
                  markersize=3, capsize=2, linewidth=1.2, label=label)


def plot_loss(axis, preset, job, label, colour, style):
    """Nats per byte beyond those of a fresh window, the mean of all seeds."""
    differences = defaultdict(list)
    for row in read_rows(preset, job):
        differences[row["from"], row["to"]].append(row["difference"])
    middles = [(low + high) / 2 for low, high in sorted(differences)]
    axis.plot(middles, [np.mean(differences[ends]) for ends in sorted(differences)], style, color=colour, marker="o",
              markersize=3, linewidth=1.2, label=label)


def draw():
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for (preset, needle_jobs, nll_job), look in CURVES.items():
        plot_accuracy(left, preset, needle_jobs, *look)
        plot_loss(right, preset, nll_job, *look)
    left.set(xscale="log", ylim=(-0.03, 1.03), xlabel="tokens of text", ylabel="facts found")
    right.set(xscale="log", xlabel="position in the text", ylabel="nats per byte more than in a fresh window")
    left.axvline(512, color="0.7", linewidth=0.8)
    right.axvline(512, color="0.7", linewidth=0.8)
    right.legend(fontsize=7, loc="upper left")
    figure.savefig(DIRECTORY / "laboratory.png", dpi=160)


if __name__ == "__main__":
    draw()
