"""Checkpoints: load and save the tree of weights as memory-mapped tensors with Hugging Face's names."""
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinyscout.checkpoint.atomic import atomic_directory
from tinyscout.checkpoint.config_json import (
    config_from_hf,
    config_to_hf,
    generation_config_to_hf,
    preprocessor_config_to_hf,
    read_json,
    write_json,
)
from tinyscout.checkpoint.dtypes import BFLOAT16, FLOAT_DTYPES, SCALE_DTYPES, parse_dtype, quantized_shapes
from tinyscout.checkpoint.hf_names import hf_name, hf_name_variants
from tinyscout.checkpoint.safetensors_io import SHARD_BYTES, TensorGroup, TensorSpec, mmap_tensors, write_shards
from tinyscout.config import ScoutConfig
from tinyscout.nn.weights import Scout, build, check_shapes, named_arrays, to_file_layout, weight_shapes
from tinyscout.progress import track
from tinyscout.reference import Quantized


def from_hf_layout(path: str, tensor: np.ndarray) -> np.ndarray:
    """Return the weight at `path` from a file's tensor: a view, never a copy."""
    if tensor.ndim == 3 and path.endswith(("w_gate", "w_up")):
        half = tensor.shape[-1] // 2
        return tensor[..., :half] if path.endswith("w_gate") else tensor[..., half:]
    return to_file_layout(path, tensor)


def to_hf_layout(weights: Scout, config: ScoutConfig) -> dict[str, list[np.ndarray]]:
    """Return the content of the files: {HF's name: the arrays to concatenate, in order}, all of them views.

    Raises ValueError if the tree does not fit the config.
    """
    check_shapes(weights, config)
    arrays, multimodal = dict(named_arrays(weights)), config.vision is not None
    if config.text.tie_embeddings and not np.array_equal(arrays.pop("text.output"), arrays["text.embedding"].T):
        raise ValueError("the config ties the output matrix to the embedding, but they are not equal")
    tensors: dict[str, list[np.ndarray]] = {}
    for path, array in arrays.items():
        if isinstance(array, Quantized):
            base, _ = hf_name_variants(path, multimodal)
            tensors |= {f"{base}.{field}": [getattr(array, field)] for field in Quantized._fields}
        else:
            tensors.setdefault(hf_name(path, multimodal), []).append(to_file_layout(path, array))
    return tensors


def load_config(directory: Path | str) -> ScoutConfig:
    """Read the ScoutConfig of a checkpoint directory.  Raises OSError, or ValueError for an unsupported config."""
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        nested = sorted(directory.glob("*/config.json"))        # as in the directory of a training run
        raise FileNotFoundError(f"{directory} holds no config.json" + (
            f", but {nested[-1].parent} does" if nested else ": is it a Llama 4 checkpoint directory?"))
    config = read_json(directory / "config.json")
    generation, preprocessor = (read_json(directory / name) if (directory / name).is_file() else None
                                for name in ("generation_config.json", "preprocessor_config.json"))
    try:
        return config_from_hf(config, generation, preprocessor)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from None


class CheckpointReader:
    """Reads the tensors of a checkpoint directory by the paths of weights."""

    def __init__(self, directory: Path | str):
        self.directory, self.tensors = directory, mmap_tensors(directory)
        self.multimodal = any(name.startswith("language_model.") for name in self.tensors)
        self.used_names = {hf_name("text.output", self.multimodal)}     # may exist with a tied embedding

    def get_weight(self, path: str, shape: tuple[int, ...]) -> Any:
        """Return one weight in its stored format.

        path as in weights.build, shape  ->  a view of the mapped file, which may be Quantized; or, for 8-bit floats, a
        function that returns the array in bfloat16; or a list of such views or functions, one for each expert.
        `materialize` turns all of them into arrays.  Raises ValueError if the files lack it or its shape differs.
        """
        name, (base, expert_pattern) = hf_name(path, self.multimodal), hf_name_variants(path, self.multimodal)
        if f"{base}.values" in self.tensors:
            return self.get_quantized(base, shape)
        if name not in self.tensors and expert_pattern and expert_pattern.format(0) in self.tensors:
            return [self.get_unquantized(path, expert_pattern.format(e), shape[1:]) for e in range(shape[0])]
        return self.get_unquantized(path, name, shape)

    def get_quantized(self, base: str, shape: tuple[int, ...]) -> Quantized:
        """Return a quantized weight.  Raises ValueError unless its integers and scales fit each other and the shape."""
        w = Quantized(*(self.get_tensor(f"{base}.{field}") for field in Quantized._fields))
        fits = w.values.dtype in (np.int8, np.uint8) and w.scales.dtype in (np.float32, BFLOAT16)
        shapes = [quantized_shapes(shape, w.bits, group) for group in SCALE_DTYPES]
        if not (fits and (w.values.shape, w.scales.shape) in shapes and w.shape == shape):
            raise ValueError(f"{self.directory}: {base} has {w.values.dtype} values of shape {w.values.shape} and "
                             f"{w.scales.dtype} scales of shape {w.scales.shape}, which contradicts the config: they "
                             f"do not form a quantized matrix of shape {shape}")
        return w

    def get_unquantized(self, path: str, name: str, shape: tuple[int, ...]) -> np.ndarray | Callable[[], np.ndarray]:
        """Return an array, or a function that dequantizes 8-bit floats.  Raises ValueError."""
        tensor = self.get_tensor(name)
        array = from_hf_layout(path, tensor)
        if array.shape != shape:
            raise ValueError(f"{self.directory}: {name} has shape {tensor.shape}, which contradicts the config: "
                             f"as {path} it is {array.shape} and should be {shape}")
        if tensor.dtype.itemsize > 1:
            return array
        if tensor.dtype.kind in "iu":
            raise ValueError(f"{self.directory}: {name} is {tensor.dtype} without scales that tinyscout knows")
        scale_name = f"{name}_weight_scale"         # in some files, if the tensor's name lacks "weight"
        scale = self.get_tensor(scale_name if scale_name in self.tensors else f"{name}_scale")
        try:
            scales = from_hf_layout(path, np.broadcast_to(scale, tensor.shape))
        except ValueError:
            raise ValueError(f"{self.directory}: {name} of shape {tensor.shape} has scales of shape "
                             f"{scale.shape}") from None
        return lambda: (array.astype(np.float32) * scales.astype(np.float32)).astype(BFLOAT16)    # equation (fp8)

    def get_tensor(self, name: str) -> np.ndarray:
        """Return a tensor by HF's name, and mark it as used.  Raises ValueError if no file has it."""
        if name not in self.tensors:
            raise ValueError(f"{self.directory}: the config calls for {name}, which no file holds")
        self.used_names.add(name)
        return self.tensors[name]

    @property
    def unused_names(self) -> list[str]:
        """Names of tensors that were never read, except scales that only 8-bit activations need."""
        return sorted(name for name in set(self.tensors) - self.used_names if not name.endswith("input_scale"))

    def warn_of_unused(self, note: str = "") -> None:
        if names := self.unused_names:
            warnings.warn(f"{self.directory}: {len(names)} tensors are not part of the model, such as {names[0]}"
                          f"{note}", stacklevel=3)


def materialize(weight: Any) -> Any:
    """Convert a result of CheckpointReader.get_weight to an array or Quantized."""
    if isinstance(weight, list):
        return np.stack([materialize(expert) for expert in weight])
    return weight() if callable(weight) else weight


def load_weights(directory: Path | str, config: ScoutConfig, dtype: DTypeLike | None = None) -> Scout:
    """Load the weights of a checkpoint directory, as views of its memory-mapped files.

    directory, config ScoutConfig, dtype to convert to, or None to keep each tensor's (and read it when it is used)
    ->  weights.Scout.  8-bit floats become bfloat16 in memory; quantized weights stay quantized, whatever the dtype.
    Raises OSError, or ValueError for missing or misshapen tensors; warns of tensors that the model does not use.
    """
    if dtype is not None:
        dtype = parse_dtype(dtype, "compute in", *FLOAT_DTYPES.values(), np.dtype(np.float64))
    reader = CheckpointReader(directory)
    arrays = {path: reader.get_weight(path, shape) for path, shape in weight_shapes(config).items()}
    reader.warn_of_unused()
    for path in track([path for path, weight in arrays.items() if callable(weight) or isinstance(weight, list)],
                      "Reading 8-bit floats"):
        arrays[path] = materialize(arrays[path])
    if dtype is not None:
        items = track(list(arrays.items()), f"Converting to {np.dtype(dtype).name}")
        arrays = {path: a if isinstance(a, Quantized) else a.astype(dtype, copy=False) for path, a in items}
    return build(config, lambda path, shape: arrays[path])


def save_checkpoint(directory: Path | str, weights: Scout, config: ScoutConfig, dtype: DTypeLike | None = None,
                    shard_bytes: int = SHARD_BYTES, write_extra: Callable[[Path], object] | None = None) -> None:
    """Write a checkpoint directory that transformers loads: configs, safetensors, and the files of `write_extra`.

    directory, weights Scout, config ScoutConfig, dtype or None to keep each array's own, shard_bytes int,
    write_extra: function that writes more files into the directory that is its argument

    Quantized weights stay quantized, and only tinyscout reads them.  If this fails, an older checkpoint stays complete.
    Raises OSError, or ValueError for weights that do not fit the config or a dtype.
    """
    groups = [stored_tensor(name, arrays, dtype) for name, arrays in to_hf_layout(weights, config).items()]
    with atomic_directory(directory) as scratch:
        stored_dtype = write_shards(scratch, groups, shard_bytes)
        write_configs(scratch, config, stored_dtype, find_quantization(weights))
        if write_extra:
            write_extra(scratch)


def stored_tensor(name: str, arrays: list[np.ndarray], dtype: DTypeLike | None = None) -> TensorGroup:
    """Describe a tensor to write, from one array or two halves.  Raises ValueError for an unsupported dtype."""
    stored_dtype = arrays[0].dtype
    if not name.endswith((".values", ".scales")):
        stored_dtype = parse_dtype(stored_dtype if dtype is None else dtype, f"save {name} as", *FLOAT_DTYPES.values())
    shape = (*arrays[0].shape[:-1], sum(a.shape[-1] for a in arrays)) if len(arrays) > 1 else arrays[0].shape
    return TensorGroup({name: TensorSpec(stored_dtype, shape)},
                       lambda: [(name, _concatenate(name, arrays, stored_dtype))])


def _concatenate(name, arrays, dtype):
    """Concatenate the parts of a tensor in the file's dtype.  Raises ValueError on overflow."""
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(array, dtype)
    except FloatingPointError:
        raise ValueError(f"cannot save {name} as {dtype}: some of its values are too large") from None


def find_quantization(weights: Scout) -> tuple[int, int] | None:
    """Return (bits, group) of a tree of weights, or None if nothing in it is quantized."""
    return next(((w.bits, w.group) for _, w in named_arrays(weights) if isinstance(w, Quantized)), None)


def quantization_config(bits: int, group: int) -> dict[str, Any]:
    """The quantization entry of config.json.  It is informational: on load, the tensors decide."""
    return {"quant_method": "tinyscout", "bits": bits, "group": group}


def write_configs(scratch: Path, config: ScoutConfig, dtype: str, quantization: tuple[int, int] | None = None) -> None:
    """Write config.json, generation_config.json and, for a model with vision, preprocessor_config.json."""
    content = config_to_hf(config, dtype)
    if quantization:
        content["quantization_config"] = quantization_config(*quantization)
    write_json(scratch / "config.json", content)
    write_json(scratch / "generation_config.json", generation_config_to_hf(config))
    if config.vision is not None:
        write_json(scratch / "preprocessor_config.json", preprocessor_config_to_hf(config.vision))
