"""Numbers that the page works out while it is built, from the same config that sizes the model.

    ```{compute}                         runs, and is shown as the code it is
    params = count_parameters(SCOUT)
    ```
    {value}`params.total`                108,641,793,536
    {value}`2 * params.total / 1e9; .1f` 217.3       a format after the semicolon

The names of tinyscout.config, numpy as np, math, and count of tinyscout.nn.weights are there from the start.
A page's names last to the end of that page.
"""
from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

START = """
import math
import numpy as np
from tinyscout import config
from tinyscout.config import *
from tinyscout.nn.weights import count_parameters
"""
HIDDEN = "hidden"


def names(env):
    """The page's own namespace, made at its first use."""
    page = env.current_document if hasattr(env, "current_document") else env.temp_data
    if "computed_names" not in page:
        page["computed_names"] = {}
        exec(START, page["computed_names"])
        for module in ("config", "nn/weights"):    # a changed size makes the page anew
            env.note_dependency(f"../tinyscout/{module}.py")
    return page["computed_names"]


def show(value, spec=""):
    """A number as one reads it: whole ones with thousands separated, others to one decimal unless told."""
    if isinstance(value, str | bool):
        return str(value)
    return format(value, spec or (",d" if isinstance(value, int) else ",.1f"))


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
        return [nodes.inline(text, text, classes=["value"])], []


def setup(app):
    app.add_directive("compute", Compute)
    app.add_role("value", Value())
    return {"parallel_read_safe": True}
