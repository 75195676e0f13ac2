"""The way of a mutant to its verdict, with the number of mutants of docs/mutants.csv that ended there."""
import csv
from pathlib import Path

from drawings import Canvas

TABLE = Path(__file__).parents[1] / "mutants.csv"
DEPENDS_ON = [TABLE]
KERNEL, CAUGHT, EQUIVALENT, SURVIVED = 2, 3, 0, 4      # tints


def count_verdicts():
    """{verdict: mutants}, and the number of all."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        ends = [(law, how) for *_, law, how in csv.reader(file)]
    wrong = sum(law != "nobody" and how == "a wrong result" for law, how in ends)
    caught = sum(law != "nobody" for law, _ in ends)
    survived = sum(how == "survived" for _, how in ends)
    return {"a wrong result": wrong, "a fault with its line": caught - wrong,
            "no input can differ": len(ends) - caught - survived, "survived": survived}, len(ends)


def draw():
    verdicts, total = count_verdicts()
    canvas = Canvas(550, 240, f"{total} mutants are run through the laws in the simulator; " + ", ".join(
        f"{text}: {count}" for text, count in verdicts.items()))
    canvas.rect(2, 90, 120, 60, "one line\nchanged", KERNEL).text(62, 78, f"{total} mutants", "note", "middle")
    canvas.rect(160, 90, 150, 60, "laws,\n200 inputs each", kind="strong").text(235, 78, "in the simulator", "note",
                                                                               "middle")
    canvas.arrow((122, 120), (156, 120))
    for n, ((text, count), tint) in enumerate(zip(verdicts.items(), (CAUGHT, CAUGHT, EQUIVALENT, SURVIVED),
                                                  strict=True)):
        y = 16 + 54 * n
        canvas.arrow((310, 120), (356, y + 20)).rect(360, y, 52, 40, str(count), tint).text(422, y + 25, text, "note")
    return canvas
