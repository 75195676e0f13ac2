"""A graph on a canvas: two axes with ticks, and curves in the coordinates of the data."""
import math


class Graph:
    """Axes in a rectangle of a Canvas."""

    def __init__(self, canvas, left, top, width, height, x, y, log_x=False):
        """left, top, width, height float: the rectangle in pixels; x, y (first, last) values on the axes"""
        self.canvas, self.left, self.top, self.width, self.height = canvas, left, top, width, height
        self.x, self.y, self.log_x = x, y, log_x
        canvas.line((left, top), (left, top + height), (left + width, top + height))

    def place_x(self, value):
        value, first, last = (math.log(v) if self.log_x else v for v in (value, *self.x))
        return self.left + self.width * (value - first) / (last - first)

    def place_y(self, value):
        first, last = self.y
        return self.top + self.height * (last - value) / (last - first)

    def place(self, x, y):
        return self.place_x(x), self.place_y(y)

    def x_ticks(self, ticks):
        """ticks {value: text}"""
        bottom = self.top + self.height
        for value, text in ticks.items():
            self.canvas.line((self.place_x(value), bottom), (self.place_x(value), bottom + 4))
            self.canvas.text(self.place_x(value), bottom + 19, text, "note", "middle")
        return self

    def y_ticks(self, ticks):
        """ticks {value: text}"""
        for value, text in ticks.items():
            self.canvas.line((self.left - 4, self.place_y(value)), (self.left, self.place_y(value)))
            self.canvas.text(self.left - 8, self.place_y(value) + 4, text, "note", "end")
        return self

    def mark_x(self, value):
        """A dashed vertical line."""
        x = self.place_x(value)
        self.canvas.line((x, self.top), (x, self.top + self.height), kind="dashed")
        return self

    def curve(self, points, tint, kind="curve"):
        """points [(x, y)]; what lies above the graph is drawn at its upper edge."""
        self.canvas.line(*(self.place(x, min(max(y, self.y[0]), self.y[1])) for x, y in points), tint=tint, kind=kind)
        return self

    def dots(self, points, tint):
        for x, y in points:
            self.canvas.rect(self.place_x(x) - 3, self.place_y(y) - 3, 6, 6, tint=tint, radius=3)
        return self

    def bar(self, x, low, high, tint):
        """An interval, as a vertical line."""
        self.canvas.line(self.place(x, low), self.place(x, high), tint=tint)
        return self


def legend(canvas, left, top, names, kinds=None):
    """A line of each colour and its name, one below the other.  names {text: tint}, kinds {text: kind of its line}"""
    for n, (name, tint) in enumerate(names.items()):
        y = top + 18 * n
        canvas.line((left, y), (left + 22, y), tint=tint, kind=(kinds or {}).get(name, "curve"))
        canvas.text(left + 28, y + 4, name, "note")
    return canvas
