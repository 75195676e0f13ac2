"""Equations as MathML, which browsers set themselves: no script, no web font, no network.

An equation is called by its label rather than by a number, on the page as in the code: where a docstring says
"equation (rope)", the page shows (rope) beside the formula, and {eq}`rope` is printed as (rope).
"""
import re
from itertools import pairwise, zip_longest
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import SphinxError
from sphinx.util import logging

logger = logging.getLogger(__name__)

ALIGNED = re.compile(r"\\(begin|end)\{(?:aligned|align|split)\*?\}")
NUMBERED = re.compile(r"\\(begin|end)\{(gather|equation|multline)\}")
CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "mroot": 2, "msubsup": 3, "munderover": 3}
LIMITS = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}
CLOSING = {")", "]", "}", "|", "!"}
TAKES_LIMITS = {"∑", "∏", "max", "min", "argmax", "argmin", "lim", "sup", "inf"}


def to_mathml(latex, display=False):
    """The <math> element of a formula, as text.  Raises ValueError where the formula is not understood."""
    latex = ALIGNED.sub(r"\\\1{align*}", latex)      # the converter knows only the outer form, and would number it
    latex = NUMBERED.sub(r"\\\1{\2*}", latex)
    try:
        root = ElementTree.fromstring(convert(latex, display="block" if display else "inline"))
    except Exception as error:                       # the converter has a dozen kinds, none with a common parent
        raise ValueError(f"{type(error).__name__} {error}".strip()) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]            # HTML needs no namespace
        _check(element)
    for element in root.iter():
        _tidy(element)
    return ElementTree.tostring(root, encoding="unicode", method="html")


def _check(element):
    """The converter passes over what it does not know; a page must not."""
    if "\\" in (element.text or "") and element.tag != "mtext":
        raise ValueError(f"no such command as {element.text}")
    if len(element) != CHILDREN.get(element.tag, len(element)):
        raise ValueError(f"<{element.tag}> needs {CHILDREN[element.tag]} parts and has {len(element)}")


def _tidy(element):
    """What TeX does and the converter leaves out."""
    if element.tag in LIMITS and element[0].text in TAKES_LIMITS:       # under and over the sign where there is room
        element.tag = LIMITS[element.tag]
        element[0].set("movablelimits", "true")
    if element.tag == "mover" and element.get("accent") and element[1].text in ("^", "~", "¯"):
        element[1].set("stretchy", "false")
    if element.tag == "mo" and element.text in ("‖", "∥", "|") and not element.get("fence"):
        element.set("stretchy", "false")             # the bars of \lVert and \rVert, which would grow unequally
    for before, child in pairwise([None, *element]):    # a minus at the start or behind a sign belongs to what follows
        if child.text in ("-", "\u2212") and (before is None or (before.tag == "mo" and before.text not in CLOSING)):
            child.attrib |= {"form": "prefix", "lspace": "0", "rspace": "0"}
    for child, after in zip_longest(element, element[1:]):
        name = child[0] if child.tag in {*LIMITS, *LIMITS.values()} else child
        if name.tag in ("mo", "mi") and re.fullmatch("[A-Za-z ]{2,}", name.text or ""):
            name.tag = "mo"                          # a named function stands off from what precedes it,
            name.set("lspace", "0.17em")             # and touches its own parenthesis
            name.set("rspace", "0" if _opens(after) else "0.17em")


def _opens(element):
    """Is this, or does it begin with, an opening parenthesis?"""
    while element is not None and len(element):
        element = element[0]
    return element is not None and element.text in ("(", "[", "{")


def _convert(writer, node, display):
    try:
        return to_mathml(node.astext(), display)
    except ValueError as error:
        logger.warning("cannot set this equation: %s\n%s", error, node.astext(), location=node, type="mathml")
        writer.builder.app.unset_equations += 1
        return ""


def visit_inline(writer, node):
    writer.body.append(_convert(writer, node, display=False))
    raise nodes.SkipNode


def visit_display(writer, node):
    wrapped = set(node["ids"]) <= set(node.parent.get("ids", []))       # furo wraps it in a box of the same id
    writer.body.append('<div class="math">' if wrapped else writer.starttag(node, "div", CLASS="math"))
    writer.body.append(_convert(writer, node, display=True))
    if node.get("label") and "amsmath" not in node["classes"]:      # MyST gives those a label of its own making
        writer.body.append(f'<span class="eqno">({node["label"]})')
        writer.add_permalink_ref(node, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append("</div>\n")
    raise nodes.SkipNode


def call_by_label(app, env):
    """Sphinx numbers equations in the order of reading; here a reference prints the label."""
    equations = env.get_domain("math").data["objects"]
    for label, (page, _) in list(equations.items()):
        equations[label] = (page, label)


def fail(app, exception):
    """Without -W a warning would let a page with a hole in it pass."""
    if exception is None and app.unset_equations:
        raise SphinxError(f"{app.unset_equations} equations could not be set; the warnings above say which")


def setup(app):
    app.unset_equations = 0
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    app.connect("env-updated", call_by_label)
    app.connect("build-finished", fail)
    return {"parallel_read_safe": True}
