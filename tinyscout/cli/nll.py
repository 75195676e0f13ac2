"""Measure how well a model foretells text, the further it has read, beside the same tokens read in short windows."""
import math
from itertools import pairwise

import numpy as np

from tinyscout.cli import _long_context, make_console, positive_int
from tinyscout.cli._format import make_table, parse_tokens
from tinyscout.inference.long_context import logits_at
from tinyscout.nn.text import text_model
from tinyscout.progress import track

EXAMPLE = """\
examples:
  tinyscout nll --model runs/laboratory/step-001500 --context 20k --backend c
  tinyscout nll --model runs/laboratory/step-001500 --context 20k --window 512 --texts 16 --out figures/

Some texts are easier than others, so a position is compared with itself: the same tokens in windows of the training's
length, each read afresh.  Below zero, the long text helps.  The +- is one standard error over the texts."""

AT_ONCE = 1 << 14       # tokens of windows


def add_arguments(sub):
    _long_context.add_arguments(sub)
    sub.add_argument("--context", type=parse_tokens, default=4096, metavar="N", help="tokens of a text (%(default)s)")
    sub.add_argument("--window", type=parse_tokens, metavar="N", help="tokens of a window (default: as trained)")
    sub.add_argument("--texts", type=positive_int, default=8, metavar="N", help="(%(default)s)")
    sub.add_argument("--positions", type=positive_int, default=512, metavar="N",
                     help="positions of each text that are scored between one doubling and the next (%(default)s)")


def run(args):
    model, window = _long_context.load_with_temperature(args), args.window or _long_context.trained_length(args)
    if window is None:
        raise ValueError("no recipe beside the checkpoint tells what length it was trained on: say --window N")
    if window > args.context:
        raise ValueError(f"a window of {window} tokens is longer than the context of {args.context}")
    text, begin = _long_context.held_out_tokens(args, model)
    if len(text) <= args.context:
        raise ValueError(f"there are {len(text):,} tokens of unseen text: --context must be less, or --text name more")
    rng, sizes, seen = np.random.default_rng(args.seed), spelled(model), []
    starts = np.linspace(0, len(text) - args.context - 1, args.texts).astype(np.int64)
    for start in track(starts, "Texts"):
        row = text[start:start + args.context + 1].copy()
        row[0] = begin
        rows = sample_positions(rng, position_bins(window, args.context), args.positions)
        goals = row[rows + 1].astype(np.int64)
        long = token_nll(model, logits_at(row[:-1], rows, model.weights, model.config, model.ops), goals)
        short = token_nll(model, in_windows(row[:-1], rows, window, begin, model), goals)
        seen.append((rows, long, short, sizes[goals]))
    report = _long_context.report(args, model, "nll", context=args.context, window=window, texts=args.texts,
                                  positions=args.positions)
    report["rows"] = [figures(low, high, seen) for low, high in position_bins(window, args.context)]
    show(report)
    if args.out:
        _long_context.write(report, plot, args.out)


def position_bins(window, context):
    """Doubling stretches of positions, the first as long as a window: list of (first, behind the last)."""
    edges = [0, window]
    while edges[-1] < context:
        edges.append(min(2 * edges[-1], context))
    return list(pairwise(edges))


def sample_positions(rng, stretches, most):
    """At most so many positions of each stretch, in order: (n,) int64."""
    return np.concatenate([np.sort(low + rng.choice(high - low, min(most, high - low), replace=False))
                           for low, high in stretches])


def spelled(model):
    """How many bytes each token spells: (V,) int, none for special tokens."""
    sizes, tokenizer = np.zeros(model.config.text.vocab_size, np.int64), model.tokenizer
    for spelling, id in tokenizer.tokens.items():
        sizes[id] = len(spelling)
    return sizes


def token_nll(model, scores, goals):
    """What each of the tokens that came costs, in nats: scores (n, V), goals (n,) int  ->  (n,) float64"""
    scores = np.asarray(model.ops.asnumpy(scores), np.float64)
    scores -= scores.max(-1, keepdims=True)
    return np.log(np.exp(scores).sum(-1)) - scores[np.arange(len(goals)), goals]


def in_windows(row, rows, window, begin, model):
    """The scores at some positions, if each window of the text is read as if nothing had been before it: (R, V)

    row (T,) tokens, rows (R,) positions in order
    """
    w, config, ops, found = model.weights.text, model.config.text, model.ops, []
    many = max(1, AT_ONCE // window)
    windows = np.unique(rows // window)
    for at in range(0, len(windows), many):
        some = windows[at:at + many]
        places = np.minimum(some[:, None] * window + np.arange(window), len(row) - 1)   # what is read behind the end
        ids = row[places].astype(np.int64)                                              # is not looked at
        ids[:, 0] = begin
        y = text_model(ops.embed(ops.asarray(ids), w.embedding), w, config, None, ops)
        mine = rows[np.isin(rows // window, some)]
        which = np.searchsorted(some, mine // window) * window + mine % window
        found.append(ops.linear(y.reshape(-1, y.shape[-1])[ops.asarray(which)], w.output))
    return np.concatenate(found)


def figures(low, high, seen):
    """The means of a stretch of positions.  seen: (positions, nats, nats in windows, bytes) of each text  ->  dict"""
    here = [[a[(rows >= low) & (rows < high)] for a in parts] for rows, *parts in seen]
    more = [float(np.mean(long - short)) for long, short, _ in here]
    long, short, size = (np.concatenate(parts) for parts in zip(*here, strict=True))
    return {"from": low, "to": high, "tokens": len(long), "nats": float(long.mean()), "windows": float(short.mean()),
            "per byte": float(long.sum() / max(1, size.sum())), "difference": float(np.mean(more)),
            "error": float(np.std(more, ddof=1) / math.sqrt(len(more))) if len(more) > 1 else None}


def show(report):
    made = make_table("", "positions", "tokens", "nats a token", "nats a byte", "in windows", "difference", "")
    for row in report["rows"]:
        means = (f"{row[name]:.3f}" for name in ("nats", "per byte", "windows"))
        more = f"{round(row['difference'], 3) + 0:+.3f}", "" if row["error"] is None else f"+- {row['error']:.3f}"
        made.add_row(f"{row['from']:,} to {row['to'] - 1:,}", f"{row['tokens']:,}", *means, *more)
    make_console().print(made)


def plot(figure, report):
    """Nats a token over the position, and the difference to the windows."""
    rows = report["rows"]
    places = [row["to"] for row in rows]
    left, right = figure.subplots(1, 2)
    for name, colour in ("nats", "#b06a00"), ("windows", "0.6"):
        left.plot(places, [row[name] for row in rows], marker="o", linewidth=1.2, color=colour,
                  label={"nats": "long text", "windows": "windows"}[name])
    left.legend(frameon=False)
    left.set_ylabel("nats a token")
    right.errorbar(places, [row["difference"] for row in rows], yerr=[row["error"] or 0 for row in rows], marker="o",
                   linewidth=1.2, color="#b06a00", capsize=2)
    right.axhline(0, color="0.7", linewidth=0.8)
    right.set_ylabel("difference")
    for axis in left, right:
        axis.set_xscale("log", base=2)
        axis.set_xlabel("positions up to")
