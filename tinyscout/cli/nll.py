"""Measure how well a model predicts text, the further it has read, compared with the same tokens in short windows."""
from tinyscout.cli import _long_context, make_console, positive_int
from tinyscout.cli._format import make_table, parse_tokens
from tinyscout.eval.nll import measure_texts, position_bins, summarize

EXAMPLE = """\
examples:
  tinyscout nll --model runs/laboratory/step-001500 --context 20k --backend c
  tinyscout nll --model runs/laboratory/step-001500 --context 20k --window 512 --texts 16 --out figures/

Some texts are easier than others, so a position is compared with itself: the same tokens in windows of the training's
length, each read afresh.  Below zero, the long text helps.  The +- is one standard error over the texts."""


def add_arguments(sub):
    _long_context.add_arguments(sub)
    sub.add_argument("--context", type=parse_tokens, default=4096, metavar="N", help="tokens of a text (%(default)s)")
    sub.add_argument("--window", type=parse_tokens, metavar="N", help="tokens of a window (default: as trained)")
    sub.add_argument("--texts", type=positive_int, default=8, metavar="N", help="(%(default)s)")
    sub.add_argument("--positions", type=positive_int, default=512, metavar="N",
                     help="positions of each text that are scored between one doubling and the next (%(default)s)")


def run(args):
    model, window = _long_context.load_with_temperature(args), args.window or _long_context.train_length(args)
    if window is None:
        raise ValueError("no recipe beside the checkpoint tells what length it was trained on: say --window N")
    if window > args.context:
        raise ValueError(f"a window of {window} tokens is longer than the context of {args.context}")
    tokens, bos_id = _long_context.held_out_tokens(args, model)
    if len(tokens) <= args.context:
        raise ValueError(f"there are {len(tokens):,} tokens of held-out text: --context must be less, or --text name "
                         "more")
    samples = measure_texts(model, tokens, bos_id, args.context, window, n_texts=args.texts,
                            n_positions=args.positions, seed=args.seed)
    report = _long_context.new_report(args, model, "nll", context=args.context, window=window, texts=args.texts,
                                      positions=args.positions)
    report["rows"] = [summarize(low, high, samples) for low, high in position_bins(window, args.context)]
    show(report)
    if args.out:
        _long_context.write_report(report, plot, args.out)


def show(report):
    table = make_table("", "positions", "tokens", "nats a token", "nats a byte", "in windows", "difference", "")
    for row in report["rows"]:
        means = (f"{row[name]:.3f}" for name in ("nll", "nll_per_byte", "window_nll"))
        error = "" if row["std_error"] is None else f"+- {row['std_error']:.3f}"
        table.add_row(f"{row['from']:,} to {row['to'] - 1:,}", f"{row['tokens']:,}", *means,
                      f"{round(row['difference'], 3) + 0:+.3f}", error)
    make_console().print(table)


def plot(figure, report):
    """The loss over the position, and its difference to that in windows."""
    rows = report["rows"]
    positions = [row["to"] for row in rows]
    left, right = figure.subplots(1, 2)
    for name, colour, label in ("nll", "#b06a00", "long text"), ("window_nll", "0.6", "windows"):
        left.plot(positions, [row[name] for row in rows], marker="o", linewidth=1.2, color=colour, label=label)
    left.legend(frameon=False)
    left.set_ylabel("nats a token")
    right.errorbar(positions, [row["difference"] for row in rows], yerr=[row["std_error"] or 0 for row in rows],
                   marker="o", linewidth=1.2, color="#b06a00", capsize=2)
    right.axhline(0, color="0.7", linewidth=0.8)
    right.set_ylabel("difference")
    for axis in left, right:
        axis.set_xscale("log", base=2)
        axis.set_xlabel("positions up to")
