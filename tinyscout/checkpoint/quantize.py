"""Quantize models: in memory or streamed from one checkpoint to another, and measure the error."""
import math
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyscout.checkpoint import CheckpointReader, load_config, materialize, quantization_config, stored_tensor
from tinyscout.checkpoint.atomic import atomic_directory
from tinyscout.checkpoint.config_json import read_json, write_json
from tinyscout.checkpoint.dtypes import SCALE_DTYPES, quantized_shapes
from tinyscout.checkpoint.hf_names import hf_name, hf_name_variants
from tinyscout.checkpoint.safetensors_io import WEIGHT_FILES, TensorGroup, TensorSpec, write_shards
from tinyscout.config import ScoutConfig
from tinyscout.nn.weights import Scout, named_arrays, to_file_layout, tree_map, weight_shapes
from tinyscout.progress import track
from tinyscout.reference import Quantized, dequantize, quantize
from tinyscout.reference.quantize import COLUMNS

QUANTIZABLE = re.compile(r"text\.(output|blocks\.\d+\..*\.w_(q|k|v|o|gate|up|down))")   # nearly all of the bytes
CHUNK_SIZE = 1 << 23        # elements that are quantized together: bounds memory


class QuantError(NamedTuple):
    """Quantization error of some weights."""

    squared_error: float        # sum of the squared errors
    squared_norm: float         # sum of the squared weights

    @property
    def relative(self) -> float:
        """RMS error relative to the RMS of the weights, equation (quantization-error)."""
        return math.sqrt(self.squared_error / self.squared_norm) if self.squared_norm else 0.0

    def __add__(self, other):                   # type: ignore[override]
        return QuantError(self.squared_error + other.squared_error, self.squared_norm + other.squared_norm)


def is_quantizable(path: str, shape: tuple[int, ...], group: int) -> bool:
    """True if a weight is one of the large matrices and can be split into tiles and groups."""
    return bool(QUANTIZABLE.fullmatch(path)) and shape[-1] % COLUMNS == 0 and shape[-2] % group == 0


def check_format(bits: int, group: int) -> None:
    """Raise ValueError for an unsupported number of bits or group size."""
    if bits not in (4, 8) or group not in SCALE_DTYPES:
        raise ValueError(f"weights have 4 or 8 bits and groups of {' or '.join(map(str, SCALE_DTYPES))}, "
                         f"not {bits} bits and groups of {group}")


def column_chunks(w: Any, bits: int, group: int) -> Iterator[tuple[np.ndarray, Quantized]]:
    """Quantize a matrix, or that of one expert after the other, a few columns at a time.

    w (I, O) or (E, I, O), or a list of E weights from CheckpointReader.get_weight
    ->  iterator of (plain, Quantized) of columns
    """
    for matrix in w if isinstance(w, list) or w.ndim == 3 else [w]:
        matrix = materialize(matrix)
        columns = max(1, CHUNK_SIZE // len(matrix) // COLUMNS) * COLUMNS
        for n in range(0, matrix.shape[1], columns):
            plain = matrix[:, n:n + columns]
            yield plain, quantize(plain, bits, group, SCALE_DTYPES[group])


def measure_error(plain: np.ndarray, w: Quantized) -> QuantError:
    plain = plain.astype(np.float32, copy=False)
    difference = dequantize(w) - plain
    return QuantError(float(np.vdot(difference, difference)), float(np.vdot(plain, plain)))


def quantize_weights(weights: Scout, bits: int = 4, group: int = 32, progress: bool = True) -> Scout:
    """Quantize the large matrices of the text model in a tree of weights.

    weights Scout, bits 4 or 8, group 32 (scales in bfloat16) or 128 (in float32, as Meta's), progress bool  ->  Scout

    Embedding, a tied output matrix (it is the embedding), router, norms, the vision tower, and matrices that cannot be
    split into tiles stay unchanged.  Raises ValueError for an unsupported format or quantized weights.
    """
    check_format(bits, group)
    arrays = dict(named_arrays(weights))
    if any(isinstance(w, Quantized) for w in arrays.values()):
        raise ValueError("these weights are quantized already")
    is_tied = np.may_share_memory(weights.text.output, weights.text.embedding)
    for path in track(list(arrays), "Quantizing") if progress else list(arrays):
        if is_quantizable(path, arrays[path].shape, group) and not (is_tied and path == "text.output"):
            arrays[path] = quantize_in_chunks(arrays[path], bits, group)
    leaves = iter(arrays.values())
    return tree_map(lambda _: next(leaves), weights)


def quantize_in_chunks(w: np.ndarray, bits: int, group: int) -> Quantized:
    """Compute quantize(w, bits, group) with little memory besides its result."""
    chunks = zip(*(q for _, q in column_chunks(w, bits, group)), strict=True)
    fields = [np.concatenate(arrays) for arrays in chunks]                              # (E*O/16, ...)
    return Quantized(*(field.reshape(*w.shape[:-2], -1, *field.shape[1:]) for field in fields))


def quantization_error(weights: Scout, quantized: Scout) -> dict[str, QuantError]:
    """Return the error of each quantized matrix: {path: QuantError}.

    weights and quantized: the same tree before and after
    """
    before, errors = dict(named_arrays(weights)), {}
    for path, w in named_arrays(quantized):
        if isinstance(w, Quantized):
            plain = before[path]
            experts = [(plain, w)] if plain.ndim == 2 else [(plain[e], Quantized(*(field[e] for field in w)))
                                                            for e in range(len(plain))]
            errors[path] = sum((measure_error(*pair) for pair in experts), QuantError(0.0, 0.0))
    return errors


def errors_by_layer(errors: dict[str, QuantError]) -> dict[tuple[int | str, str], QuantError]:
    """Sum errors by layer and part: {(layer, part): QuantError}, with layers from 0 and "output"."""
    sums: dict[tuple[int | str, str], QuantError] = {}
    for path, error in errors.items():
        words = path.split(".")
        part = next((word for word in ("attention", "shared", "experts") if word in words), "dense")
        layer: int | str = "output" if path == "text.output" else int(words[2])
        for key in [(layer, "all")] if layer == "output" else [(layer, part), (layer, "all")]:
            sums[key] = sums.get(key, QuantError(0.0, 0.0)) + error
    return sums


class LogitsError(NamedTuple):
    """Error of logits compared with the exact ones."""

    l2: float           # relative, over all logits
    kl: float           # mean over tokens of the KL divergence from the exact distribution, in nats
    agreement: float    # fraction of tokens with the same most probable next token


def logits_error(exact: np.ndarray, approximate: np.ndarray) -> LogitsError:
    """Error of approximate logits (T, V) compared with exact ones, equation (quantization-error)."""
    exact, approximate = np.asarray(exact, np.float64), np.asarray(approximate, np.float64)
    p, q = (a - np.logaddexp.reduce(a, axis=-1, keepdims=True) for a in (exact, approximate))
    return LogitsError(float(np.linalg.norm(approximate - exact) / np.linalg.norm(exact)),
                       float((np.exp(p) * (p - q)).sum(-1).mean()),
                       float((exact.argmax(-1) == approximate.argmax(-1)).mean()))


class QuantizationReport(NamedTuple):
    """Result of quantizing a checkpoint."""

    errors: dict[str, QuantError]       # by path
    bytes_before: int                   # of all tensors
    bytes_after: int


def quantize_checkpoint(directory: Path | str, out: Path | str, bits: int = 4, group: int = 32) -> QuantizationReport:
    """Write a copy of a checkpoint with its large matrices quantized, a few columns at a time.

    directory, out a directory that does not exist or is empty, bits and group as in quantize_weights
    Raises OSError, or ValueError for an unsupported checkpoint or format, and then leaves no files.
    """
    check_format(bits, group)
    directory, out = Path(directory), Path(out)
    config, reader = load_config(directory), CheckpointReader(directory)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} already exists and is not empty: choose a new directory")
    errors: dict[str, QuantError] = {}
    groups = output_tensors(config, reader, bits, group, errors)
    reader.warn_of_unused("; they are left out")
    with atomic_directory(out) as scratch:
        write_shards(scratch, groups, what="Quantizing")
        copy_other_files(directory, scratch)
        content = read_json(directory / "config.json") | {"quantization_config": quantization_config(bits, group)}
        write_json(scratch / "config.json", content)
    return QuantizationReport(errors, sum(tensor.nbytes for tensor in reader.tensors.values()),
                              sum(tensors.nbytes for tensors in groups))


def output_tensors(config: ScoutConfig, reader: CheckpointReader, bits: int, group: int,
                   errors: dict[str, QuantError]) -> list[TensorGroup]:
    """List the tensors to write, in the order of the model.  `errors` is filled in while they are written."""
    groups: dict[str, TensorGroup | None] = {}
    unquantized: dict[str, list[np.ndarray]] = {}       # their group is made when all halves are known
    for path, shape in weight_shapes(config).items():
        w, name = reader.get_weight(path, shape), hf_name(path, reader.multimodal)
        if isinstance(w, Quantized):
            raise ValueError(f"{reader.directory} is quantized already")
        if is_quantizable(path, shape, group):
            base, _ = hf_name_variants(path, reader.multimodal)
            groups[base] = TensorGroup(quantized_specs(base, shape, bits, group),
                                       partial(stream_quantized, base, path, w, bits, group, errors))
        else:
            unquantized.setdefault(name, []).append(to_file_layout(path, materialize(w)))
            groups[name] = None
    return [tensors or stored_tensor(name, unquantized[name]) for name, tensors in groups.items()]


def quantized_specs(base: str, shape: tuple[int, ...], bits: int, group: int) -> dict[str, TensorSpec]:
    """Return {name: TensorSpec} of the values and the scales of a matrix, in the layout of `Quantized`."""
    values, scales = quantized_shapes(shape, bits, group)
    return {f"{base}.values": TensorSpec(np.dtype(np.uint8 if bits == 4 else np.int8), values),
            f"{base}.scales": TensorSpec(SCALE_DTYPES[group], scales)}


def stream_quantized(base: str, path: str, w: Any, bits: int, group: int,
                     errors: dict[str, QuantError]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the chunks of one TensorGroup, then enter its error in `errors`."""
    total = QuantError(0.0, 0.0)
    for plain, q in column_chunks(w, bits, group):
        total += measure_error(plain, q)
        yield f"{base}.values", q.values
        yield f"{base}.scales", q.scales
    errors[path] = total


def copy_other_files(directory: Path, scratch: Path) -> None:
    """Copy the small files next to the weights: tokenizer, generation config, chat template."""
    for file in [*directory.iterdir(), *directory.glob("original/tokenizer.model")]:
        if file.is_file() and file.suffix in (".json", ".model", ".jinja", ".txt", ".md") \
                and not WEIGHT_FILES.fullmatch(file.name):
            target = scratch / file.relative_to(directory)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
