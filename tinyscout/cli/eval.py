"""Evaluate a model: bits per byte of held-out code, and answers about held-out images."""
import json
from datetime import date
from pathlib import Path

from tinyscout.bench.machine import describe_machine, git_commit
from tinyscout.cli import load_model, make_console, positive_int
from tinyscout.cli._format import make_table
from tinyscout.data.corpus import load_corpus
from tinyscout.eval.exam import bits_per_byte, evaluate_questions
from tinyscout.eval.ngram_baseline import NgramModel, compressor_bits_per_byte
from tinyscout.model import BACKENDS

EXAMPLE = """\
examples:
  tinyscout eval
  tinyscout eval --model runs/scout-mini/step-011000 --backend c --json eval.json"""


def add_arguments(sub):
    sub.add_argument("--model", metavar="DIR", help="checkpoint directory (the model in this package)")
    sub.add_argument("--backend", default="numpy", choices=list(BACKENDS), help="what computes (%(default)s)")
    sub.add_argument("--questions", type=positive_int, default=200, metavar="N", help="of each task (%(default)s)")
    sub.add_argument("--text-windows", type=positive_int, metavar="N", help="of text, evenly spaced (all of it)")
    sub.add_argument("--text", nargs="+", metavar="PATH", help="evaluate on a part of these files and directories")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="of the questions (%(default)s)")
    sub.add_argument("--json", metavar="FILE", help="write the figures there too")


def run(args):
    model, console = load_model(args, "float32"), make_console()
    report = {"date": f"{date.today()}", "commit": git_commit(), "machine": describe_machine()}
    report["text"] = text(model, load_corpus(args.text), args.text_windows)
    console.print(rows("Bits a byte of held-out text", report["text"]))
    if model.config.vision is not None:
        marks = evaluate_questions(model, args.questions, args.seed)
        report["questions"] = [mark._asdict() for mark in marks]
        made = make_table("Answers about unseen pictures", "task", "right", "of", "", "chance")
        for mark in marks:
            made.add_row(mark.task, str(mark.correct), str(mark.asked), f"{mark.correct / mark.asked:.1%}",
                         f"{mark.chance:.1%}")
        console.print(made)
    if args.json:
        Path(args.json).expanduser().write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def text(model, corpus, windows):
    """{who: bits a byte}: the model, and what counting and compressing come to."""
    unread = "".join(text for _, text in corpus.held_out).encode()
    counted = NgramModel("".join(text for _, text in corpus.train).encode())
    return {"the model": bits_per_byte(model, corpus.held_out, most=windows),
            "counts of 5 bytes": counted.bits_per_byte(unread), **compressor_bits_per_byte(unread)}


def rows(title, figures):
    made = make_table(title, "", "bits")
    for who, bits in figures.items():
        made.add_row(who, f"{bits:.3f}")
    return made
