"""Write a checkpoint anew with weights of few bits: smaller, and as much faster to decode."""
from pathlib import Path

import numpy as np

import tinyscout
from tinyscout.checkpoint.quantize import errors_by_layer, logits_error, quantize_checkpoint
from tinyscout.cli import make_console
from tinyscout.cli.info import format_si, make_table

EXAMPLE = """\
examples:
  tinyscout quantize scout/ --weights int4 --out scout-int4/
  tinyscout quantize scout/ --weights int8 --group 128 --out scout-int8/ --check"""

PARTS = ("attention", "shared", "experts", "dense", "all")
SAMPLE = ("The lighthouse keeper counted the ships as they came in. There were eleven, as on every other evening "
          "of that summer, and she wrote the number in the book.")
TOKENS = 64


def arguments(sub):
    sub.add_argument("model", metavar="DIR", help="checkpoint directory in Hugging Face's layout")
    sub.add_argument("--weights", required=True, choices=["int4", "int8"], help="bits of a weight")
    sub.add_argument("--group", type=int, default=32, choices=[32, 128],
                     help="inputs that share a scale; int4 with 128 is Meta's own form (%(default)s)")
    sub.add_argument("--out", required=True, metavar="DIR", help="where to write: a directory that is not there yet")
    sub.add_argument("--check", action="store_true", help="also run both models, and say how far their scores differ")


def run(args):
    source, out = (Path(name).expanduser() for name in (args.model, args.out))
    report = quantize_checkpoint(source, out, 4 if args.weights == "int4" else 8, args.group)
    console = make_console()
    console.print(losses(errors_by_layer(report.losses)))
    console.print(f"\n{format_si(report.before, 'B')} became {format_si(report.after, 'B')}: "
                  f"{report.before / report.after:.2f} times smaller.")
    if args.check:
        difference = logits_error(*(scores(directory) for directory in (source, out)))
        console.print(f"Scores of {TOKENS} tokens: {difference.l2:.2%} off, {difference.kl:.4f} nats of divergence, "
                      f"the same likeliest token {difference.agreement:.1%} of the time.")


def losses(found):
    """One row for each layer, one column for each part that the model has."""
    parts = [part for part in PARTS if any(name == part for _, name in found)]
    made = make_table("Relative error of the weights", "layer", *parts)
    for layer in dict.fromkeys(layer for layer, _ in found):
        cells = [f"{found[layer, part].relative:.2%}" if (layer, part) in found else "" for part in parts]
        made.add_row(str(layer + 1) if isinstance(layer, int) else layer, *cells)
    return made


def scores(directory):
    """What a model says of a text that every model gets, or of drawn tokens where it has no tokenizer."""
    model = tinyscout.load(directory)
    if model.tokenizer is None:
        return model.logits(np.random.default_rng(0).integers(0, model.config.text.vocab_size, TOKENS))
    return model.logits((model.tokenizer.encode(SAMPLE) * TOKENS)[:TOKENS])
