"""Show the sizes, layers, parameters and files of a model, without reading its weights."""
from tinyscout.bench.budget import kv_bytes
from tinyscout.checkpoint import CheckpointReader
from tinyscout.cli import load_config_arg, make_console
from tinyscout.cli._format import format_ranges, format_si, make_table
from tinyscout.config import CONFIGS
from tinyscout.nn.weights import count_parameters, weight_shapes

EXAMPLE = """\
examples:
  tinyscout info scout
  tinyscout info path/to/checkpoint/        exit code 1 if a tensor is missing"""

DTYPE_NAMES = {"uint8": "int4"}                      # two elements per byte
CONTEXTS = {"8K": 8192, "128K": 131_072, "1M": 1_048_576, "10M": 10_485_760}
CACHE_DTYPES = ("int4", "int8", "bfloat16", "float32")


def add_arguments(sub):
    sub.add_argument("model", metavar="MODEL", help=f"a checkpoint directory, or one of {', '.join(CONFIGS)}")


def run(args):
    config, directory = load_config_arg(args.model)
    reader = open_tensors(directory) if directory else None
    tables = [size_table(config), layer_table(config.text), parameter_table(config, reader), cache_table(config)]
    lines, code = list_files(directory, config, reader) if directory else ([], 0)
    console = make_console()
    for part in [*tables, *lines]:
        console.print(part)
    return code


def open_tensors(directory):
    """Open the files without reading the tensors; None if there is only a config."""
    return CheckpointReader(directory) if any(directory.glob("*.safetensors*")) else None


def size_table(config):
    c, v = config.text, config.vision
    table = make_table("Sizes", "", "")
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
        table.add_row(name, value if isinstance(value, str) else f"{value:,}".removesuffix(".0"))
    table.columns[1].justify = "left"
    return table


def layer_table(c):
    """One row for each kind of layer."""
    table = make_table(f"\n{len(c.layers)} layers", "positions", "sees", "feed-forward", "layers", "which, from 1")
    kinds: dict = {}
    for n, layer in enumerate(c.layers, 1):
        kinds.setdefault(layer, []).append(n)
    for layer, numbers in kinds.items():
        table.add_row("RoPE" if layer.rope else "none",
                      f"its chunk of {c.chunk_size:,}" if layer.chunked else "everything",
                      "experts" if layer.moe else "dense", str(len(numbers)), format_ranges(numbers))
    for column in table.columns:
        column.justify = "left"
    return table


def parameter_table(config, reader):
    """Parameter counts, and their bytes: in the dtypes of the files, or in bfloat16 without files."""
    counts = count_parameters(config)
    arrays = reader.tensors.values() if reader else ()
    dtypes = ", ".join(sorted({DTYPE_NAMES.get(str(array.dtype), str(array.dtype)) for array in arrays})) or "bfloat16"
    table = make_table("\nParameters", "", "", "")
    rows = {"text": counts.text, "vision": counts.vision, "projector": counts.projector, "total": counts.total,
            "routed experts": counts.routed, "active, of the text": counts.active}
    for name, value in rows.items():
        if value:
            table.add_row(name, f"{value:,}", format_si(value, ""))
    nbytes = sum(array.nbytes for array in arrays) if reader else 2 * counts.total
    table.add_row(f"bytes in {dtypes}", f"{nbytes:,}", format_si(nbytes, "B"))
    return table


def cache_table(config):
    """Bytes of the KV cache; a chunked layer keeps one chunk at most."""
    table, chunk_size = make_table("\nCache of keys and values", "tokens", *CACHE_DTYPES), config.text.chunk_size

    def nbytes(tokens, dtype):
        return round(kv_bytes(config, tokens, dtype).total)

    for name, tokens in {"1": 1, **CONTEXTS}.items():
        table.add_row(name, *(format_si(nbytes(tokens, dtype), "B") for dtype in CACHE_DTYPES))
    per_token = (nbytes(2 * chunk_size + 1, dtype) - nbytes(2 * chunk_size, dtype) for dtype in CACHE_DTYPES)
    table.add_row(f"each beyond {chunk_size:,}", *(format_si(size, "B") for size in per_token))
    return table


def list_files(directory, config, reader):
    """List the files, and check that they contain every tensor that the config requires  ->  lines, exit code"""
    table = make_table("\nFiles", "", "")
    for file in sorted(p for p in directory.iterdir() if p.suffix in (".safetensors", ".json", ".model")):
        table.add_row(file.name, format_si(file.stat().st_size, "B"))
    if not reader:
        return [table, "\nThis directory has a config but no weights."], 1
    wrong = []
    for path, shape in weight_shapes(config).items():
        try:
            reader.get_weight(path, shape)
        except ValueError as error:
            wrong.append(str(error).removeprefix(f"{directory}: "))
    known, extra, wrong = reader.used_names & set(reader.tensors), reader.unused_names, list(dict.fromkeys(wrong))
    verdict = (f"\n{len(known):,} tensors that the config requires: "
               f"{f'{len(wrong):,} are missing or wrong' if wrong else 'all present'}.")
    lines = [verdict, *wrong[:5], *([f"and {len(wrong) - 5:,} more"] if len(wrong) > 5 else [])]
    if extra:
        lines.append(f"{len(extra):,} tensors do not belong to the model, such as {extra[0]}.")
    return [table, *lines], 1 if wrong else 0
