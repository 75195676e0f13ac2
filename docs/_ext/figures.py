"""The look of every figure in the gallery: no background, and ink that reads on white and on black."""
INK = "#7b7b7b"


def style(gallery_conf, fname):
    """Called by sphinx-gallery before each example, after it has put matplotlib's own defaults back."""
    import matplotlib

    matplotlib.rcParams.update({
        "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
        "figure.dpi": 110, "figure.constrained_layout.use": True,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
        "axes.titlesize": "medium", "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": False, "grid.color": INK, "grid.alpha": 0.25,
        "legend.frameon": False, "legend.labelcolor": INK, "patch.edgecolor": "none",
    })
