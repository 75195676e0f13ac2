"""Evaluate a model: bits per byte of held-out code, and answers about held-out images."""
import json
from datetime import date
from pathlib import Path

from tinyscout.bench.machine import describe_machine, git_commit
from tinyscout.cli import add_model_arguments, load_model, make_console, positive_int
from tinyscout.cli._format import make_table
from tinyscout.data.corpus import load_corpus
from tinyscout.eval.exam import evaluate_questions, evaluate_text

EXAMPLE = """\
examples:
  tinyscout eval
  tinyscout eval --model runs/scout-mini/step-011000 --backend c --json eval.json"""


def add_arguments(sub):
    add_model_arguments(sub)
    sub.add_argument("--questions", type=positive_int, default=200, metavar="N",
                     help="number of questions per task (%(default)s)")
    sub.add_argument("--text-windows", type=positive_int, metavar="N",
                     help="number of text windows to evaluate, evenly spaced (default: all)")
    sub.add_argument("--text", nargs="+", metavar="PATH",
                     help="text files or directories; the held-out 5%% is used (default: Python's standard library)")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="random seed of the questions (%(default)s)")
    sub.add_argument("--json", metavar="FILE", help="also write the results to this file")


def run(args):
    model, console = load_model(args, "float32"), make_console()
    report: dict = {"date": f"{date.today()}", "commit": git_commit(), "machine": describe_machine()}
    report["text"] = evaluate_text(model, load_corpus(args.text), args.text_windows)
    table = make_table("Bits per byte of held-out text", "", "bits")
    for name, bits in report["text"].items():
        table.add_row(name, f"{bits:.3f}")
    console.print(table)
    if model.config.vision is not None:
        scores = evaluate_questions(model, args.questions, args.seed)
        report["questions"] = [score._asdict() for score in scores]
        table = make_table("Answers about held-out images", "task", "correct", "of", "", "chance")
        for score in scores:
            table.add_row(score.task, str(score.correct), str(score.asked), f"{score.correct / score.asked:.1%}",
                          f"{score.chance:.1%}")
        console.print(table)
    if args.json:
        Path(args.json).expanduser().write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
