"""The learning rate of scout-mini over its training, and what else changes with the steps."""
from drawings import Canvas
from drawings.graph import Graph
from tinyscout.train import PRESETS
from tinyscout.train.optimizer import lr_schedule

LEFT, WIDTH = 84, 420
ROWS = {"row_length": "row length", "needles": "facts", "stages": "stage"}


def cut(schedule):
    """[(first part, last part, value)] of a schedule."""
    ends = [0, *(until for until, _ in schedule)]
    return [(begin, end, value) for begin, (end, value) in zip(ends, schedule, strict=False)]


def draw():
    _, recipe = PRESETS["scout-mini"]
    canvas = Canvas(520, 330, "The learning rate of scout-mini: a warmup, then three cycles of half a cosine, and "
                              "below it the length of a row, the facts in a row and the stages of the curriculum")
    canvas.text(14, 18, "part of the full learning rate", "note")
    graph = Graph(canvas, LEFT, 34, WIDTH, 150, (0, recipe.steps), (0, 1))
    for until, _ in recipe.cycles[:-1]:
        graph.mark_x(until * recipe.steps)
    steps = sorted({*range(1, recipe.steps + 1, 20), *range(1, 2 * recipe.warmup), recipe.steps,
                    *(round(until * recipe.steps) + n for until, _ in recipe.cycles[:-1] for n in (0, 1))})
    graph.curve([(step, lr_schedule(recipe, step)) for step in steps], 2)
    graph.y_ticks({0: "0", 0.5: "0.5", 1: "1"})
    for row, (field, name) in enumerate(ROWS.items()):
        y = 196 + 34 * row
        canvas.text(LEFT - 8, y + 18, name, "note", "end")
        for begin, end, value in cut(getattr(recipe, field)):
            value = value + 1 if field == "stages" else value
            canvas.rect(LEFT + WIDTH * begin, y, WIDTH * (end - begin), 26, str(value),
                        tint=value + 1 if field == "stages" else 0)
    for value in (0, *(round(until * recipe.steps) for until, _ in recipe.stages)):
        canvas.text(graph.place_x(value), 318, f"{value:,}", "note", "end" if value == recipe.steps else "middle")
    return canvas.text(LEFT - 8, 318, "step", "note", "end")
