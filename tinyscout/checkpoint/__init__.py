"""Checkpoints: tensors with Hugging Face's names <-> the tree of weights, memory-mapped both ways."""
import json
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np

from tinyscout.checkpoint.config_json import (
    config_from_hf,
    config_to_hf,
    generation_to_hf,
    preprocessor_to_hf,
    read_json,
)
from tinyscout.checkpoint.hf_names import hf_name, hf_name_variants
from tinyscout.checkpoint.safetensors_io import (
    FLOATS,
    SHARD_BYTES,
    TensorGroup,
    TensorSpec,
    atomic_directory,
    mmap_tensors,
    write_shards,
)
from tinyscout.nn.weights import build, check_shapes, named_arrays, shapes, to_file_layout
from tinyscout.progress import track
from tinyscout.reference import Quantized
from tinyscout.reference.quantize import COLUMNS, QUAD

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
GROUPS = (32, 128)      # inputs that may share a scale


def from_hf_layout(path, theirs):
    """A tensor of the file as ours: a view, never a copy."""
    if theirs.ndim == 3 and path.endswith(("w_gate", "w_up")):
        half = theirs.shape[-1] // 2
        return theirs[..., :half] if path.endswith("w_gate") else theirs[..., half:]
    return to_file_layout(path, theirs)


def to_hf_layout(weights, config):
    """What the files will hold: {their name: our arrays that make it, in order}, a view each.

    weights Scout, config ScoutConfig  ->  dict.  Raises ValueError for a tree that is not the config's.
    """
    check_shapes(weights, config)
    ours, multimodal = dict(named_arrays(weights)), config.vision is not None
    if config.text.tie_embeddings and not np.array_equal(ours.pop("text.output"), ours["text.embedding"].T):
        raise ValueError("the config ties the output matrix to the embedding, but they are not equal")
    tensors: dict[str, list] = {}
    for path, array in ours.items():
        if isinstance(array, Quantized):
            tensors |= {f"{hf_name_variants(path, multimodal)[0]}.{part}": [getattr(array, part)]
                        for part in Quantized._fields}
        else:
            tensors.setdefault(hf_name(path, multimodal), []).append(to_file_layout(path, array))
    return tensors


def load_config(directory):
    """The ScoutConfig of a checkpoint directory.  Raises OSError or ValueError."""
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        within = sorted(directory.glob("*/config.json"))        # as in the directory of a training
        raise FileNotFoundError(f"{directory} holds no config.json" + (
            f", but {within[-1].parent} does" if within else ": is it a Llama 4 checkpoint directory?"))
    parts = (read_json(directory / "config.json"),
             *(read_json(directory / name) if (directory / name).is_file() else None
               for name in ("generation_config.json", "preprocessor_config.json")))
    try:
        return config_from_hf(*parts)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from None


class CheckpointReader:
    """The tensors of a checkpoint directory, asked for by our names."""

    def __init__(self, directory):
        self.directory, self.tensors = directory, mmap_tensors(directory)
        self.multimodal = any(name.startswith("language_model.") for name in self.tensors)
        self.used = {hf_name("text.output", self.multimodal)}      # beside a tied embedding it may be there

    def get_weight(self, path, shape):
        """One weight in the form in which the files have it.

        path as in weights.build, shape  ->  a view of the mapped file, which may be Quantized; or a function that makes
        the array in bfloat16 of 8-bit floats; or a list of one such for every expert.  `materialize` makes all of them arrays.
        Raises ValueError where the files do not hold it, or in another shape.
        """
        name, (base, apart) = hf_name(path, self.multimodal), hf_name_variants(path, self.multimodal)
        if f"{base}.values" in self.tensors:
            return self.get_quantized(base, shape)
        if name not in self.tensors and apart and apart.format(0) in self.tensors:
            return [self.get_unquantized(path, apart.format(e), shape[1:]) for e in range(shape[0])]
        return self.get_unquantized(path, name, shape)

    def get_quantized(self, base, shape):
        """Integers and scales that fit each other and the shape."""
        w = Quantized(*(self.take(f"{base}.{part}") for part in Quantized._fields))
        *E, I, O = shape
        good = w.values.dtype in (np.int8, np.uint8) and w.scales.dtype in (np.float32, BFLOAT16) and (
            w.values.shape == (*E, O // COLUMNS, I * w.bits // (8 * QUAD), COLUMNS, QUAD)
            and w.scales.shape in [(*E, O // COLUMNS, I // group, COLUMNS) for group in GROUPS] and w.shape == shape)
        if not good:
            raise ValueError(f"{self.directory}: {base} has {w.values.dtype} values of shape {w.values.shape} and "
                             f"{w.scales.dtype} scales of shape {w.scales.shape}, which contradicts the config: they "
                             f"make no quantized matrix of shape {shape}")
        return w

    def get_unquantized(self, path, name, shape):
        """An array of numbers, or a function that makes it of 8-bit floats."""
        theirs = self.take(name)
        ours = from_hf_layout(path, theirs)
        if ours.shape != shape:
            raise ValueError(f"{self.directory}: {name} has shape {theirs.shape}, which contradicts the config: "
                             f"as {path} it is {ours.shape} and should be {shape}")
        if theirs.dtype.itemsize > 1:
            return ours
        if theirs.dtype.kind in "iu":
            raise ValueError(f"{self.directory}: {name} is {theirs.dtype} without scales that tinyscout knows")
        other = f"{name}_weight_scale"              # as some name it where the tensor is not called weight
        scale = self.take(other if other in self.tensors else f"{name}_scale")
        try:
            scales = from_hf_layout(path, np.broadcast_to(scale, theirs.shape))
        except ValueError:
            raise ValueError(f"{self.directory}: {name} of shape {theirs.shape} has scales of shape "
                             f"{scale.shape}") from None
        return lambda: (ours.astype(np.float32) * scales.astype(np.float32)).astype(BFLOAT16)     # equation (fp8)

    def take(self, name):
        if name not in self.tensors:
            raise ValueError(f"{self.directory}: the config calls for {name}, which no file holds")
        self.used.add(name)
        return self.tensors[name]

    @property
    def unused(self):
        """Names of tensors that nobody asked for, but for what 8-bit activations would need."""
        return sorted(name for name in set(self.tensors) - self.used if not name.endswith("input_scale"))


def materialize(weight):
    """What Found.weight found, as an array or Quantized."""
    if isinstance(weight, list):
        return np.stack([materialize(expert) for expert in weight])
    return weight() if callable(weight) else weight


def load_weights(directory, config, dtype=None):
    """The weights of a checkpoint directory, as views of its memory-mapped files.

    directory, config ScoutConfig, dtype or None to keep each tensor's own (and read it when it is used)
    ->  weights.Scout.  8-bit floats are made bfloat16 in memory; what is quantized stays so, whatever the dtype.
    Raises OSError or ValueError; warns of tensors that no part of the model wants.
    """
    dtype = parse_dtype(dtype, "compute in", *FLOATS.values(), np.dtype(np.float64))
    found = CheckpointReader(directory)
    arrays = {path: found.get_weight(path, shape) for path, shape in shapes(config).items()}
    if unused := found.unused:
        warnings.warn(f"{directory}: {len(unused)} tensors belong to no part of the model, such as {unused[0]}",
                      stacklevel=2)
    for path in track([path for path, weight in arrays.items() if callable(weight) or isinstance(weight, list)],
                      "Reading 8-bit floats"):
        arrays[path] = materialize(arrays[path])
    if dtype is not None:
        items = track(list(arrays.items()), f"Converting to {dtype.name}")
        arrays = {path: a if isinstance(a, Quantized) else a.astype(dtype, copy=False) for path, a in items}
    return build(config, lambda path, shape: arrays[path])


def parse_dtype(dtype, verb, *allowed):
    """A dtype or its name as a dtype, None as None.  Raises ValueError where it is not among those allowed."""
    try:
        known = None if dtype is None else np.dtype(dtype)
    except TypeError:
        known = dtype
    if known is not None and known not in allowed:
        raise ValueError(f"tinyscout cannot {verb} {known}: choose from {', '.join(d.name for d in allowed)}")
    return known


def save_checkpoint(directory, weights, config, dtype=None, shard_bytes=SHARD_BYTES, extra=lambda scratch: None):
    """Write a directory that transformers loads: config, generation config, safetensors, and what `extra` adds.

    directory, weights Scout, config ScoutConfig, dtype or None to keep each array's own, shard_bytes int,
    extra: function that writes more files into the directory it is given

    What is quantized stays so, and only tinyscout reads it.  An older checkpoint stays whole where this fails.
    Raises OSError, or ValueError for weights that do not fit the config or a dtype.
    """
    items = [stored_tensor(name, arrays, dtype) for name, arrays in to_hf_layout(weights, config).items()]
    with atomic_directory(directory) as scratch:
        stored = write_shards(scratch, items, shard_bytes)
        write_configs(scratch, config, stored, quantization_of(weights))
        extra(scratch)


def stored_tensor(name, arrays, dtype=None):
    """A tensor to be written, of one array or of two halves beside each other.  Raises ValueError for its dtype."""
    if name.endswith((".values", ".scales")):
        dtype = arrays[0].dtype
    else:
        dtype = parse_dtype(arrays[0].dtype if dtype is None else dtype, f"save {name} as", *FLOATS.values())
    shape = (*arrays[0].shape[:-1], sum(a.shape[-1] for a in arrays)) if len(arrays) > 1 else arrays[0].shape
    return TensorGroup({name: TensorSpec(dtype, shape)}, lambda: [(name, _concatenate(name, arrays, dtype))])


def _concatenate(name, arrays, dtype):
    """What a file holds under a name.  Raises ValueError on overflow."""
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(array, dtype)
    except FloatingPointError:
        raise ValueError(f"cannot save {name} as {dtype}: some of its numbers are too large for it") from None


def quantization_of(weights):
    """(bits, group) of a tree of weights, or None where nothing in it is quantized."""
    return next(((w.bits, w.group) for _, w in named_arrays(weights) if isinstance(w, Quantized)), None)


def quantization_entry(bits, group):
    """What config.json says of quantized weights; the tensors themselves are what is believed."""
    return {"quant_method": "tinyscout", "bits": bits, "group": group}


def write_configs(scratch, config, stored, quantization=None):
    """config.json, which tells the form of the weights, and how to sample and to cut pictures."""
    ours = config_to_hf(config, stored)
    if quantization:
        ours["quantization_config"] = quantization_entry(*quantization)
    files = {"config.json": ours, "generation_config.json": generation_to_hf(config)}
    if config.vision is not None:
        files["preprocessor_config.json"] = preprocessor_to_hf(config)
    for name, value in files.items():
        (scratch / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
