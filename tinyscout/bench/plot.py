"""The whole models' figures, and those of a graphics card, as a picture."""
from tinyscout.bench import cuda
from tinyscout.bench.engines import PEERS


def plot(report, file):
    """A row for each group, a panel for each measurement, a bar for each contender with its slowest and fastest.

    report as models.measure makes it, with its summary; file path
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = report["summary"]
    panels = list(dict.fromkeys((row["what"], row["at"]) for row in rows))
    groups = list(report["groups"])
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(2.6 * len(panels), 2.3 * len(groups) + 0.3), layout="constrained")
        axes = figure.subplots(len(groups), len(panels), squeeze=False)
        for line, group in zip(axes, groups, strict=True):
            for axis, panel in zip(line, panels, strict=True):
                draw(axis, [row for row in rows if (row["group"], row["what"], row["at"]) == (group, *panel)])
                axis.set_title(f"{group}, {panel[0]} {panel[1]:,}", fontsize=9)
            line[0].set_ylabel("tokens a second")
        figure.savefig(file, dpi=110)


def draw(axis, rows):
    names, tops = [row["name"] for row in rows], [row["median"] for row in rows]
    spread = [[row["median"] - row["slowest"] for row in rows], [row["fastest"] - row["median"] for row in rows]]
    colours = ["0.7" if name in PEERS else "#b06a00" for name in names]
    bars = axis.bar(names, tops, yerr=spread, color=colours, ecolor="0.3", width=0.7)
    axis.bar_label(bars, [f"{top:.3g}" for top in tops], label_type="center", color="black")
    axis.tick_params(axis="x", rotation=20, length=0)


def plot_card(report, file):
    """A bar for each kernel and peer: what it reaches of copying or of cuBLAS, whichever is more, slowest to fastest.

    report as cuda.measure makes it; file path
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = report["summary"][::-1]                                      # the first at the top
    tops = [max(row["of bandwidth"], row["of peak"]) for row in rows]
    spread = [[top - top * row["median"] / row["slowest"] for top, row in zip(tops, rows, strict=True)],
              [top * row["median"] / row["fastest"] - top for top, row in zip(tops, rows, strict=True)]]
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 0.2 * len(rows) + 1), layout="constrained")
        axis = figure.subplots()
        axis.barh(range(len(rows)), tops, xerr=spread, ecolor="0.3",
                  color=["0.7" if row["name"] in cuda.PEERS else "#b06a00" for row in rows])
        axis.set_yticks(range(len(rows)), [f"{row['operation']}, {row['at']}: {row['name']}" for row in rows])
        axis.set_xlabel("of copying, or of the product of large matrices by cuBLAS, whichever is more")
        axis.set_title(f"{report['card']['card']}, CUDA {report['card']['CUDA']}", fontsize=9)
        figure.savefig(file, dpi=110)
