"""How much worse a long text is predicted than fresh windows of it, against the position, from docs/laboratory."""
from drawings import Canvas
from drawings.graph import Graph, legend
from drawings.needle_accuracy import CURVES, DEPENDS_ON, read_rows  # noqa: F401 (the page reads DEPENDS_ON)


def mean_differences(preset, job):
    """[(middle of the positions, nats per byte)], the mean of all seeds."""
    rows = read_rows(preset, job)
    spans = sorted({(row["from"], row["to"]) for row in rows})
    values = {span: [row["difference"] for row in rows if (row["from"], row["to"]) == span] for span in spans}
    return [((low * high) ** 0.5 if low else high / 2, sum(v) / len(v)) for (low, high), v in values.items()]


def draw():
    canvas = Canvas(520, 390, "Nats per byte by which the long text is predicted worse than fresh windows: near zero "
                              "at every position for plans with chunks, and above one for plans without")
    canvas.text(14, 18, "nats per byte worse than a fresh window", "note")
    graph = Graph(canvas, 60, 34, 440, 190, (200, 21_000), (-0.25, 3), log_x=True)
    canvas.line(graph.place(200, 0), graph.place(21_000, 0), kind="dashed")
    for preset, jobs, tint, kind in CURVES.values():
        points = mean_differences(preset, "nll-flat" if "flat" in jobs else "nll")
        graph.curve(points, tint, kind).dots(points, tint)
    graph.y_ticks({n: str(n) for n in range(4)}).x_ticks({256: "256", 1024: "1,024", 4096: "4,096", 16384: "16,384"})
    canvas.text(280, 262, "position in the text", "note", "middle")
    return legend(canvas, 70, 292, {name: tint for name, (_, _, tint, _) in CURVES.items()},
                  {name: kind for name, (_, _, _, kind) in CURVES.items()})
