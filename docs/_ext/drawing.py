"""Drawings made while the page is built, by the modules of docs/drawings.

    ```{drawing} floors
    A caption, in Markdown.
    ```
calls `draw()` of docs/drawings/floors.py and puts its SVG on the page, where it follows the theme.  A module may list
other files that its drawing depends on as DEPENDS_ON; words after the name are arguments: `{drawing} mask chunked`
calls draw("chunked").
"""
import importlib
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

DRAWINGS = Path(__file__).parents[1] / "drawings"


class Drawing(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self):
        name, *arguments = self.arguments[0].split()
        try:
            module = importlib.import_module(f"drawings.{name}")
            svg = module.draw(*arguments).to_svg()
        except Exception as error:
            raise self.severe(f"docs/drawings/{name}.py: {type(error).__name__}: {error}") from error
        for file in (DRAWINGS / f"{name}.py", DRAWINGS / "__init__.py", *getattr(module, "DEPENDS_ON", [])):
            self.env.note_dependency(str(file))
        figure = nodes.figure("", nodes.raw("", f"<div>{svg}</div>", format="html"), classes=["drawing"])
        if self.content:
            caption = nodes.caption()
            for paragraph in self.parse_content_to_nodes():
                caption += paragraph.children
            figure += caption
        return [figure]


def setup(app):
    app.add_directive("drawing", Drawing)
    return {"parallel_read_safe": True}
