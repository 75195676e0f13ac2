"""Plots of benchmark results: whole models, and the kernels of a GPU."""
from pathlib import Path

from tinyscout.bench import cuda
from tinyscout.bench.engines import EXTERNAL_ENGINES
from tinyscout.bench.formats import format_digits


def plot_models(report: dict, file: Path | str) -> None:
    """Plot a row for each group, a panel for each case, and a bar for each engine with its slowest and fastest.

    report of models.measure, with its summary
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = report["summary"]
    panels = list(dict.fromkeys((row["what"], row["at"]) for row in rows))
    groups = list(report["groups"])
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(2.6 * len(panels), 2.3 * len(groups) + 0.3), layout="constrained")
        axes = figure.subplots(len(groups), len(panels), squeeze=False)
        for row_axes, group in zip(axes, groups, strict=True):
            for axis, panel in zip(row_axes, panels, strict=True):
                draw_bars(axis, [row for row in rows if (row["group"], row["what"], row["at"]) == (group, *panel)])
                axis.set_title(f"{group}, {panel[0]} {panel[1]:,}", fontsize=9)
            row_axes[0].set_ylabel("tokens per second")
        figure.savefig(file, dpi=160)


def draw_bars(axis, rows):
    names, medians = [row["name"] for row in rows], [row["median"] for row in rows]
    spread = [[row["median"] - row["slowest"] for row in rows], [row["fastest"] - row["median"] for row in rows]]
    colours = ["0.8" if name in EXTERNAL_ENGINES else "#e0a040" for name in names]
    bars = axis.bar(names, medians, yerr=spread, color=colours, ecolor="0.3", width=0.7)
    axis.bar_label(bars, [format_digits(speed) for speed in medians], label_type="center", color="black")
    axis.tick_params(axis="x", rotation=20, length=0)


def plot_gpu(report: dict, file: Path | str) -> None:
    """Plot a bar for each kernel: its share of the speed of copying or of cuBLAS, whichever share is larger.

    report of cuda.measure
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = report["summary"][::-1]                                      # the first at the top
    shares = [max(row["of bandwidth"], row["of peak"]) for row in rows]
    spread = [[share - share * row["median"] / row["slowest"] for share, row in zip(shares, rows, strict=True)],
              [share * row["median"] / row["fastest"] - share for share, row in zip(shares, rows, strict=True)]]
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 0.2 * len(rows) + 1), layout="constrained")
        axis = figure.subplots()
        axis.barh(range(len(rows)), shares, xerr=spread, ecolor="0.3",
                  color=["0.7" if row["name"] in cuda.EXTERNAL else "#b06a00" for row in rows])
        axis.set_yticks(range(len(rows)), [f"{row['operation']}, {row['at']}: {row['name']}" for row in rows])
        axis.set_xlabel("share of the speed of copying, or of cuBLAS's product of large matrices, whichever is larger")
        axis.set_title(f"{report['card']['card']}, CUDA {report['card']['CUDA']}", fontsize=9)
        figure.savefig(file, dpi=160)
