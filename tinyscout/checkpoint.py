"""Checkpoints: safetensors files with Hugging Face's names <-> the tree of weights, memory-mapped both ways."""
import json
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tinyscout.hf import from_hf, generation_to_hf, to_hf
from tinyscout.progress import track
from tinyscout.weights import build

DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
SHARD_BYTES = 5 * 10 ** 9

# Ours and theirs.  {n} is the layer; experts' gate and up are the two halves of one tensor.  A matrix of
# theirs is (out, in) and handed out transposed, but for embeddings and experts, which are as ours.
TEXT_NAMES = {
    "text.embedding": "model.embed_tokens.weight",
    "text.norm": "model.norm.weight",
    "text.output": "lm_head.weight",
    "attention_norm": "input_layernorm.weight",
    "attention.w_q": "self_attn.q_proj.weight",
    "attention.w_k": "self_attn.k_proj.weight",
    "attention.w_v": "self_attn.v_proj.weight",
    "attention.w_o": "self_attn.o_proj.weight",
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
    stem, norm_part = re.fullmatch(r"(.+?)(\.weight|\.bias|)", inside[2] if inside else path).groups()
    where = f"{'model' if text else 'vision_model.model'}.layers.{inside[1]}." if inside else ""
    return prefix + where + names[stem] + norm_part


def to_ours(path, theirs):
    """A tensor of the file as ours: a view, never a copy."""
    if theirs.ndim == 2 and not path.endswith("embedding"):
        return theirs.T
    if path.endswith("experts.w_gate"):
        return theirs[..., :theirs.shape[-1] // 2]
    if path.endswith("experts.w_up"):
        return theirs[..., theirs.shape[-1] // 2:]
    return theirs


def read_json(path):
    """A JSON object from a file.  Raises FileNotFoundError, or ValueError where it is not one."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value


def load_config(directory):
    """The ScoutConfig of a checkpoint directory.  Raises FileNotFoundError or ValueError."""
    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"{directory} holds no config.json: is it a Llama 4 checkpoint directory?")
    generation = directory / "generation_config.json"
    try:
        return from_hf(read_json(directory / "config.json"), read_json(generation) if generation.is_file() else None)
    except (TypeError, AttributeError, ZeroDivisionError) as error:     # a list where a number belongs, say
        raise ValueError(f"{directory / 'config.json'} does not describe a model: {error}") from None


def map_file(path):
    """Every tensor of one safetensors file, mapped into memory and not yet read.

    path  ->  {name: array}.  Raises FileNotFoundError, or ValueError for a damaged file or a dtype not in DTYPES.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with safe_open(path, framework="numpy"):    # the library checks the header against the file's length
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not safetensors: {error}") from None
    raw = np.memmap(path, mode="r")
    start = 8 + int(raw[:8].view("<u8")[0])
    tensors = {}
    for name, entry in json.loads(raw[8:start].tobytes()).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: {name} is {entry['dtype']}; tinyscout reads {', '.join(DTYPES)}")
        low, high = (start + offset for offset in entry["data_offsets"])
        tensors[name] = raw[low:high].view(np.ndarray).view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def map_tensors(directory):
    """Every tensor of a checkpoint, one file or several with an index.

    directory  ->  {name: array}.  Raises FileNotFoundError or ValueError.
    """
    directory = Path(directory)
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        if not (directory / "model.safetensors").is_file():
            raise FileNotFoundError(f"{directory} holds no model.safetensors and no model.safetensors.index.json")
        return map_file(directory / "model.safetensors")
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict):
        raise ValueError(f"{index} has no weight_map")
    files = {file: map_file(directory / file) for file in sorted(set(placed.values()))}
    for name, file in placed.items():
        if name not in files[file]:
            raise ValueError(f"{index} says that {name} is in {file}, but it is not there")
    return {name: files[file][name] for name, file in placed.items()}


def load_weights(directory, config, dtype=None):
    """The weights of a checkpoint directory, as views of its memory-mapped files.

    directory, config ScoutConfig, dtype or None to keep each tensor's own (and read it when it is used)
    ->  weights.Scout.  Raises FileNotFoundError or ValueError; warns of tensors that no part of the model wants.
    """
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
        what = f"Converting to {np.dtype(dtype).name}"
        ours = {path: array.astype(dtype, copy=False) for path, array in track(list(ours.items()), what)}
    return build(config, lambda path, shape: ours[path])


def named(tree, path=""):
    """Every array of a tree of weights with its path, as weights.build names it."""
    if isinstance(tree, tuple | list):
        keys = tree._fields if hasattr(tree, "_fields") else range(len(tree))
        for key, branch in zip(keys, tree, strict=True):
            yield from named(branch, f"{path}.{key}" if path else str(key))
    elif tree is not None:
        yield path, tree


def to_theirs(weights, config):
    """What the files will hold: {their name: our arrays that make it, in order}.  weights Scout  ->  dict"""
    tensors = {}
    for path, array in named(weights):
        if not (path == "text.output" and config.text.tied):
            transposed = array.ndim == 2 and not path.endswith("embedding")
            name = foreign_name(path, config.vision is not None)
            tensors.setdefault(name, []).append(array.T if transposed else array)
    return tensors


def shards(tensors, size):
    """Cut {name: arrays} into parts of at most `size` bytes each (more only where one tensor is larger)."""
    parts, room = [], 0
    for name, arrays in tensors.items():
        nbytes = sum(a.nbytes for a in arrays)
        if not parts or nbytes > room:
            parts.append({})
            room = size
        parts[-1][name] = arrays
        room -= nbytes
    return parts


def save_checkpoint(directory, weights, config, dtype=None, shard_bytes=SHARD_BYTES, extra=lambda scratch: None):
    """Write a directory that transformers loads: config, generation config, safetensors, and what `extra` adds.

    directory, weights Scout, config ScoutConfig, dtype or None to keep each array's own, shard_bytes int,
    extra: function that writes more files into the directory it is given

    Everything is written to a scratch folder inside and only then moved into place, so a full disk or a
    crash while writing leaves an older checkpoint whole.  Raises OSError, or ValueError for an unwritable dtype.
    """
    directory = Path(directory)
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".saving-", dir=directory))
    try:
        stored = _write_tensors(scratch, to_theirs(weights, config), dtype, shard_bytes)
        for name, value in [("config.json", to_hf(config, stored)),
                            ("generation_config.json", generation_to_hf(config))]:
            (scratch / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        extra(scratch)
        new = sorted(path.name for path in scratch.iterdir())
        for name in new:
            os.replace(scratch / name, directory / name)
        for old in directory.glob("model*.safetensors*"):
            if old.name not in new:                 # of a checkpoint that had another number of shards
                old.unlink()
    except BaseException:
        shutil.rmtree(scratch if existed else directory, ignore_errors=True)
        raise
    scratch.rmdir()


def _write_tensors(directory, tensors, dtype, shard_bytes):
    """Write the shards, and their index if there are several  ->  name of the dtype of most of the bytes."""
    parts = shards(tensors, shard_bytes)
    index, nbytes, held = {}, 0, {}
    for n, part in enumerate(track(parts, "Saving"), 1):
        file = "model.safetensors" if len(parts) == 1 else f"model-{n:05d}-of-{len(parts):05d}.safetensors"
        made = {}
        for name, arrays in part.items():
            array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
            made[name] = np.ascontiguousarray(array, dtype)
            if made[name].dtype not in DTYPES.values():
                raise ValueError(f"cannot save {name} as {made[name].dtype}: tinyscout writes {', '.join(DTYPES)}")
            held[made[name].dtype.name] = held.get(made[name].dtype.name, 0) + made[name].nbytes
        try:
            save_file(made, directory / file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"cannot write {file}: {error}") from None
        index |= dict.fromkeys(made, file)
        nbytes += sum(array.nbytes for array in made.values())
    if len(parts) > 1:
        text = json.dumps({"metadata": {"total_size": nbytes}, "weight_map": index}, indent=2)
        (directory / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")
    return max(held, key=lambda name: held[name])
