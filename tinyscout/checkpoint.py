"""Checkpoints: safetensors files with Hugging Face's names <-> the tree of weights, memory-mapped both ways."""
import json
import os
import re
import shutil
import tempfile
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tinyscout.hf import from_hf, generation_to_hf, read_json, to_hf
from tinyscout.progress import track
from tinyscout.weights import build, check_shapes, named, turned

DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
SHARD_BYTES = 5 * 10 ** 9
WEIGHT_FILES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")

# Ours and theirs, within a layer or whole.  Experts' gate and up are the two halves of one tensor.
TEXT_NAMES = {
    "text.embedding": "model.embed_tokens.weight",
    "text.norm": "model.norm.weight",
    "text.output": "lm_head.weight",
    "attention_norm": "input_layernorm.weight",
    **{f"attention.w_{name}": f"self_attn.{name}_proj.weight" for name in "qkvo"},
    "feed_forward_norm": "post_attention_layernorm.weight",
    "feed_forward.w_router": "feed_forward.router.weight",
    "feed_forward.experts.w_gate": "feed_forward.experts.gate_up_proj",
    "feed_forward.experts.w_up": "feed_forward.experts.gate_up_proj",
    "feed_forward.experts.w_down": "feed_forward.experts.down_proj",
    "feed_forward.shared.w_gate": "feed_forward.shared_expert.gate_proj.weight",
    "feed_forward.shared.w_up": "feed_forward.shared_expert.up_proj.weight",
    "feed_forward.shared.w_down": "feed_forward.shared_expert.down_proj.weight",
    "feed_forward.w_gate": "feed_forward.gate_proj.weight",
    "feed_forward.w_up": "feed_forward.up_proj.weight",
    "feed_forward.w_down": "feed_forward.down_proj.weight",
}
VISION_NAMES = {
    "vision.w_patch": "vision_model.patch_embedding.linear.weight",
    "vision.class_embedding": "vision_model.class_embedding",
    "vision.position_embedding": "vision_model.positional_embedding_vlm",
    "vision.norm_pre": "vision_model.layernorm_pre",
    "vision.norm_post": "vision_model.layernorm_post",
    "vision.adapter.w_1": "vision_model.vision_adapter.mlp.fc1.weight",
    "vision.adapter.w_2": "vision_model.vision_adapter.mlp.fc2.weight",
    "w_projector": "multi_modal_projector.linear_1.weight",
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    **{f"attention.{kind}_{name}": f"self_attn.{name}_proj.{theirs}"
       for name in "qkvo" for kind, theirs in [("w", "weight"), ("b", "bias")]},
    **{f"mlp.{kind}_{n}": f"mlp.fc{n}.{theirs}" for n in (1, 2) for kind, theirs in [("w", "weight"), ("b", "bias")]},
}


def foreign_name(path, multimodal):
    """Their name of one of our weights: "text.blocks.3.attention.w_q" is "...layers.3.self_attn.q_proj.weight".

    path str as in weights.build, multimodal bool: is the text model inside a model with vision?  ->  str
    """
    text = path.startswith("text.")
    names, prefix = (TEXT_NAMES, "language_model." if multimodal else "") if text else (VISION_NAMES, "")
    inside = re.fullmatch(r"(?:text|vision)\.blocks\.(\d+)\.(.+)", path)
    where = f"{'model' if text else 'vision_model.model'}.layers.{inside[1]}." if inside else ""
    name = inside[2] if inside else path
    stem = name.removesuffix(".weight").removesuffix(".bias")       # of a norm in the vision tower
    return prefix + where + names[stem] + name[len(stem):]


def to_ours(path, theirs):
    """A tensor of the file as ours: a view, never a copy."""
    if theirs.ndim == 3 and path.endswith(("w_gate", "w_up")):
        half = theirs.shape[-1] // 2
        return theirs[..., :half] if path.endswith("w_gate") else theirs[..., half:]
    return turned(path, theirs)


def to_theirs(weights, config):
    """What the files will hold: {their name: our arrays that make it, in order}, a view each.

    weights Scout, config ScoutConfig  ->  dict.  Raises ValueError for a tree that is not the config's.
    """
    check_shapes(weights, config)
    ours = dict(named(weights))
    if config.text.tied and not np.array_equal(ours.pop("text.output"), ours["text.embedding"].T):
        raise ValueError("the config ties the output matrix to the embedding, but they are not equal")
    tensors: dict[str, list] = {}
    for path, array in ours.items():
        tensors.setdefault(foreign_name(path, config.vision is not None), []).append(turned(path, array))
    return tensors


def load_config(directory):
    """The ScoutConfig of a checkpoint directory.  Raises OSError or ValueError."""
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} holds no config.json: is it a Llama 4 checkpoint directory?")
    generation = directory / "generation_config.json"
    parts = read_json(directory / "config.json"), read_json(generation) if generation.is_file() else None
    try:
        return from_hf(*parts)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from None


def map_file(path):
    """Every tensor of one safetensors file, mapped into memory and not yet read.

    path  ->  {name: array}.  Raises OSError, or ValueError for a damaged file or a dtype not in DTYPES.
    """
    try:        # opened here first, since the library calls a file missing that may not be read
        with open(path, "rb") as file, safe_open(path, framework="numpy"):  # it checks every offset and shape
            raw = np.memmap(file, mode="r")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not safetensors: {error}") from None
    start = 8 + int(raw[:8].view("<u8")[0])
    header = json.loads(raw[8:start].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: {name} is {entry['dtype']}; tinyscout reads {', '.join(DTYPES)}")
        low, high = (start + offset for offset in entry["data_offsets"])
        array = raw[low:high].view(np.ndarray).view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = np.require(array, requirements="A")     # a copy only where some other writer did not align
    return tensors


def map_tensors(directory):
    """Every tensor of a checkpoint, one file or several with an index.  The one comes first, as in transformers.

    directory  ->  {name: array}.  Raises OSError or ValueError.
    """
    directory = Path(directory)
    whole, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if whole.is_file():
        return map_file(whole)
    if not index.is_file():
        raise FileNotFoundError(f"{directory} holds no model.safetensors and no model.safetensors.index.json")
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict):
        raise ValueError(f"{index} has no weight_map")
    for file in placed.values():
        if not (isinstance(file, str) and Path(file).name == file and file.endswith(".safetensors")):
            raise ValueError(f"{index} names {file!r}, which is not a safetensors file beside it")
    files = {file: map_file(directory / file) for file in sorted(set(placed.values()))}
    for name, file in placed.items():
        if name not in files[file]:
            raise ValueError(f"{index} says that {name} is in {file}, but it is not there")
    return {name: files[file][name] for name, file in placed.items()}


def load_weights(directory, config, dtype=None):
    """The weights of a checkpoint directory, as views of its memory-mapped files.

    directory, config ScoutConfig, dtype or None to keep each tensor's own (and read it when it is used)
    ->  weights.Scout.  Raises OSError or ValueError; warns of tensors that no part of the model wants.
    """
    dtype = checked_dtype(dtype, "compute in", *DTYPES.values(), np.dtype(np.float64))
    tensors = map_tensors(directory)
    multimodal = any(name.startswith("language_model.") for name in tensors)
    ours = {}

    def leaf(path, shape):
        name = foreign_name(path, multimodal)
        if name not in tensors:
            raise ValueError(f"{directory}: the config calls for {name}, which no file holds")
        array = to_ours(path, tensors[name])
        if array.shape != shape:
            raise ValueError(f"{directory}: {name} has shape {tensors[name].shape}, which contradicts the config: "
                             f"as {path} it is {array.shape} and should be {shape}")
        ours[path] = array
        return array

    build(config, leaf)
    known = {foreign_name(path, multimodal) for path in [*ours, "text.output"]}
    if unused := sorted(set(tensors) - known):
        warnings.warn(f"{directory}: {len(unused)} tensors belong to no part of the model, such as {unused[0]}",
                      stacklevel=2)
    if dtype is not None:
        items = track(list(ours.items()), f"Converting to {dtype.name}")
        ours = {path: array.astype(dtype, copy=False) for path, array in items}
    return build(config, lambda path, shape: ours[path])


def checked_dtype(dtype, verb, *allowed):
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

    Everything is written to a scratch folder inside and only then moved into place, so a full disk or an interruption
    leaves an older checkpoint whole.  Raises OSError, or ValueError for weights that do not fit the config or a dtype.
    """
    directory = Path(directory)
    tensors = to_theirs(weights, config)
    for name, arrays in tensors.items():
        checked_dtype(dtype or arrays[0].dtype, f"save {name} as", *DTYPES.values())
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".saving-", dir=directory))
    try:
        for part in ("new", "old"):
            (scratch / part).mkdir()
        stored = _write_tensors(scratch / "new", tensors, dtype, shard_bytes)
        for name, value in [("config.json", to_hf(config, stored)),
                            ("generation_config.json", generation_to_hf(config))]:
            (scratch / "new" / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        extra(scratch / "new")
        for path in (scratch / "new").iterdir():
            shutil.copymode(scratch / "new" / "config.json", path)      # safetensors writes for the owner alone
        _exchange(scratch / "new", directory, scratch / "old")
    except BaseException:
        shutil.rmtree(scratch / "new" if existed else directory, ignore_errors=True)
        for folder in (scratch / "old", scratch):
            with suppress(OSError):                 # not empty only if what was there could not be moved back
                folder.rmdir()
        raise
    shutil.rmtree(scratch)


def _exchange(new, directory, old):
    """Move new files in, and out what they replace, weights under other names too; where that fails, all moves back."""
    coming = {path.name for path in new.iterdir()}
    going = {path.name for path in directory.iterdir() if path.name in coming or WEIGHT_FILES.fullmatch(path.name)}
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target, names in [(directory, old, going), (new, directory, coming)]:
            for name in sorted(names):
                moved.append((source / name, target / name))
                os.rename(source / name, target / name)
    except BaseException:
        for before, after in reversed(moved):
            if os.path.lexists(after):              # the last may not have been moved
                os.rename(after, before)
        raise


def _write_tensors(directory, tensors, dtype, shard_bytes):
    """Write the shards, and their index if there are several  ->  name of the dtype of most of the bytes."""
    parts = shards(tensors, dtype, shard_bytes)
    index: dict[str, str] = {}
    held: Counter[str] = Counter()
    for n, part in enumerate(track(parts, "Saving"), 1):
        file = "model.safetensors" if len(parts) == 1 else f"model-{n:05d}-of-{len(parts):05d}.safetensors"
        made = {name: _joined(name, arrays, dtype) for name, arrays in part.items()}
        try:
            save_file(made, directory / file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"cannot write {file}: {error}") from None
        index |= dict.fromkeys(made, file)
        for array in made.values():
            held[array.dtype.name] += array.nbytes
    if len(parts) > 1:
        text = json.dumps({"metadata": {"total_size": held.total()}, "weight_map": index}, indent=2)
        (directory / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")
    return held.most_common(1)[0][0]


def shards(tensors, dtype, size):
    """Cut {name: arrays} into parts of at most `size` bytes each (more only where one tensor is larger)."""
    parts: list[dict] = []
    room = 0
    for name, arrays in tensors.items():
        nbytes = sum(a.size * np.dtype(dtype or a.dtype).itemsize for a in arrays)
        if not parts or nbytes > room:
            parts.append({})
            room = size
        parts[-1][name] = arrays
        room -= nbytes
    return parts


def _joined(name, arrays, dtype):
    """What a file holds under a name: one array, or two halves beside each other.  Raises ValueError on overflow."""
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
    try:
        with np.errstate(over="raise"):
            return np.ascontiguousarray(array, dtype)
    except FloatingPointError:
        raise ValueError(f"cannot save {name} as {np.dtype(dtype)}: some of its numbers are too large for it") from None
