"""Hide facts in long texts, ask for them at the end, and count how many a model finds."""
import time

import numpy as np

from tinyscout.bench.machine import peak_memory
from tinyscout.cli import _long_context, make_console, positive_int
from tinyscout.cli._format import parse_token_list, parse_tokens
from tinyscout.data.needles import KEYS
from tinyscout.eval.needle import DEPTH_BINS, answer_queries, count_facts, summarize

EXAMPLE = """\
examples:
  tinyscout needle --model runs/laboratory/step-001500 --contexts 512,2k,20k --backend c
  tinyscout needle --model runs/laboratory/step-001500 --contexts 1M,10M --haystacks 1 --facts 32 --queries 32
  tinyscout needle --model runs/laboratory/step-001500 --contexts 20k --no-temperature --out figures/

A line such as #!kq=739 is a fact, and #?kq= at the end of the text asks for it.  An answer counts as correct if each of
its tokens, including the newline, has the highest logit given the correct tokens before it.  This is equivalent to
greedy decoding producing the answer."""


def add_arguments(sub):
    _long_context.add_arguments(sub)
    sub.add_argument("--contexts", type=parse_token_list, default=[512, 2048, 8192], metavar="N,N,...",
                     help="lengths of the texts in tokens: 4096, 128k (times 1,024), 10M (times 1,048,576); default "
                     "512,2k,8k")
    sub.add_argument("--haystacks", type=positive_int, default=8, metavar="N",
                     help="number of texts of each length (%(default)s)")
    sub.add_argument("--facts", type=positive_int, default=8, metavar="N",
                     help="number of facts in each text (%(default)s)")
    sub.add_argument("--queries", type=positive_int, default=8, metavar="N",
                     help="number of facts to ask for (%(default)s)")
    sub.add_argument("--density", type=parse_tokens, metavar="N",
                     help=f"one fact for every N tokens, if that is more than --facts; at most {len(KEYS)} facts")
    sub.add_argument("--allow-straddle", action="store_true",
                     help="allow a chunk edge to cut a line in two, so that no local layer can read all of it")
    sub.add_argument("--control", action="store_true",
                     help="score answers that contradict the facts; a model that reads the facts gets none right")


def run(args):
    model, console = _long_context.load_with_temperature(args), make_console()
    filler, bos_id = _long_context.held_out_tokens(args, model)
    report = _long_context.new_report(args, model, "needle", haystacks=args.haystacks, facts=args.facts,
                                      queries=args.queries, density=args.density, allow_straddle=args.allow_straddle,
                                      control=args.control)
    console.print(f"{'context':>12}{'vs. training':>14}{'found':>14}{'':8}{'95% interval':>16}{'facts':>8}"
                  f"{'seconds':>10}{'memory':>10}", style="bold")
    for context in args.contexts:
        start, n_facts = time.perf_counter(), count_facts(context, args.facts, args.density)
        answers = answer_queries(model, filler, bos_id, context, n_facts=n_facts, n_queries=args.queries,
                                 n_haystacks=args.haystacks, seed=args.seed, allow_straddle=args.allow_straddle,
                                 control=args.control)
        trained = report["train_length"]
        row = {"context": context, "times": context / trained if trained else None, "facts": n_facts,
               **summarize(answers), "seconds": time.perf_counter() - start, "memory": peak_memory()}
        report["rows"].append(row)
        console.print(format_row(row))
        if args.out:
            _long_context.write_report(report, plot, args.out)


def format_row(row):
    """Format a row of the table."""
    times = f"{row['times']:,.{0 if row['times'] >= 10 else 2}f} x" if row["times"] else ""
    memory = f"{row['memory'] / 1e6:,.0f} MB" if row["memory"] else ""
    share = row["correct"] / row["asked"]
    return (f"{row['context']:>12,}{times:>14}{row['correct']:>8}/{row['asked']:<5}{share:>8.1%}"
            f"{row['low']:>9.1%} - {row['high']:<6.1%}{row['facts']:>6}{row['seconds']:>10.1f}{memory:>10}")


def plot(figure, report):
    """Plot the share of facts found at each length, and at each depth of the text."""
    rows = report["rows"]
    left, right = figure.subplots(1, 2)
    shares = np.array([row["correct"] / row["asked"] for row in rows])
    errors = [shares - [row["low"] for row in rows], [row["high"] for row in rows] - shares]
    left.errorbar([row["context"] for row in rows], shares, yerr=np.maximum(errors, 0), marker="o", linewidth=1.2,
                  color="#b06a00", capsize=2)
    left.set_xscale("log", base=2)
    left.set_ylim(-0.03, 1.03)
    left.set_xlabel("tokens")
    left.set_ylabel("facts found")
    if report["train_length"]:
        left.axvline(report["train_length"], color="0.7", linewidth=0.8)
    grid = [[correct / asked if asked else np.nan for correct, asked in row["depths"]] for row in rows]
    image = right.imshow(np.array(grid).T, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="upper")
    right.set_xticks(range(len(rows)), [f"{row['context']:,}" for row in rows], rotation=30, ha="right")
    right.set_yticks([-0.5, DEPTH_BINS - 0.5], ["begin", "end"])
    right.set_ylabel("depth of the fact")
    figure.colorbar(image, ax=right, label="found")
