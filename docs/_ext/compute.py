"""Numbers that the page works out while it is built, from the same config that sizes the model.

    ```{compute}                         runs, and is shown as the code it is
    params = count_parameters(SCOUT)
    ```
    {value}`params.total`                108,641,793,536
    {value}`2 * params.total / 1e9; .1f` 217.3       a format after the semicolon

The names of tinyscout.config, numpy as np, math, count_parameters of tinyscout.nn.weights, and digits, duration and
percent of tinyscout.bench.formats are there from the start, and the measurements of docs/mistakes.py:

    {value}`mistake("norm/all-heads"); #.2g`            how far the mistake moves a logit
    {value}`mistake("norm/all-heads", "agreement"); .0%`
    {value}`mistake_model("largest logit"); .1f`        of the model that they were measured on
    {value}`mutant("tile.cuh", "no barrier before a stage is read")`        what came out, from docs/mutants.csv

A page's names last to the end of that page.
The text of a value is shown as it is, straight quotes and double hyphens too; `code` in it is set as code.
"""
import json
import re
from functools import partial
from numbers import Integral
from pathlib import Path

import mutants
from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

START = """
import math
import numpy as np
from tinyscout import config
from tinyscout.config import *
from tinyscout.nn.weights import count_parameters
from tinyscout.bench.formats import format_digits as digits, format_duration as duration, format_percent as percent
"""
HIDDEN = "hidden"
MISTAKES = "mistakes.json"
UNBROKEN = 30           # characters: a longer value may break over two lines


def names(env):
    """The page's own namespace, made at its first use."""
    page = env.current_document if hasattr(env, "current_document") else env.temp_data
    if "computed_names" not in page:
        page["computed_names"] = {}
        exec(START, page["computed_names"])
        for module in ("config", "nn/weights"):    # a changed size makes the page anew
            env.note_dependency(f"../tinyscout/{module}.py")
        page["computed_names"] |= {"mistake": partial(read_mistake, env), "mistake_model": partial(read_model, env),
                                   "mutant": partial(read_mutant, env)}
    return page["computed_names"]


def read_mistakes(env):
    """The file that docs/mistakes.py writes; the page is made anew when it changes."""
    env.note_dependency(MISTAKES)
    return json.loads((Path(env.srcdir) / MISTAKES).read_text(encoding="utf-8"))


def read_mistake(env, name, number="logits"):
    """What a mistake does: "logits" moves by, "agreement" of best tokens, or "short prompt", less than a chunk."""
    return read_mistakes(env)["mistakes"][name][number]


def read_mutant(env, file, mistake):
    """What came out of a mutant of docs/mutants.csv: the simulator's message, or "a wrong result"."""
    env.note_dependency(mutants.TABLE.name)
    return mutants.find_verdict(file, mistake)


def read_model(env, number):
    """A number of the model on which the mistakes were measured, such as "layers" or "largest logit"."""
    return read_mistakes(env)["model"][number]


def show(value, spec=""):
    """A number as one reads it: whole ones with thousands separated, others to one decimal unless told."""
    if isinstance(value, str | bool):
        return str(value)
    return format(value, spec or (",d" if isinstance(value, Integral) else ",.1f"))


class Compute(SphinxDirective):
    has_content = True
    option_spec = {HIDDEN: lambda _: True}      # noqa: RUF012 (docutils' own interface)

    def run(self):
        source = "\n".join(self.content)
        try:
            exec(source, names(self.env))
        except Exception as error:
            raise self.severe(f"{type(error).__name__}: {error}\nin\n{source}") from error
        return [] if HIDDEN in self.options else [nodes.literal_block(source, source, language="python")]


class Value(SphinxRole):
    def run(self):
        expression, _, spec = self.text.partition(";")
        try:
            text = show(eval(expression.strip(), names(self.env)), spec.strip())
        except Exception as error:
            message = self.inliner.reporter.error(f"{{value}}`{self.text}`: {error}", line=self.lineno)
            return [nodes.literal(text=self.text)], [message]
        value = nodes.inline(text, classes=["value"] if len(text) <= UNBROKEN else [])
        value["support_smartquotes"] = False     # to Sphinx: no curly quotes, and no dash for two hyphens
        for n, part in enumerate(re.split("`([^`]+)`", text)):
            value += nodes.literal(text=part) if n % 2 else nodes.Text(part)
        return [value], []


def setup(app):
    app.add_directive("compute", Compute)
    app.add_role("value", Value())
    return {"parallel_read_safe": True}
