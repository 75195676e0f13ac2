"""How long a chapter takes, how hard it is and what it needs: a line below its title, and a table of all chapters.

A chapter says so at its top, in the front matter:

    ---
    difficulty: 2
    needs: norm, gpu_primer
    ---
1 is for everyone who knows Python and NumPy, 2 needs a pencil, 3 is for a second reading.  Minutes are counted: words
of prose at 200 a minute, lines of code at 12.

    ```{chapters}
    ```
draws the table, in the order of the table of contents.
"""
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

WORDS, LINES = 200, 12      # in a minute
LEVELS = {1: "easy", 2: "medium", 3: "hard"}


class chapters(nodes.General, nodes.Element):
    """A place for the table, which is filled when all pages have been read."""


class Chapters(SphinxDirective):
    def run(self):
        return [chapters()]


def count_minutes(doctree):
    """Minutes to read a page, without the second and third tab of the same code, and without the folded mutants."""
    tabs = [block for tab in doctree.findall(lambda node: "sd-tab-item" in node.get("classes", [])
                                             if isinstance(node, nodes.Element) else False)
            for block in list(tab.findall(nodes.literal_block))]
    blocks = list(doctree.findall(nodes.literal_block))
    lines = sum(block.astext().count("\n") + 1 for block in blocks) - 2 * sum(
        block.astext().count("\n") + 1 for block in tabs) / 3
    words = sum(len(text.split()) for text in doctree.findall(nodes.Text)
                if not isinstance(text.parent, nodes.literal_block | nodes.raw))
    words -= sum(len(table.astext().split()) for table in doctree.findall(nodes.table) if "mutants" in table["classes"])
    return words / WORDS + lines / LINES


def read_minutes(app, doctree):
    page = app.env.docname
    metadata = app.env.metadata[page]
    if "difficulty" in metadata:
        metadata["minutes"] = max(5, 5 * round(count_minutes(doctree) / 5))
        if int(metadata["difficulty"]) not in LEVELS:
            raise ValueError(f"{page}: difficulty is one of {', '.join(map(str, LEVELS))}")


def link(app, page, target):
    uri = app.builder.get_relative_uri(page, target)
    return nodes.reference("", app.env.titles[target].astext(), internal=True, refuri=uri)


def list_needs(app, page):
    """The pages that a chapter needs, in its own order.  Raises ValueError if one does not exist."""
    needs = [name.strip() for name in str(app.env.metadata[page].get("needs", "")).split(",") if name.strip()]
    missing = [name for name in needs if name not in app.env.found_docs]
    if missing:
        raise ValueError(f"{page}: needs {', '.join(missing)}, which is not a page")
    return needs


def join(parts, between):
    return [node for n, part in enumerate(parts) for node in ([nodes.Text(between)] if n else []) + [part]]


def make_line(app, page):
    metadata = app.env.metadata[page]
    text = f"{metadata['minutes']} minutes, {LEVELS[int(metadata['difficulty'])]}"
    line = nodes.paragraph("", text, classes=["reading"])
    if needs := list_needs(app, page):
        line += [nodes.Text("; read first: "), *join([link(app, page, name) for name in needs], ", ")]
    return line


def make_table(app, page):
    header = ("chapter", "minutes", "difficulty", "read first")
    body = nodes.tbody()
    for name in order_pages(app.env):
        metadata = app.env.metadata[name]
        if "difficulty" not in metadata:
            continue
        cells = ([link(app, page, name)], [nodes.Text(str(metadata["minutes"]))],
                 [nodes.Text(LEVELS[int(metadata["difficulty"])])],
                 join([link(app, page, need) for need in list_needs(app, name)], ", "))
        body += nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))
    head = nodes.thead("", nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in header)))
    widths = [nodes.colspec(colwidth=width) for width in (34, 12, 14, 40)]
    table = nodes.table("", nodes.tgroup("", *widths, head, body, cols=4), classes=["chapters"])
    return nodes.container("", table, classes=["table-wrapper"])        # the theme wrapped the others before this one


def order_pages(env):
    """All pages in the order of the root page's tables of contents."""
    toc = env.tocs[env.config.root_doc]
    return [page for tree in toc.findall(addnodes.toctree) for _, page in tree["entries"]]


def fill(app, doctree, page):
    if "difficulty" in app.env.metadata[page]:
        title = next(doctree.findall(nodes.title))
        title.parent.insert(title.parent.index(title) + 1, make_line(app, page))
    for place in list(doctree.findall(chapters)):
        place.replace_self(make_table(app, page))


def setup(app):
    app.add_node(chapters)
    app.add_directive("chapters", Chapters)
    app.connect("doctree-read", read_minutes)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True}
