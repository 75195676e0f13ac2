"""Drawings of the book: each module of this folder has a function `draw() -> Canvas`, which the page calls.

Coordinates are pixels of an 830 pixel wide page, x to the right and y down.  Colours are classes of tinyscout.css, so
that a drawing follows the page's theme; `tint` 1 to 6 are six colours for things of different kinds.
"""
from html import escape
from zlib import crc32


class Canvas:
    """Collects the shapes of an SVG drawing.  Every method returns self, so calls can be chained."""

    def __init__(self, width, height, label):
        """width, height int: pixels; label str: what the drawing shows, for readers who cannot see it."""
        self.width, self.height, self.label = width, height, label
        self.parts = []
        self.tip = f"tip-{crc32(label.encode()):x}"     # an id must be unique on a page

    def rect(self, x, y, width, height, text="", tint=0, kind="box", radius=5):
        """A box with text in its middle, one line of it per line of `text`.

        kind str: "box" (filled), "frame" (outline only), "ghost" (dashed outline), "strong" (the colour of links)
        """
        self.parts.append(f'<rect class="{kind} t{tint}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
                          f'rx="{radius}"/>')
        lines = text.split("\n") if text else []
        for n, line in enumerate(lines):
            self.text(x + width / 2, y + height / 2 + 18 * (n - (len(lines) - 1) / 2) + 5, line, anchor="middle")
        return self

    def text(self, x, y, text, kind="", anchor="start"):
        """kind str: "" (code, 14 px), "note" (prose, 13 px, quiet), "title" (prose, bold), "small" (code, 11 px)"""
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(str(text))}</text>')
        return self

    def line(self, *points, tint=0, kind=""):
        """A line through points (x, y); kind str: "", "arrow" (a tip at the end), "dashed", "arrow dashed" """
        tip = f' marker-end="url(#{self.tip})"' if "arrow" in kind else ""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path class="line t{tint} {kind}" d="{path}"{tip}/>')
        return self

    def arrow(self, *points, tint=0):
        return self.line(*points, tint=tint, kind="arrow")

    def cells(self, x, y, rows, size=24, height=None):
        """A grid of boxes from rows of (text, tint), or None for an empty place; size float: pixels of a side."""
        height = height or size
        for r, row in enumerate(rows):
            for c, cell in enumerate(row):
                if cell is not None:
                    text, tint = cell
                    self.parts.append(f'<rect class="box t{tint}" x="{x + c * size:g}" y="{y + r * height:g}" '
                                      f'width="{size:g}" height="{height:g}"/>')
                    self.text(x + (c + 0.5) * size, y + (r + 0.5) * height + 4, text, "small", "middle")
        return self

    def curve(self, points, tint=0):
        """A line through many points, without tip: a graph."""
        return self.line(*points, tint=tint, kind="curve")

    def to_svg(self):
        marker = (f'<defs><marker id="{self.tip}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
                  'orient="auto"><path d="M0 0 L8 4 L0 8 z" class="tip"/></marker></defs>')
        size = f"max-width: {self.width}px; min-width: {0.8 * self.width:g}px"      # below, its box scrolls
        return (f'<svg viewBox="0 0 {self.width} {self.height}" style="{size}" role="img" '
                f'aria-label="{escape(self.label)}">{marker}{"".join(self.parts)}</svg>')
