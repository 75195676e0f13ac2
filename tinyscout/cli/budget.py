"""Compute the cost of a model: memory, operations, and an upper bound on tokens per second."""
import os

from tinyscout.bench.budget import (
    DTYPES,
    GPUS,
    GpuSpec,
    bytes_read_per_step,
    decode_step,
    expected_expert_fraction,
    flops_per_token,
    kv_bytes,
    local_kv_dtype,
    max_context,
    weight_bytes,
)
from tinyscout.bench.formats import format_digits
from tinyscout.bench.machine import describe_machine, measure_roofline
from tinyscout.cli import load_config_arg, make_console, positive_int
from tinyscout.cli._format import format_si, make_table, parse_tokens
from tinyscout.config import CONFIGS
from tinyscout.nn.cache import KV_DTYPES

EXAMPLE = """\
examples:
  tinyscout budget scout --context 10M --dtype int4 --kv-dtype int8
  tinyscout budget maverick --context 128k --batch 16 --dtype fp8
  tinyscout budget path/to/checkpoint/ --context 4096"""


def add_arguments(sub):
    sub.add_argument("model", metavar="MODEL", help=f"a checkpoint directory, or one of {', '.join(CONFIGS)}")
    sub.add_argument("--context", type=parse_tokens, default=8192, metavar="N",
                     help="tokens of each text: 4096, 128k (times 1,024), 10M (times 1,048,576); default 8k")
    sub.add_argument("--dtype", choices=list(DTYPES), default="bfloat16", help="dtype of the weights (%(default)s)")
    sub.add_argument("--kv-dtype", choices=KV_DTYPES, default="bfloat16", help="dtype of the KV cache (%(default)s)")
    sub.add_argument("--batch", type=positive_int, default=1, metavar="N", help="number of texts (%(default)s)")


def run(args):
    config, _ = load_config_arg(args.model)
    tables = [weight_table(config, args), cache_table(config, args), token_table(config, args),
              speed_table(config, args)]
    if args.model == "scout":
        tables.append(claim_table())
    console = make_console()
    for table in tables:
        console.print(table)


def weight_table(config, args):
    sizes = weight_bytes(config, args.dtype)
    table = make_table(f"Weights in {args.dtype}", "", "")
    for part, size in {**sizes, "total": sum(sizes.values())}.items():
        table.add_row(part, format_si(round(size), "B"))
    return table


def cache_table(config, args):
    size = kv_bytes(config, args.context, args.kv_dtype)
    table = make_table(f"\nKeys and values of {args.context:,} tokens in {args.kv_dtype}", "", "")
    c = config.text
    n_local = sum(layer.chunked for layer in c.layers)
    rows = {f"{len(c.layers) - n_local} layers that see everything": size.global_layers,
            f"{n_local} layers that see a chunk of {c.chunk_size:,}, in {local_kv_dtype(args.kv_dtype)}":
            size.local_layers, "total": size.total, "if every layer kept everything": size.naive}
    if args.batch > 1:
        rows[f"total of {args.batch} texts"] = args.batch * size.total
    for name, nbytes in rows.items():
        table.add_row(name, format_si(round(nbytes), "B"))
    return table


def token_table(config, args):
    flops, cache = flops_per_token(config, args.context), kv_bytes(config, args.context, args.kv_dtype)
    table = make_table("\nOne more token" + (f" in each of {args.batch} texts" if args.batch > 1 else ""), "", "")
    table.add_row("operations in matrices, per text", format_si(flops.linear, "FLOP"))
    table.add_row("operations in attention, per text", format_si(flops.attention, "FLOP"))
    table.add_row("the same, if every layer saw everything", format_si(flops.naive, "FLOP"))
    table.add_row("weights read", format_si(round(bytes_read_per_step(config, args.dtype, args.batch)), "B"))
    table.add_row("keys and values read", format_si(round(args.batch * cache.total), "B"))
    if args.batch > 1:
        table.add_row("share of the routed experts", f"{expected_expert_fraction(config, args.batch):.0%}")
    return table


def this_machine():
    """Measure this machine  ->  a GpuSpec with its memory, bandwidth and peak arithmetic"""
    limits = measure_roofline()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else float("nan")
    return GpuSpec(f"here: {describe_machine()['cpu']}", memory, limits["read bytes per second"],
                   limits["operations per second"])


def speed_table(config, args):
    """The roofline: the speed that memory bandwidth and arithmetic allow at best."""
    step = decode_step(config, args.context, args.dtype, args.kv_dtype, args.batch)
    table = make_table("\nTokens per second at best" + (", all texts together" if args.batch > 1 else ""),
                       "", "memory", "reads per second", "bfloat16", "tokens/s", "needs", "")
    for gpu in [*GPUS, this_machine()]:
        speed = step.tokens_per_second(gpu.bandwidth, gpu.peak, args.batch)
        table.add_row(gpu.name, format_si(round(gpu.memory), "B"), format_si(gpu.bandwidth, "B"),
                      format_si(gpu.peak, "FLOP/s") if gpu.peak else "not published", format_digits(speed),
                      f"{format_digits(step.memory / gpu.memory, 2)} of it",
                      "fits" if step.memory <= gpu.memory else "does not fit")
    table.caption = ("Manufacturers' figures; those of this machine were measured just now (in float32).  If a model "
                     "does not fit,\n\"needs\" is the number of GPUs that it needs, and the speed assumes one GPU with "
                     "enough memory.")
    table.caption_justify = "left"
    return table


def claim_table():
    """Claims about the hardware that Scout needs, with the computed values."""
    scout, gpu_memory = CONFIGS["scout"], 80e9

    def size(dtype):
        return sum(weight_bytes(scout, dtype).values()) / 1e9

    context = {kv_dtype: max_context(scout, "int4-meta", kv_dtype, gpu_memory) for kv_dtype in ("bfloat16", "int8")}
    table = make_table("\nClaims about Scout's hardware", "claim", "computed")
    table.columns[1].justify = "left"
    table.add_row("FP16: about 220 GB", f"{size('bfloat16'):.2f} GB, with the vision tower")
    table.add_row("4-bit: about 60 GB", f"{size('fp8') / 2:.2f} GB if every weight took 4 bits, without scales; "
                  f"{size('int4-meta'):.2f} GB as quantized by Meta's loader;")
    table.add_row("", f"{size('int4'):.2f} GB as quantized here: all large matrices of the text model, in groups of 32")
    table.add_row("fits one 80 GB card",
                  f"yes with int4, with {gpu_memory / 1e9 - size('int4-meta'):.1f} GB to spare: "
                  f"{context['bfloat16']:,} tokens of cache in bfloat16,")
    table.add_row("", f"{context['int8']:,} in int8; its 10M tokens would take "
                  f"{kv_bytes(scout, 10 << 20, 'bfloat16').total / 1e9:.0f} GB and "
                  f"{kv_bytes(scout, 10 << 20, 'int8').total / 1e9:.0f} GB")
    return table
