"""The drawing of the floors, from the list that tests/test_house.py holds the imports to.

    ```{floors}
    ```
draws one storey for each entry of FLOORS, the ground floor at the bottom.
"""
import ast
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HOUSE = Path(__file__).parents[2] / "tests" / "test_house.py"
WIDTH, STOREY, GAP = 440, 44, 16        # pixels


def read_floors():
    """[(what the floor is, set of packages)], the ground floor first, without importing the test."""
    tree = ast.parse(HOUSE.read_text(encoding="utf-8"))
    [value] = [node.value for node in tree.body
               if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLOORS"]
    return ast.literal_eval(value)


def draw_floor(number, floors):
    """One storey as SVG; the ground floor has its own class."""
    note, rooms = floors[number]
    y = 8 + (len(floors) - 1 - number) * (STOREY + GAP)
    names = "   ".join(sorted(room for room in rooms if not room.startswith("__")))
    return (f'<rect class="{"floor" if number else "ground"}" x="60" y="{y}" width="{WIDTH}" height="{STOREY}" rx="6"/>'
            f'<text x="80" y="{y + 28}">{names}</text><text class="note" x="518" y="{y + 27}">{note}</text>')


def draw(floors):
    height = len(floors) * (STOREY + GAP)
    return "\n".join([
        f'<figure class="floors"><svg viewBox="0 0 830 {height}" role="img" '
        'aria-label="Floors of the house; a file imports only from its own floor and from lower ones">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8" class="arrow"/></marker></defs>',
        *(draw_floor(number, floors) for number in range(len(floors))),
        f'<path class="arrow" d="M34 20 V{height - 22}" marker-end="url(#tip)"/>',
        f'<text class="note" x="-{height // 2}" y="22" transform="rotate(-90)" text-anchor="middle">imports</text>',
        "</svg></figure>"])


class Floors(SphinxDirective):
    def run(self):
        self.env.note_dependency(str(HOUSE))
        return [nodes.raw("", draw(read_floors()), format="html")]


def setup(app):
    app.add_directive("floors", Floors)
    return {"parallel_read_safe": True}
