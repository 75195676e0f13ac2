"""The texts for the search page: _static/search_texts.js, written when the pages are.

A browser lets a page opened as a file read no other file, so Sphinx's own search shows no excerpts there.  A script may
be loaded, so the text of each section is in one: a line per page, [address, title, [[anchor, heading, text], ...]].
"""
import json
from pathlib import Path

from bs4 import BeautifulSoup

NOT_TEXT = "script, style, math, svg, button, input, .headerlink, .sphx-glr-footer, .eqno, p.reading"


def read_sections(html):
    """[anchor, heading, text] of every section of a page, and of every documented name, in the order of the page."""
    article = BeautifulSoup(html, "html.parser").select_one("article[role=main]")
    for element in article.select(NOT_TEXT):
        element.decompose()
    sections = []
    for section in reversed(article.select("section[id], dl.py, dl.c, dl.cpp")):      # the inner ones before the outer
        head = section.find("dt") if section.name == "dl" else section.find(["h1", "h2", "h3", "h4"])
        anchor = (head if section.name == "dl" else section).get("id")
        if head and anchor:
            heading = words_of(head)
            head.extract()
            sections.append([anchor, heading, words_of(section)])
            section.extract()
    return sections[::-1]


def words_of(element):
    return " ".join(element.get_text(" " if element.name == "section" else "").split())


def write_texts(app, exception):
    if exception is not None or app.builder.name != "html":
        return
    out, lines = Path(app.outdir), []
    for page in sorted(app.env.found_docs):
        file = out / f"{page}.html"
        if sections := read_sections(file.read_text(encoding="utf-8")):
            lines.append(json.dumps([file.relative_to(out).as_posix(), sections[0][1], sections], ensure_ascii=False))
    text = "const BOOK = [\n" + ",\n".join(lines) + "\n];\n"
    (out / "_static" / "search_texts.js").write_text(text, encoding="utf-8")


def setup(app):
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True}
