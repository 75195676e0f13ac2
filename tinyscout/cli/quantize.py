"""Quantize a checkpoint to 8 or 4 bits: smaller on disk, and proportionally faster to decode."""
from pathlib import Path

import numpy as np

import tinyscout
from tinyscout.checkpoint.quantize import errors_by_layer, logits_error, quantize_checkpoint
from tinyscout.cli import make_console
from tinyscout.cli._format import format_si, make_table

EXAMPLE = """\
examples:
  tinyscout quantize scout/ --bits 4 --out scout-int4/
  tinyscout quantize scout/ --bits 8 --group-size 128 --out scout-int8/ --check"""

PARTS = ("attention", "shared", "experts", "dense", "all")
SAMPLE = ("The lighthouse keeper counted the ships as they came in. There were eleven, as on every other evening "
          "of that summer, and she wrote the number in the book.")
TOKENS = 64


def add_arguments(sub):
    sub.add_argument("model", metavar="DIR", help="checkpoint directory in Hugging Face's layout")
    sub.add_argument("--bits", required=True, type=int, choices=[4, 8], help="bits per weight")
    sub.add_argument("--group-size", type=int, default=32, choices=[32, 128],
                     help="inputs that share a scale; 4 bits with 128 is Meta's own format (%(default)s)")
    sub.add_argument("--out", required=True, metavar="DIR", help="a new directory for the quantized checkpoint")
    sub.add_argument("--check", action="store_true", help="also run both models and print how much their logits differ")


def run(args):
    source, out = (Path(name).expanduser() for name in (args.model, args.out))
    report = quantize_checkpoint(source, out, args.bits, args.group_size)
    console = make_console()
    console.print(error_table(errors_by_layer(report.errors)))
    console.print(f"\n{format_si(report.bytes_before, 'B')} became {format_si(report.bytes_after, 'B')}: "
                  f"{report.bytes_before / report.bytes_after:.2f} times smaller.")
    if args.check:
        difference = logits_error(*(sample_logits(directory) for directory in (source, out)))
        console.print(f"Logits of {TOKENS} tokens: relative error {difference.l2:.2%}, KL divergence "
                      f"{difference.kl:.4f} nats, same most likely token {difference.agreement:.1%} of the time.")


def error_table(errors):
    """One row for each layer, one column for each part of the model.  errors {(layer, part): QuantError}"""
    parts = [part for part in PARTS if any(name == part for _, name in errors)]
    table = make_table("Relative error of the weights", "layer", *parts)
    for layer in dict.fromkeys(layer for layer, _ in errors):
        cells = [f"{errors[layer, part].relative:.2%}" if (layer, part) in errors else "" for part in parts]
        table.add_row(str(layer + 1) if isinstance(layer, int) else layer, *cells)
    return table


def sample_logits(directory):
    """The logits of SAMPLE, or of random tokens if the tokenizer is missing: (TOKENS, V)"""
    model = tinyscout.load(directory)
    if model.tokenizer is None:
        return model.logits(np.random.default_rng(0).integers(0, model.config.text.vocab_size, TOKENS))
    return model.logits((model.tokenizer.encode(SAMPLE) * TOKENS)[:TOKENS])
