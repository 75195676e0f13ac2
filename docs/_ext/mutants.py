"""The mutants of docs/mutants.csv, one folded table per file.

    ```{mutants}
    ```
draws a dropdown for each file of csrc/cuda; it says how many mistakes were planted in it and how many were caught.
"""
import csv
from itertools import groupby
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

TABLE = Path(__file__).parents[1] / "mutants.csv"
HEAD = ["::::{{dropdown}} {title}", ":::{{list-table}}", ":header-rows: 1", ":class: mutants", ":widths: 30 40 30", "",
        "* - mistake", "  - original and mutated code", "  - caught by the law"]


def read_rows():
    """Rows of file, mistake, original, mutated, law and how; sorted by file."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return sorted(csv.reader(file), key=lambda row: row[0])     # stable: within a file as it was written


def find_verdict(file, mistake):
    """What came out of a mutant: the simulator's message, or "a wrong result".  Raises ValueError if there is none."""
    [how] = [row[5] for row in read_rows() if row[:2] == [f"`{file}`", mistake]]
    return how


def make_dropdown(file, rows):
    caught = sum(row[4] != "nobody" for row in rows)
    head = "\n".join(HEAD).format(title=f"{file}: {caught} of {len(rows)} caught")
    return "\n".join([head, *map(make_row, rows), ":::", "::::"])


def make_row(row):
    _, mistake, original, mutated, law, how = row
    if law == "nobody":
        what, colon, why = how.partition(":")
        verdict = f"*{what}*{colon}{why}"
    else:
        verdict = law if how == "a wrong result" else f"{law}, as `{how}`"
    return f"* - {mistake}\n  - {original} → {mutated}\n  - {verdict}"


class Mutants(SphinxDirective):
    def run(self):
        self.env.note_dependency(str(TABLE))
        return self.parse_text_to_nodes("\n".join(
            make_dropdown(file, list(rows)) for file, rows in groupby(read_rows(), key=lambda row: row[0])))


def setup(app):
    app.add_directive("mutants", Mutants)
    return {"parallel_read_safe": True}
