"""The texts for the search page: _static/search_texts.js, written when the pages are.

A browser lets a page opened as a file read no other file, so Sphinx's own search shows no excerpts there.  A script may
be loaded, so the text of each section is in one: a line per page, [address, title, [[anchor, heading, text], ...]].
"""
import json
from pathlib import Path

from bs4 import BeautifulSoup

NOT_TEXT = "script, style, math, svg, button, input, .headerlink, .sphx-glr-footer, .eqno, p.reading"
BLOCKS = "p, li, td, th, dt, dd, pre, div, label, figcaption"


def read_sections(html):
    """[anchor, heading, text] of every section, term and documented name of a page."""
    article = BeautifulSoup(html, "html.parser").select_one("article[role=main]")
    for element in article.select(NOT_TEXT):
        element.decompose()
    for block in article.select(BLOCKS):
        block.append(" ")
    found = [[term["id"], term, term.find_next_sibling("dd")] for term in article.select("dl.glossary > dt[id]")]
    for section in reversed(article.select("section[id], dl.py")):      # the inner ones before the outer
        head = section.find("dt" if section.name == "dl" else ["h1", "h2", "h3", "h4"])
        anchor = head and (head if section.name == "dl" else section).get("id")
        if anchor:
            found.append([anchor, head.extract(), section.extract()])
    sections = [[anchor, words_of(head), words_of(text)] for anchor, head, text in reversed(found)]
    return sections[:1] + [section for section in sections[1:] if section[2]]       # the first has the page's title


def words_of(element):
    words = " ".join(element.get_text().split()) if element else ""
    return words.partition("(")[0] if element and element.name == "dt" and "sig" in element.get("class", []) else words


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
