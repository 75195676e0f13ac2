"""The figures of the gallery: SVG, dark ink without a background, an alt text and a caption.

The style sheet puts light paper under them in both themes.  The caption is the figure's label, which an
example sets with `plt.subplots(num="...")`; in a window it is the title.
"""
import os
from pathlib import Path

INK = "#2b2d31"
DPI = 200           # of images inside a figure


def style(gallery_conf, fname):
    """Called by sphinx-gallery before each example, after it has put matplotlib's own defaults back."""
    import matplotlib

    matplotlib.rcParams.update({
        "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
        "figure.dpi": 110, "figure.constrained_layout.use": True, "svg.hashsalt": Path(fname).stem,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
        "axes.titlesize": "medium", "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": False, "grid.color": INK, "grid.alpha": 0.25,
        "legend.frameon": False, "legend.labelcolor": INK, "patch.edgecolor": "none",
    })


def scrape(block, block_vars, gallery_conf):
    """Called by sphinx-gallery after each block: write the open figures  ->  their reStructuredText."""
    from matplotlib import pyplot

    found = []
    for number, path in zip(pyplot.get_fignums(), block_vars["image_path_iterator"], strict=False):
        figure, path = pyplot.figure(number), Path(path).with_suffix(".svg")
        figure.savefig(path, dpi=DPI, metadata={"Date": None})
        source = Path(os.path.relpath(path, gallery_conf["src_dir"])).as_posix()
        found.append(f"\n.. figure:: /{source}\n   :alt: {describe(figure)}\n   :class: sphx-glr-single-img\n\n"
                     f"   {figure.get_label()}\n")
    pyplot.close("all")
    return "\n".join(found)


def describe(figure):
    """An alt text: what the panels, axes and curves of a figure are."""
    panels = [describe_panel(axes) for axes in figure.axes if axes.get_label() != "<colorbar>"]
    legend = [text.get_text() for box in figure.legends for text in box.get_texts()]
    panels = list(dict.fromkeys(panel for panel in panels if panel))
    return one_line("; ".join([*panels, *(["legend: " + ", ".join(legend)] if legend else [])]) or figure.get_label())


def describe_panel(axes):
    kind = "image" if axes.images else "bars" if axes.containers else "curves" if axes.lines else "drawing"
    x, y = axes.get_xlabel(), axes.get_ylabel()
    over = f"{y} against {x}" if x and y else x or y
    legend = axes.get_legend()
    labels = ", ".join(text.get_text() for text in legend.get_texts()) if legend else ""
    return ": ".join(part for part in (f"{axes.get_title()} ({kind})".strip(), over, labels) if part)


def one_line(text):
    return " ".join(text.split()).replace("\\", "\\\\").replace("*", r"\*").replace("|", r"\|")
