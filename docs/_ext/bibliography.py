"""The look of the bibliography: labels of names and a year, and entries that end with what the book takes from a work.

    {cite:p}`su2021rope`        [Su et al., 2021]
    {cite:t}`su2021rope`        Su et al. [2021]
"""
from dataclasses import dataclass, field

from pybtex.plugin import register_plugin
from pybtex.richtext import HRef, Tag, Text
from pybtex.style.formatting import BaseStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.template import Node
from sphinxcontrib.bibtex.plugin import register_plugin as register_references
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle

KINDS = ("article", "book", "inproceedings", "manual", "misc", "techreport")


def last_name(person):
    return Text(" ").join([*person.rich_prelast_names, *person.rich_last_names])


def short(people):
    """Su et al."""
    names = [str(last_name(person)) for person in people]
    return f"{names[0]} et al." if len(names) > 2 or names[-1] == "others" else " and ".join(names)


def full(people):
    """Jianlin Su, Yu Lu and others"""
    names = [Text(" ").join([*person.rich_first_names, *person.rich_middle_names, last_name(person)])
             for person in people]
    return names[0] if len(names) == 1 else Text(Text(", ").join(names[:-1]), " and ", names[-1])


def address(fields):
    for name, prefix in (("url", ""), ("doi", "https://doi.org/"), ("eprint", "https://arxiv.org/abs/")):
        if name in fields:
            return prefix + fields[name]
    return None


def venue(fields):
    """Where the work appeared in the year of its label."""
    if "journal" in fields:
        issue = f"({fields['number']})" if "number" in fields else ""
        pages = ":" + fields["pages"].replace("--", "\u2013") if "pages" in fields else ""
        return f"{fields['journal']} {fields['volume']}{issue}{pages}"
    if "eprint" in fields and "booktitle" not in fields:
        return f"arXiv:{fields['eprint']}"
    return next((fields[name] for name in ("booktitle", "publisher", "institution") if name in fields), None)


class NamesAndYears(BaseLabelStyle):
    def format_labels(self, entries):
        for entry in entries:
            yield f"{short(entry.persons['author'])}, {entry.fields['year']}"


def brackets():
    return BracketStyle(sep="; ")


@dataclass
class References(AuthorYearReferenceStyle):
    """Semicolons between works, since each has a comma before its year."""

    bracket_parenthetical: BracketStyle = field(default_factory=brackets)


class Style(BaseStyle):
    default_label_style = NamesAndYears
    default_sorting_style = "author_year_title"

    def describe(self, entry):
        fields = entry.fields
        places = [f"{place}, {fields['year']}" if (place := venue(fields)) else fields["year"]]
        if "published" in fields:
            places.append(fields["published"])
        title = Tag("em", Text.from_latex(fields["title"]))
        text = Text(full(entry.persons["author"]), ". ", HRef(address(fields), title) if address(fields) else title,
                    " " if fields["title"].endswith("?") else ". ", "; ".join(places), ". ",
                    Text.from_latex(fields["note"]))
        return Node("entry", lambda children, context: text)


for kind in KINDS:
    setattr(Style, f"get_{kind}_template", Style.describe)


def setup(app):
    register_plugin("pybtex.style.formatting", "book", Style)
    register_references("sphinxcontrib.bibtex.style.referencing", "book", References)
    return {"parallel_read_safe": True}
