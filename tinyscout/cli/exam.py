"""Examine a model: bits for a byte of unread code, and answers about unseen pictures."""
import json
from datetime import date
from pathlib import Path

from tinyscout.bench.machine import commit, machine
from tinyscout.cli import above_zero, opened, terminal
from tinyscout.cli.info import table
from tinyscout.data.corpus import files
from tinyscout.eval.exam import bits_a_byte, questions
from tinyscout.eval.ngram_baseline import Counts, compressed
from tinyscout.model import BACKENDS

EXAMPLE = """\
examples:
  tinyscout exam
  tinyscout exam --model runs/scout-mini/step-011000 --backend c --json exam.json"""


def arguments(sub):
    sub.add_argument("--model", metavar="DIR", help="checkpoint directory (the model in this package)")
    sub.add_argument("--backend", default="numpy", choices=list(BACKENDS), help="who computes (%(default)s)")
    sub.add_argument("--dtype", default="float32", choices=["float32"], help="what the weights are widened to")
    sub.add_argument("--each", type=above_zero, default=200, metavar="N", help="questions of a task (%(default)s)")
    sub.add_argument("--windows", type=above_zero, metavar="N", help="of text, spread evenly (all of it)")
    sub.add_argument("--text", nargs="+", metavar="PATH", help="examine on a part of these files and directories")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of the questions (%(default)s)")
    sub.add_argument("--json", metavar="FILE", help="write the figures there too")


def run(args):
    model, console = opened(args), terminal()
    report = {"date": f"{date.today()}", "commit": commit(), "machine": machine()}
    report["text"] = text(model, files(args.text), args.windows)
    console.print(rows("Bits a byte of held-out text", report["text"]))
    if model.config.vision is not None:
        marks = questions(model, args.each, args.seed)
        report["questions"] = [mark._asdict() for mark in marks]
        made = table("Answers about unseen pictures", "task", "right", "of", "", "chance")
        for mark in marks:
            made.add_row(mark.task, str(mark.right), str(mark.asked), f"{mark.right / mark.asked:.1%}",
                         f"{mark.chance:.1%}")
        console.print(made)
    if args.json:
        Path(args.json).expanduser().write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def text(model, corpus, windows):
    """{who: bits a byte}: the model, and what counting and compressing come to."""
    unread = "".join(text for _, text in corpus.held_out).encode()
    counted = Counts("".join(text for _, text in corpus.train).encode())
    return {"the model": bits_a_byte(model, corpus.held_out, most=windows),
            "counts of 5 bytes": counted.surprise(unread), **compressed(unread)}


def rows(title, figures):
    made = table(title, "", "bits")
    for who, bits in figures.items():
        made.add_row(who, f"{bits:.3f}")
    return made
