"""Say what a model is made of, without reading its weights."""
from rich.table import Table

from tinyscout.checkpoint import CheckpointReader
from tinyscout.cli import load_config_arg, make_console
from tinyscout.config import CONFIGS
from tinyscout.nn.weights import count_parameters, shapes
from tinyscout.reference.quantize import ROW_GROUP

EXAMPLE = """\
examples:
  tinyscout info scout
  tinyscout info path/to/checkpoint/        exit code 1 where a tensor is missing"""

FORMS = {"uint8": "int4"}                            # two to a byte
CONTEXTS = {"8K": 8192, "128K": 131_072, "1M": 1_048_576, "10M": 10_485_760}
BYTES = {"bfloat16": 2, "float32": 4}
SHORT = {"int4": 0.5, "int8": 1}                    # and a scale of two bytes for every group; in global layers only


def arguments(sub):
    sub.add_argument("model", metavar="MODEL", help=f"a checkpoint directory, or one of {', '.join(CONFIGS)}")


def run(args):
    config, directory = load_config_arg(args.model)
    held = tensors(directory) if directory else None
    parts = [sizes(config), layers(config.text), parameters(config, held), memory(config.text)]
    lines, code = list_files(directory, config, held) if directory else ([], 0)
    console = make_console()
    for part in [*parts, *lines]:
        console.print(part)
    return code


def tensors(directory):
    """What the files hold, not yet read; None where only the config is there."""
    return CheckpointReader(directory) if any(directory.glob("*.safetensors*")) else None


def make_table(title, *columns):
    """A table without boxes, whose columns but the first stand to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=any(columns),
                 pad_edge=False, padding=(0, 2, 0, 0))
    for n, column in enumerate(columns):
        made.add_column(column, justify="right" if n else "left")
    return made


def sizes(config):
    c, v = config.text, config.vision
    made = make_table("Sizes", "", "")
    rows = {"width": c.dim, "query heads": c.n_heads, "key/value heads": c.n_kv_heads, "head channels": c.head_dim,
            "experts": f"{c.n_experts}, of which a token visits {c.top_k}, and one shared",
            "hidden width of an expert": c.hidden_dim}
    if not all(layer.moe for layer in c.layers):
        rows["hidden width without experts"] = c.dense_dim
    rows |= {"vocabulary": c.vocab_size, "RoPE theta": c.rope_theta,
             "RoPE stretch": f"{c.rope_scaling.factor:g} times" if c.rope_scaling else "none",
             "norm of queries and keys": ("in all layers" if c.qk_norm_nope else "yes") if c.qk_norm else "no",
             "temperature of long contexts": "yes" if c.attn_temperature else "no", "made for tokens": c.max_positions}
    if v:
        rows["vision"] = (f"{v.n_layers} layers of width {v.dim:,}, tiles of {v.tile_size} pixels, "
                          f"{v.tokens_per_tile} tokens each")
    for name, value in rows.items():
        made.add_row(name, value if isinstance(value, str) else f"{value:,}".removesuffix(".0"))
    made.columns[1].justify = "left"
    return made


def layers(c):
    """The plan, one row for each kind of layer."""
    made = make_table(f"\n{len(c.layers)} layers", "positions", "sees", "feed-forward", "layers", "which, from 1")
    kinds: dict = {}
    for n, layer in enumerate(c.layers, 1):
        kinds.setdefault(layer, []).append(n)
    for layer, numbers in kinds.items():
        made.add_row("RoPE" if layer.rope else "none", f"its chunk of {c.chunk_size:,}" if layer.chunked
                     else "everything",
                     "experts" if layer.moe else "dense", str(len(numbers)), format_ranges(numbers))
    for column in made.columns:
        column.justify = "left"
    return made


def format_ranges(numbers):
    """Rising numbers, with runs drawn together and the middle left out: "1-3, 5-7, 9-11 … 45-47"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    text = [f"{low}-{high}" if low < high else f"{low}" for low, high in runs]
    return ", ".join(text) if len(text) <= 4 else f"{', '.join(text[:3])} … {text[-1]}"


def parameters(config, held):
    """How many there are, and their bytes: in the files' own types where there are files, or in bfloat16."""
    counts = count_parameters(config)
    arrays = held.tensors.values() if held else ()
    kinds = ", ".join(sorted({FORMS.get(str(array.dtype), str(array.dtype)) for array in arrays})) or "bfloat16"
    made = make_table("\nParameters", "", "", "")
    rows = {"text": counts.text, "vision": counts.vision, "projector": counts.projector, "total": counts.total,
            "routed experts": counts.routed, "active, of the text": counts.active}
    for name, value in rows.items():
        if value:
            made.add_row(name, f"{value:,}", format_si(value, ""))
    nbytes = sum(array.nbytes for array in arrays) if held else 2 * counts.total
    made.add_row(f"bytes in {kinds}", f"{nbytes:,}", format_si(nbytes, "B"))
    return made


def memory(c):
    """What the tokens so far cost: keys and values, of which a chunked layer keeps one chunk at most."""
    scale = 2 / min(ROW_GROUP, c.head_dim)
    kinds = {name: (size + scale, 2) for name, size in SHORT.items()}
    kinds |= {name: (size, size) for name, size in BYTES.items()}
    made = make_table("\nCache of keys and values", "tokens", *kinds)
    whole, local = (sum(layer.chunked is kind for layer in c.layers) for kind in (False, True))

    def nbytes(tokens, far, near):
        return round((whole * tokens * far + local * min(tokens, c.chunk_size) * near) * 2 * c.n_kv_heads * c.head_dim)

    for name, tokens in {"1": 1, **CONTEXTS}.items():
        made.add_row(name, *(format_si(nbytes(tokens, *size), "B") for size in kinds.values()))
    more = (format_si(nbytes(2 * c.chunk_size + 1, *size) - nbytes(2 * c.chunk_size, *size), "B")
            for size in kinds.values())
    made.add_row(f"each beyond {c.chunk_size:,}", *more)
    return made


def format_si(number, unit):
    """108,641,793,536 as 108.6 G."""
    for size, prefix in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]:
        if number >= size:
            return f"{number / size:.4g} {prefix}{unit}"
    return f"{number} {unit}".rstrip()


def list_files(directory, config, held):
    """Which files there are, and whether every tensor that the config calls for is in them  ->  lines, exit code"""
    made = make_table("\nFiles", "", "")
    for file in sorted(p for p in directory.iterdir() if p.suffix in (".safetensors", ".json", ".model")):
        made.add_row(file.name, format_si(file.stat().st_size, "B"))
    if not held:
        return [made, "\nNo weights here: of the model there is only the config."], 1
    wrong = []
    for path, shape in shapes(config).items():
        try:
            held.weight(path, shape)
        except ValueError as error:
            wrong.append(str(error).removeprefix(f"{directory}: "))
    known, extra, wrong = held.used & set(held.tensors), held.unused, list(dict.fromkeys(wrong))
    verdict = (f"\n{len(known):,} tensors that the config calls for: "
               f"{f'{len(wrong):,} are not as they should be' if wrong else 'all there'}.")
    lines = [verdict, *wrong[:5], *([f"and {len(wrong) - 5:,} more"] if len(wrong) > 5 else [])]
    if extra:
        lines.append(f"{len(extra):,} tensors belong to no part of the model, such as {extra[0]}.")
    return [made, *lines], 1 if wrong else 0
