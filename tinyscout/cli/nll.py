"""Measure the loss at each position of long texts, compared with the same tokens read in short windows."""
from tinyscout.cli import _long_context, make_console, positive_int
from tinyscout.cli._format import make_table, parse_tokens
from tinyscout.eval.nll import measure_texts, position_bins, summarize

EXAMPLE = """\
examples:
  tinyscout nll --model runs/laboratory/step-001500 --context 20k --backend c
  tinyscout nll --model runs/laboratory/step-001500 --context 20k --window 512 --texts 16 --out figures/

Some texts are easier than others, so each position is compared with itself: the same token in a window of the training
length, which is read separately.  If the difference is below zero, the long context helps.  The +- is one standard
error over the texts."""


def add_arguments(sub):
    _long_context.add_arguments(sub)
    sub.add_argument("--context", type=parse_tokens, default=4096, metavar="N",
                     help="length of each text in tokens (%(default)s)")
    sub.add_argument("--window", type=parse_tokens, metavar="N",
                     help="length of each window in tokens (default: the training length)")
    sub.add_argument("--texts", type=positive_int, default=8, metavar="N", help="number of texts (%(default)s)")
    sub.add_argument("--positions", type=positive_int, default=512, metavar="N",
                     help="positions sampled per text in each doubling of the context (%(default)s)")


def run(args):
    model, window = _long_context.load_with_temperature(args), args.window or _long_context.train_length(args)
    if window is None:
        raise ValueError("no recipe.json next to the checkpoint, so its training length is unknown: pass --window N")
    if window > args.context:
        raise ValueError(f"a window of {window} tokens is longer than the context of {args.context}")
    tokens, bos_id = _long_context.held_out_tokens(args, model)
    if len(tokens) <= args.context:
        raise ValueError(f"the held-out text has {len(tokens):,} tokens: choose a smaller --context, or pass more "
                         "text with --text")
    samples = measure_texts(model, tokens, bos_id, args.context, window, n_texts=args.texts,
                            n_positions=args.positions, seed=args.seed)
    report = _long_context.new_report(args, model, "nll", context=args.context, window=window, texts=args.texts,
                                      positions=args.positions)
    report["rows"] = [summarize(low, high, samples) for low, high in position_bins(window, args.context)]
    show(report)
    if args.out:
        _long_context.write_report(report, plot, args.out)


def show(report):
    table = make_table("", "positions", "tokens", "nats per token", "nats per byte", "in windows", "difference", "")
    for row in report["rows"]:
        means = (f"{row[name]:.3f}" for name in ("nll", "nll_per_byte", "window_nll"))
        error = "" if row["std_error"] is None else f"+- {row['std_error']:.3f}"
        table.add_row(f"{row['from']:,} to {row['to'] - 1:,}", f"{row['tokens']:,}", *means,
                      f"{round(row['difference'], 3) + 0:+.3f}", error)
    make_console().print(table)


def plot(figure, report):
    """Plot the loss over the position, and its difference from the loss in windows."""
    rows = report["rows"]
    positions = [row["to"] for row in rows]
    left, right = figure.subplots(1, 2)
    for name, colour, label in ("nll", "#b06a00", "long text"), ("window_nll", "0.6", "windows"):
        left.plot(positions, [row[name] for row in rows], marker="o", linewidth=1.2, color=colour, label=label)
    left.legend(frameon=False)
    left.set_ylabel("nats per token")
    right.errorbar(positions, [row["difference"] for row in rows], yerr=[row["std_error"] or 0 for row in rows],
                   marker="o", linewidth=1.2, color="#b06a00", capsize=2)
    right.axhline(0, color="0.7", linewidth=0.8)
    right.set_ylabel("difference")
    for axis in left, right:
        axis.set_xscale("log", base=2)
        axis.set_xlabel("positions up to")
