"""Whole models in few bits: which weights, streamed from one checkpoint to another, and what is lost."""
import json
import math
import re
import shutil
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tinyscout.checkpoint import CheckpointReader, load_config, materialize, quantization_config, stored_tensor
from tinyscout.checkpoint.config_json import read_json
from tinyscout.checkpoint.hf_names import hf_name, hf_name_variants
from tinyscout.checkpoint.safetensors_io import WEIGHT_FILES, TensorGroup, TensorSpec, atomic_directory, write_shards
from tinyscout.nn.weights import named_arrays, weight_shapes, to_file_layout, tree_map
from tinyscout.progress import track
from tinyscout.reference import Quantized, dequantize, quantize
from tinyscout.reference.quantize import COLUMNS, QUAD

LARGE = re.compile(r"text\.(output|blocks\.\d+\..*\.w_(q|k|v|o|gate|up|down))")     # what nearly all of the bytes are
SCALE_DTYPES = {32: np.dtype(ml_dtypes.bfloat16), 128: np.dtype(np.float32)}              # of a group of so many inputs
CHUNK_SIZE = 1 << 23       # numbers that are turned into integers at once: bounds memory


class QuantError(NamedTuple):
    """What rounding took from some weights."""

    error: float        # sum of the squared errors
    size: float         # sum of the squared weights

    @property
    def relative(self):
        """Root of the mean squared error beside that of the weights, equation (loss)."""
        return math.sqrt(self.error / self.size) if self.size else 0.0

    def __add__(self, other):                   # type: ignore[override]
        return QuantError(self.error + other.error, self.size + other.size)


def is_quantizable(path, shape, group):
    """Is this one of the large matrices, and can it be cut into tiles and groups?"""
    return bool(LARGE.fullmatch(path)) and shape[-1] % COLUMNS == 0 and shape[-2] % group == 0


def check_format(bits, group):
    """Raises ValueError for bits or groups that there are not."""
    if bits not in (4, 8) or group not in SCALE_DTYPES:
        raise ValueError(f"weights have 4 or 8 bits and groups of {' or '.join(map(str, SCALE_DTYPES))}, "
                         f"not {bits} bits and groups of {group}")


def column_chunks(w, bits, group):
    """A matrix, or one expert's after the other, a few columns at a time.

    w (I, O) or (E, I, O), or a list of E things that Found.weight found  ->  iterator of (plain, Quantized) of columns
    """
    for matrix in w if isinstance(w, list) or w.ndim == 3 else [w]:
        matrix = materialize(matrix)
        step = max(1, CHUNK_SIZE // len(matrix) // COLUMNS) * COLUMNS
        for n in range(0, matrix.shape[1], step):
            plain = matrix[:, n:n + step]
            yield plain, quantize(plain, bits, group, SCALE_DTYPES[group])


def measure_error(plain, w):
    plain = plain.astype(np.float32, copy=False)
    wrong = dequantize(w) - plain
    return QuantError(float(np.vdot(wrong, wrong)), float(np.vdot(plain, plain)))


def quantize_weights(weights, bits=4, group=32, progress=True):
    """The same tree, in which the large matrices of the text model are Quantized.

    weights Scout, bits 4 or 8, group 32 (scales in bfloat16) or 128 (in float32, as Meta's), progress bool  ->  Scout

    Embedding, router, norms and everything of the pictures stay as they are, a tied output matrix too (it is the
    embedding), and what cannot be cut into tiles.  Raises ValueError.
    """
    check_format(bits, group)
    items = dict(named_arrays(weights))
    if any(isinstance(w, Quantized) for w in items.values()):
        raise ValueError("these weights are quantized already")
    tied = np.may_share_memory(weights.text.output, weights.text.embedding)
    for path in track(list(items), "Quantizing") if progress else list(items):
        if is_quantizable(path, items[path].shape, group) and not (tied and path == "text.output"):
            items[path] = quantize_in_chunks(items[path], bits, group)
    leaves = iter(items.values())
    return tree_map(lambda _: next(leaves), weights)


def quantize_in_chunks(w, bits, group):
    """quantize(w, bits, group), in little memory beside its result."""
    columns = zip(*(q for _, q in column_chunks(w, bits, group)), strict=True)
    joined = [np.concatenate(leaves) for leaves in columns]                             # (E*O/16, ...)
    return Quantized(*(leaf.reshape(*w.shape[:-2], -1, *leaf.shape[1:]) for leaf in joined))


def quantization_error(weights, quantized):
    """What was lost, matrix by matrix: {path: Loss} of all that is Quantized.

    weights and quantized: the same tree before and after
    """
    before, found = dict(named_arrays(weights)), {}
    for path, w in named_arrays(quantized):
        if isinstance(w, Quantized):
            plain = before[path]
            stack = [(plain, w)] if plain.ndim == 2 else [(plain[e], Quantized(*(leaf[e] for leaf in w)))
                                                          for e in range(len(plain))]
            found[path] = sum((measure_error(*pair) for pair in stack), QuantError(0.0, 0.0))
    return found


def errors_by_layer(losses):
    """{path: Loss} summed up: {(layer, part): Loss}, layers from 0 and "output", parts as the command shows them."""
    found: dict = {}
    for path, one in losses.items():
        words = path.split(".")
        part = next((word for word in ("attention", "shared", "experts") if word in words), "dense")
        keys = [("output", "all")] if path == "text.output" else [(int(words[2]), part), (int(words[2]), "all")]
        for key in keys:
            found[key] = found.get(key, QuantError(0.0, 0.0)) + one
    return found


class LogitsError(NamedTuple):
    """How far scores are from what they should be."""

    l2: float           # relative, over all scores
    kl: float           # mean over tokens of the divergence from the true distribution, in nats
    agreement: float    # share of tokens whose likeliest next token is the same


def logits_error(exact, given):
    """What the loss in the weights does to the scores: exact and given (T, V)  ->  Difference, equation (loss)."""
    exact, given = np.asarray(exact, np.float64), np.asarray(given, np.float64)
    p, q = (a - np.logaddexp.reduce(a, axis=-1, keepdims=True) for a in (exact, given))
    return LogitsError(float(np.linalg.norm(given - exact) / np.linalg.norm(exact)),
                       float((np.exp(p) * (p - q)).sum(-1).mean()),
                       float((exact.argmax(-1) == given.argmax(-1)).mean()))


class QuantizationReport(NamedTuple):
    """What quantizing a checkpoint came to."""

    errors: dict        # {path: Loss}
    bytes_before: int         # bytes of all tensors
    bytes_after: int


def quantize_checkpoint(directory, out, bits=4, group=32):
    """Write a checkpoint anew with its large matrices in few bits, a few columns at a time.

    directory, out a directory that does not exist or is empty, bits and group as in quantize_weights  ->  Report
    Raises OSError or ValueError, and then leaves nothing.
    """
    check_format(bits, group)
    directory, out = Path(directory), Path(out)
    config, found = load_config(directory), CheckpointReader(directory)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already and not empty: name a new directory")
    losses: dict[str, QuantError] = {}
    items = output_tensors(config, found, bits, group, losses)
    if unused := found.unused_names:
        warnings.warn(f"{directory}: {len(unused)} tensors belong to no part of the model, such as {unused[0]}; "
                      "they are left out", stacklevel=2)
    with atomic_directory(out) as scratch:
        write_shards(scratch, items, what="Quantizing")
        copy_other_files(directory, scratch)
        told = read_json(directory / "config.json") | {"quantization_config": quantization_config(bits, group)}
        (scratch / "config.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return QuantizationReport(losses, sum(a.nbytes for a in found.tensors.values()),
                  sum(size.nbytes for item in items for size in item.specs.values()))


def output_tensors(config, found, bits, group, losses):
    """What to write, in the order of the model.  The losses are filled in while it is written."""
    items: dict = {}
    kept: dict = {}
    for path, shape in weight_shapes(config).items():
        w, name = found.get_weight(path, shape), hf_name(path, found.multimodal)
        if isinstance(w, Quantized):
            raise ValueError(f"{found.directory} is quantized already")
        if is_quantizable(path, shape, group):
            base, _ = hf_name_variants(path, found.multimodal)
            items[base] = TensorGroup(quantized_specs(base, shape, bits, group),
                                      partial(stream_quantized, base, path, w, bits, group, losses))
        else:
            kept.setdefault(name, []).append(to_file_layout(path, materialize(w)))
            items[name] = None
    return [item or stored_tensor(name, kept[name]) for name, item in items.items()]


def quantized_specs(base, shape, bits, group):
    """{name: Size} of the values and the scales of a matrix, by the layout of `Quantized`."""
    *E, I, O = shape
    tiles = (*E, O // COLUMNS)
    return {f"{base}.values": TensorSpec(np.dtype(np.uint8 if bits == 4 else np.int8),
                                         (*tiles, I * bits // (8 * QUAD), COLUMNS, QUAD)),
            f"{base}.scales": TensorSpec(SCALE_DTYPES[group], (*tiles, I // group, COLUMNS))}


def stream_quantized(base, path, w, bits, group, losses):
    """The pieces of one Stored, and its loss."""
    total = QuantError(0.0, 0.0)
    for plain, q in column_chunks(w, bits, group):
        total += measure_error(plain, q)
        yield f"{base}.values", q.values
        yield f"{base}.scales", q.scales
    losses[path] = total


def copy_other_files(directory, scratch):
    """Tokenizer, generation config, template: whatever small files lie beside the weights."""
    for file in [*directory.iterdir(), *directory.glob("original/tokenizer.model")]:
        if file.is_file() and file.suffix in (".json", ".model", ".jinja", ".txt", ".md") \
                and not WEIGHT_FILES.fullmatch(file.name):
            target = scratch / file.relative_to(directory)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
