"""Hide facts in long texts, ask for them at the end, and count how many a model finds."""
import math
import time

import numpy as np

from tinyscout.bench.machine import peak_memory
from tinyscout.cli import _long_context, make_console, positive_int
from tinyscout.cli._format import parse_token_list, parse_tokens
from tinyscout.data.needles import KEYS, encode_lines, make_haystack
from tinyscout.inference.long_context import logits_at

EXAMPLE = """\
examples:
  tinyscout needle --model runs/laboratory/step-001500 --contexts 512,2k,20k --backend c
  tinyscout needle --model runs/laboratory/step-001500 --contexts 1M,10M --haystacks 1 --facts 32 --queries 32
  tinyscout needle --model runs/laboratory/step-001500 --contexts 20k --no-temperature --out figures/

A line such as #!kq=739 is a fact, #?kq= at the end of the text asks for it.  An answer is right where every one of its
tokens, the end of the line too, scores highest given the right ones before it.  That is exactly when greedy decoding
would write it: as long as it has gone wrong nowhere, it has the same tokens before it."""

DEPTHS = 10             # parts of the text, of which the figures are kept apart
Z = 1.959964            # standard deviations to either side that hold 95% of a normal distribution


def add_arguments(sub):
    _long_context.add_arguments(sub)
    sub.add_argument("--contexts", type=parse_token_list, default=[512, 2048, 8192], metavar="N,N,...",
                     help="tokens of a text: 4096, 128k (times 1,024), 10M (times 1,048,576); default 512,2k,8k")
    sub.add_argument("--haystacks", type=positive_int, default=8, metavar="N",
                     help="texts of each length (%(default)s)")
    sub.add_argument("--facts", type=positive_int, default=8, metavar="N", help="facts in a text (%(default)s)")
    sub.add_argument("--queries", type=positive_int, default=8, metavar="N",
                     help="of which are asked for (%(default)s)")
    sub.add_argument("--density", type=parse_tokens, metavar="N",
                     help=f"a fact for every N tokens, where that is more than --facts; never more than {len(KEYS)}")
    sub.add_argument("--allow-straddle", action="store_true",
                     help="let the edge of a chunk cut a line in two, so that no local layer can read it")
    sub.add_argument("--control", action="store_true",
                     help="score answers that contradict the facts; a model that reads finds none")


def run(args):
    model, console = _long_context.load_with_temperature(args), make_console()
    lines, (filler, begin) = encode_lines(model.tokenizer), _long_context.held_out_tokens(args, model)
    report = _long_context.report(args, model, "needle", haystacks=args.haystacks, facts=args.facts,
                                  queries=args.queries, density=args.density, allow_straddle=args.allow_straddle,
                                  control=args.control)
    console.print(f"{'context':>12}{'of training':>14}{'found':>14}{'':8}{'95% interval':>16}{'facts':>8}"
                  f"{'seconds':>10}{'memory':>10}", style="bold")
    for context in args.contexts:
        found: list = []
        began = time.perf_counter()
        facts = max(args.facts, min(context // (args.density or context + 1), len(KEYS)))
        for n in range(args.haystacks):
            rng = np.random.default_rng([args.seed, context, n])
            hay = make_haystack(rng, filler, context - 1, lines, facts, args.queries, model.config.text.chunk_size,
                           allow_straddle=args.allow_straddle, control=args.control)
            found += zip(hay.depths, greedy_correct(hay, begin, model), strict=True)
        row = summarize(context, report["trained"], facts, found, time.perf_counter() - began)
        report["rows"].append(row)
        console.print(line(row))
        if args.out:
            _long_context.write(report, plot, args.out)


def greedy_correct(hay, begin, model):
    """Which answers in a Haystack a model would give, after the token that a text begins with.  ->  (queries,) bool"""
    tokens = np.concatenate([np.array([begin], hay.tokens.dtype), hay.tokens])
    rows = np.concatenate([np.arange(start, stop) for start, stop in hay.spans])     # each before what it should say
    scores = logits_at(tokens, rows, model.weights, model.config, model.ops)
    right = model.ops.asnumpy(scores.argmax(-1)) == tokens[rows + 1]
    return np.logical_and.reduceat(right, np.cumsum([0, *np.diff(hay.spans).ravel()[:-1]]))


def summarize(context, trained, facts, found, seconds):
    """What is known of a context.  found list of (depth 0..1, right)  ->  dict"""
    depths = [[0, 0] for _ in range(DEPTHS)]
    for depth, right in found:
        part = depths[min(int(depth * DEPTHS), DEPTHS - 1)]
        part[0] += int(right)
        part[1] += 1
    right, asked = (sum(part[n] for part in depths) for n in (0, 1))
    low, high = wilson(right, asked)
    return {"context": context, "times": context / trained if trained else None, "facts": facts, "right": right,
            "asked": asked, "low": low, "high": high, "seconds": seconds, "memory": peak_memory(), "depths": depths}


def wilson(right, n):
    """Where the true share lies with 95% confidence, Wilson's interval: float, float.  equation (wilson)"""
    share, spread = right / n, Z * Z / n
    middle, half = share + spread / 2, Z * math.sqrt(share * (1 - share) / n + spread / n / 4)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def line(row):
    """A row of the table."""
    times = f"{row['times']:,.{0 if row['times'] >= 10 else 2}f} x" if row["times"] else ""
    memory = f"{row['memory'] / 1e6:,.0f} MB" if row["memory"] else ""
    return (f"{row['context']:>12,}{times:>14}{row['right']:>8}/{row['asked']:<5}{row['right'] / row['asked']:>8.1%}"
            f"{row['low']:>9.1%} - {row['high']:<6.1%}{row['facts']:>6}{row['seconds']:>10.1f}{memory:>10}")


def plot(figure, report):
    """How much is found at each length, and where in the text it stood."""
    rows = report["rows"]
    left, right = figure.subplots(1, 2)
    shares = [row["right"] / row["asked"] for row in rows]
    spread = [[share - row["low"] for share, row in zip(shares, rows, strict=True)],
              [row["high"] - share for share, row in zip(shares, rows, strict=True)]]
    left.errorbar([row["context"] for row in rows], shares, yerr=np.maximum(spread, 0), marker="o", linewidth=1.2,
                  color="#b06a00", capsize=2)
    left.set_xscale("log", base=2)
    left.set_ylim(-0.03, 1.03)
    left.set_xlabel("tokens")
    left.set_ylabel("facts found")
    if report["trained"]:
        left.axvline(report["trained"], color="0.7", linewidth=0.8)
    grid = [[part[0] / part[1] if part[1] else np.nan for part in row["depths"]] for row in rows]
    image = right.imshow(np.array(grid).T, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="upper")
    right.set_xticks(range(len(rows)), [f"{row['context']:,}" for row in rows], rotation=30, ha="right")
    right.set_yticks([-0.5, DEPTHS - 0.5], ["begin", "end"])
    right.set_ylabel("where the fact stood")
    figure.colorbar(image, ax=right, label="found")
