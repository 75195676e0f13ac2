"""Say what a model costs: memory, operations, and tokens a second at best."""
import argparse
import os

from tinyscout.bench.budget import (
    CARDS,
    KV_FORMATS,
    WEIGHTS,
    GpuSpec,
    bytes_read_per_step,
    decoding,
    expected_expert_fraction,
    flops_per_token,
    kv_bytes,
    max_context,
    weight_bytes,
)
from tinyscout.bench.machine import describe_machine, measure_roofline
from tinyscout.cli import load_config_arg, make_console, positive_int
from tinyscout.cli.info import format_si, make_table
from tinyscout.config import CONFIGS

EXAMPLE = """\
examples:
  tinyscout budget scout --context 10M --weights int4 --kv int8
  tinyscout budget maverick --context 128k --batch 16 --weights fp8
  tinyscout budget path/to/checkpoint/ --context 4096"""

UNITS = {"k": 1 << 10, "m": 1 << 20}


def arguments(sub):
    sub.add_argument("model", metavar="MODEL", help=f"a checkpoint directory, or one of {', '.join(CONFIGS)}")
    sub.add_argument("--context", type=parse_tokens, default=8192, metavar="N",
                     help="tokens of each text: 4096, 128k (times 1,024), 10M (times 1,048,576); default 8k")
    sub.add_argument("--weights", choices=list(WEIGHTS), default="bfloat16", help="how they are stored (%(default)s)")
    sub.add_argument("--kv", choices=list(KV_FORMATS), default="bfloat16", help="keys and values (%(default)s)")
    sub.add_argument("--batch", type=positive_int, default=1, metavar="N", help="texts at once (%(default)s)")


def parse_tokens(text):
    """4096, 128k or 10M as a number, for argparse."""
    number, unit = (text[:-1], UNITS[text[-1].lower()]) if text[-1:].lower() in UNITS else (text, 1)
    try:
        return positive_int(number) * unit
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens such as 4096, 128k or 10M") from None


def run(args):
    config, _ = load_config_arg(args.model)
    parts = [weights(config, args), cache(config, args), token(config, args), speeds(config, args)]
    if args.model == "scout":
        parts.append(published_claims())
    console = make_console()
    for part in parts:
        console.print(part)


def weights(config, args):
    sizes = weight_bytes(config, args.weights)
    made = make_table(f"Weights in {args.weights}", "", "")
    for part, size in {**sizes, "together": sum(sizes.values())}.items():
        made.add_row(part, format_si(round(size), "B"))
    return made


def cache(config, args):
    kept = kv_bytes(config, args.context, args.kv)
    made = make_table(f"\nKeys and values of {args.context:,} tokens in {args.kv}", "", "")
    c = config.text
    local = sum(layer.chunked for layer in c.layers)
    form = args.kv if args.kv in ("float32", "bfloat16") else "bfloat16"
    rows = {f"{len(c.layers) - local} layers that see everything": kept.whole,
            f"{local} layers that see a chunk of {c.chunk_size:,}, in {form}": kept.local, "together": kept.total,
            "if every layer kept everything": kept.naive}
    if args.batch > 1:
        rows[f"together, of {args.batch} texts"] = args.batch * kept.total
    for name, size in rows.items():
        made.add_row(name, format_si(round(size), "B"))
    return made


def token(config, args):
    each, kept = flops_per_token(config, args.context), kv_bytes(config, args.context, args.kv)
    made = make_table("\nOne more token" + (f" in each of {args.batch} texts" if args.batch > 1 else ""), "", "")
    made.add_row("operations in matrices, each text", format_si(each.linear, "FLOP"))
    made.add_row("operations in attention, each text", format_si(each.attention, "FLOP"))
    made.add_row("the same, if every layer saw everything", format_si(each.naive, "FLOP"))
    made.add_row("weights read", format_si(round(bytes_read_per_step(config, args.weights, args.batch)), "B"))
    made.add_row("keys and values read", format_si(round(args.batch * kept.total), "B"))
    if args.batch > 1:
        made.add_row("of the routed experts", f"{expected_expert_fraction(config, args.batch):.0%}")
    return made


def this_machine():
    """This machine as a card: its memory, and what it reads and computes as it was measured just now."""
    found = measure_roofline()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else float("nan")
    return GpuSpec(f"here: {describe_machine()['cpu']}", memory, found["read bytes per second"],
                   found["operations per second"])


def speeds(config, args):
    """The roofline: no program is faster than memory and arithmetic allow."""
    step = decoding(config, args.context, args.weights, args.kv, args.batch)
    made = make_table("\nTokens a second at best" + (", all texts together" if args.batch > 1 else ""),
                      "", "memory", "reads a second", "bfloat16", "tokens/s", "needs", "")
    for card in [*CARDS, this_machine()]:
        fast = step.speed(card.bandwidth, card.peak, args.batch)
        needed = f"{step.memory / card.memory:.2g} of it"
        made.add_row(card.name, format_si(round(card.memory), "B"), format_si(card.bandwidth, "B"),
                     format_si(card.peak, "FLOP/s") if card.peak else "not published", f"{fast:.3g}", needed,
                     "fits" if step.memory <= card.memory else "does not fit")
    made.caption = ("Makers' figures, and this machine's own as measured now (in float32).  Where a model does not "
                    "fit, so many cards\nare needed at least, and the speed is that of one which had the memory.")
    made.caption_justify = "left"
    return made


def published_claims():
    """What was said of Scout's hardware, beside what is true."""
    scout = CONFIGS["scout"]

    def size(form):
        return sum(weight_bytes(scout, form).values()) / 1e9

    bare, card = sum(weight_bytes(scout, "fp8").values()) / 2e9, 80e9
    fits = {kv: max_context(scout, "int4-meta", kv, card) for kv in ("bfloat16", "int8")}
    made = make_table("\nWhat was said of Scout, and what is true", "said", "true")
    made.columns[1].justify = "left"
    made.add_row("FP16: about 220 GB", f"{size('bfloat16'):.2f} GB, with the vision tower")
    made.add_row("4-bit: about 60 GB", f"{bare:.2f} GB if all were 4-bit numbers and nothing else; "
                 f"{size('int4-meta'):.2f} GB as Meta's loader makes it;")
    made.add_row("", f"{size('int4'):.2f} GB in groups of 32 with all large matrices of the text, as here")
    made.add_row("fits one 80 GB card", f"in 4 bits, yes, with {(card / 1e9 - size('int4-meta')):.1f} GB to spare: "
                 f"{fits['bfloat16']:,} tokens of cache in bfloat16,")
    made.add_row("", f"{fits['int8']:,} in int8; its 10M tokens would take "
                 f"{kv_bytes(scout, 10 << 20, 'bfloat16').total / 1e9:.0f} GB and "
                 f"{kv_bytes(scout, 10 << 20, 'int8').total / 1e9:.0f} GB")
    return made
