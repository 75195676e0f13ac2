"""The floors of the house, from the list that tests/test_house.py holds the imports to."""
import ast
from pathlib import Path

from drawings import Canvas

HOUSE = Path(__file__).parents[2] / "tests" / "test_house.py"
DEPENDS_ON = [HOUSE]
STOREY, GAP = 44, 16        # pixels


def read_floors():
    """[(what the floor is, set of packages)], the ground floor first, without importing the test."""
    tree = ast.parse(HOUSE.read_text(encoding="utf-8"))
    [value] = [node.value for node in tree.body
               if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLOORS"]
    return ast.literal_eval(value)


def draw():
    floors = read_floors()
    height = len(floors) * (STOREY + GAP)
    canvas = Canvas(830, height, "Floors of the house; a file imports only from its own floor and from lower ones")
    for number, (note, rooms) in enumerate(floors):
        y = 8 + (len(floors) - 1 - number) * (STOREY + GAP)
        canvas.rect(60, y, 440, STOREY, kind="box" if number else "strong")
        for n, name in enumerate(names := sorted(room for room in rooms if not room.startswith("__"))):
            canvas.text(60 + 440 * (n + 0.5) / len(names), y + 28, name, anchor="middle")
        canvas.text(518, y + 27, note, "note")
    canvas.arrow((34, 20), (34, height - 22))
    return canvas.text(16, 14, "imports", "note")
