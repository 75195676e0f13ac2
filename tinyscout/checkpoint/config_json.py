"""Convert Hugging Face's config.json, generation_config.json and preprocessor_config.json to ScoutConfig and back."""
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyscout.config import Layer, RopeScaling, ScoutConfig, TextConfig, VisionConfig, is_number, layer_plan

ARCHITECTURES = {"llama4": "Llama4ForConditionalGeneration", "llama4_text": "Llama4ForCausalLM"}
MAX_LAYERS = 10_000        # a damaged file may ask for billions

# (our field, HF's field, transformers' default for a file that lacks it)
TEXT_FIELDS = [
    ("vocab_size", "vocab_size", 202_048), ("dim", "hidden_size", 5120), ("n_heads", "num_attention_heads", 40),
    ("n_kv_heads", "num_key_value_heads", 8), ("head_dim", "head_dim", 128), ("n_experts", "num_local_experts", 16),
    ("top_k", "num_experts_per_tok", 1), ("hidden_dim", "intermediate_size", 8192),
    ("dense_dim", "intermediate_size_mlp", 16_384), ("norm_eps", "rms_norm_eps", 1e-5),
    ("qk_norm", "use_qk_norm", True), ("chunk_size", "attention_chunk_size", 8192),
    ("attn_temperature", "attn_temperature_tuning", True), ("attn_temperature_floor", "floor_scale", 8192.0),
    ("attn_temperature_scale", "attn_scale", 0.1), ("tie_embeddings", "tie_word_embeddings", False),
    ("max_positions", "max_position_embeddings", 131_072)]
VISION_FIELDS = [
    ("dim", "hidden_size", 768), ("n_heads", "num_attention_heads", 16), ("n_layers", "num_hidden_layers", 34),
    ("hidden_dim", "intermediate_size", 5632), ("adapter_dim", "vision_output_dim", 7680),
    ("tile_size", "image_size", 448), ("patch_size", "patch_size", 14), ("channels", "num_channels", 3)]
IMAGE_IDS = [("patch_id", "image_token_index", 200_092), ("image_start_id", "boi_token_index", 200_080),
             ("image_end_id", "eoi_token_index", 200_081)]
SCALING_FIELDS = [("factor", "factor"), ("low", "low_freq_factor"), ("high", "high_freq_factor"),
                  ("original", "original_max_position_embeddings")]
EVERYWHERE = "everywhere"   # use_qk_norm if NoPE layers have it too: not a bool, so that transformers refuses it
# Options with only one supported value: any other is an error, because the model would compute something else.
TEXT_FIXED = {"hidden_act": "silu", "attention_bias": False}
VISION_FIXED = {"hidden_act": "gelu", "vision_feature_select_strategy": "default", "multi_modal_projector_bias": False}


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object from a file.  Raises OSError, or ValueError if it is not one."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return value


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object as Hugging Face does, indented.  Raises OSError."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def config_from_hf(config: dict[str, Any], generation: dict[str, Any] | None = None,
                   preprocessor: dict[str, Any] | None = None) -> ScoutConfig:
    """Convert a config.json to ScoutConfig, with generation_config.json and preprocessor_config.json if they exist.

    config dict, the others dict or None  ->  ScoutConfig.  A missing field has transformers' default.
    Raises ValueError for another architecture, for options that no Llama 4 has, and for invalid values.
    """
    model_type = config.get("model_type")
    if model_type not in list(ARCHITECTURES):
        raise ValueError(f"model_type {model_type!r} is not Llama 4: tinyscout reads {' and '.join(ARCHITECTURES)}")
    is_multimodal = model_type == "llama4"
    text = _section(config, "text_config") if is_multimodal else config
    sections = [generation or {}, config, text]
    stop = _first_present(sections, "eos_token_id", 2)
    vision = _vision_from_hf(_section(config, "vision_config")) if is_multimodal else None
    if vision and preprocessor and "max_patches" in preprocessor:
        vision = replace(vision, max_tiles=preprocessor["max_patches"])
    return ScoutConfig(
        text=_text_from_hf(text), vision=vision,
        **{name: config.get(hf_name, default) for name, hf_name, default in IMAGE_IDS},
        bos_id=_first_present(sections, "bos_token_id", 1), pad_id=_first_present(sections, "pad_token_id", None),
        stop_ids=() if stop is None else tuple(stop) if isinstance(stop, list) else (stop,))


def _section(config, key):
    """Return the JSON object at a key, empty if it is missing.  Raises ValueError if it is not an object."""
    section = config.get(key) or {}
    if not isinstance(section, dict):
        raise ValueError(f"config.json's {key} must be an object, not {section!r}")
    return section


def _first_present(sections, key, default):
    """Return the first value of a key that is not null; None if all are null, the default if no section has the key."""
    values = [section[key] for section in sections if key in section]
    return next((value for value in values if value is not None), None if values else default)


def _read_list(config, key, kind, name):
    """Return the list of `kind` at a key, or None if it is missing or null."""
    value = config.get(key)
    if value is not None and not (isinstance(value, list | tuple) and all(isinstance(item, kind) for item in value)):
        raise ValueError(f"config.json's {key} must be a list of {name}, not {value!r}")
    return value


def _read_fields(config, table, fixed):
    """Return {our field: value} for a table of fields, after checking the options that have only one value."""
    for key, required in fixed.items():
        if config.get(key, required) != required:
            raise ValueError(f"config.json says {key} = {config[key]!r}: Llama 4 has only {required!r}")
    for _, key, default in table:
        value, kind = config.get(key, default), type(default)
        if kind is not bool and not isinstance(value, list | tuple | None) and not is_number(value, kind):
            raise ValueError(f"config.json's {key} must be a {'whole ' if kind is int else ''}number, not {value!r}")
    return {name: config.get(hf_name, default) for name, hf_name, default in table}


def _text_from_hf(c):
    f = _read_fields(c, TEXT_FIELDS, TEXT_FIXED)
    for key in ("n_experts", "top_k"):
        f[key] = 1 if is_number(f[key], int) and f[key] == 0 else f[key]   # zero in models without experts
    f["n_kv_heads"] = f["n_heads"] if f["n_kv_heads"] is None else f["n_kv_heads"]
    if f["head_dim"] is None and is_number(f["dim"], int) and is_number(f["n_heads"], int):
        f["head_dim"] = f["dim"] // max(f["n_heads"], 1)
    f["chunk_size"] = 8192 if f["chunk_size"] is None else f["chunk_size"]      # null: no layer is chunked
    if is_number(f["attn_temperature"], int):
        f["attn_temperature"] = f["attn_temperature"] != 0              # the first Scout's config.json says 4
    if f["qk_norm"] == EVERYWHERE:
        f |= {"qk_norm": True, "qk_norm_nope": True}
    theta, scaling = _rope_from_hf(c)
    return TextConfig(**f, layers=_layers_from_hf(c), rope_theta=theta, rope_scaling=scaling)


def _layers_from_hf(c):
    """`no_rope_layers` is named the wrong way round (1 = has RoPE); if it is empty, every fourth layer is NoPE."""
    n = c.get("num_hidden_layers", 48)
    if not is_number(n, int) or not 1 <= n <= MAX_LAYERS:
        raise ValueError(f"config.json's num_hidden_layers must be from 1 to {MAX_LAYERS}, not {n!r}")
    rope, moe = _read_list(c, "no_rope_layers", int, "0 and 1"), _read_list(c, "moe_layers", int, "whole numbers")
    kinds = _read_list(c, "layer_types", str, "names")
    rope = rope or [layer.rope for layer in layer_plan(n, nope_every=_read_interval(c, "no_rope_layer_interval", 4))]
    if moe is None:
        moe_every = _read_interval(c, "interleave_moe_layer_step", 1)
        moe = [i for i, layer in enumerate(layer_plan(n, moe_every=moe_every)) if layer.moe]
    kinds = ["chunked_attention" if r else "full_attention" for r in rope] if kinds is None else kinds
    if unknown := set(kinds) - {"chunked_attention", "full_attention"}:
        raise ValueError(f"config.json has unknown layer_types {sorted(unknown)}")
    if min(len(rope), len(kinds)) < n:
        raise ValueError(f"config.json has {n} layers, no_rope_layers for {len(rope)} and layer_types for {len(kinds)}")
    has_chunks, moe = c.get("attention_chunk_size", 8192) is not None, set(moe)
    return tuple(Layer(bool(rope[i]), has_chunks and kinds[i] == "chunked_attention", i in moe) for i in range(n))


def _read_interval(c, key, default):
    interval = c.get(key, default)
    if not is_number(interval, int) or interval == 0:
        raise ValueError(f"config.json's {key} must be a whole number above zero, not {interval!r}")
    return interval


def _rope_from_hf(c):
    """Theta and scaling, as transformers 5 writes them (rope_parameters) or older files do  ->  float, RopeScaling."""
    rope = _section(c, "rope_scaling") or _section(c, "rope_parameters")
    theta = _first_present([rope, c], "rope_theta", 500_000.0)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ValueError(f"config.json asks for RoPE of type {kind!r}: Llama 4 has 'default' and 'llama3'")
    if missing := [hf_name for _, hf_name in SCALING_FIELDS if hf_name not in rope]:
        raise ValueError(f"config.json's RoPE scaling lacks {', '.join(missing)}")
    return theta, RopeScaling(**{name: rope[hf_name] for name, hf_name in SCALING_FIELDS})


def _vision_from_hf(c):
    """norm_eps is not read: transformers' vision tower does not read it either and always has 1e-5."""
    f = _read_fields(c, VISION_FIELDS, VISION_FIXED)
    widths = [f["adapter_dim"], c.get("projector_input_dim", 4096), c.get("projector_output_dim", 4096)]
    if widths != widths[:1] * 3:
        raise ValueError(f"config.json's vision_output_dim, projector_input_dim, projector_output_dim differ: {widths}")
    for key in ("tile_size", "patch_size"):
        if isinstance(f[key], list | tuple) and len(f[key]) == 2 and f[key][0] == f[key][1]:
            f[key] = f[key][0]                                          # [336, 336] is 336
    ratio = c.get("pixel_shuffle_ratio", 0.5)
    factor = round(1 / ratio) if is_number(ratio) and ratio > 1e-6 else 0
    if not factor or 1 / factor != ratio:
        raise ValueError(f"config.json's pixel_shuffle_ratio must be one over a whole number, not {ratio!r}")
    theta = _first_present([_section(c, "rope_parameters"), c], "rope_theta", 10_000.0)
    return VisionConfig(**f, pixel_shuffle_factor=factor, rope_theta=theta)


def config_to_hf(config: ScoutConfig, dtype: str = "float32") -> dict[str, Any]:
    """Convert a ScoutConfig to the config.json of the same model in transformers.

    config ScoutConfig, dtype str  ->  dict
    """
    text, model_type = _text_to_hf(config.text), "llama4" if config.vision else "llama4_text"
    head = {"architectures": [ARCHITECTURES[model_type]], "model_type": model_type, "dtype": dtype,
            "tie_word_embeddings": config.text.tie_embeddings}
    if not config.vision:
        return {**text, **_token_ids_to_hf(config), **head}
    return {**head, **{hf_name: getattr(config, name) for name, hf_name, _ in IMAGE_IDS},
            "text_config": {**text, **_token_ids_to_hf(config), "model_type": "llama4_text"},
            "vision_config": _vision_to_hf(config.vision)}


def generation_config_to_hf(config: ScoutConfig) -> dict[str, Any]:
    """Return the content of generation_config.json, with Meta's defaults for sampling."""
    return {**_token_ids_to_hf(config), "do_sample": True, "temperature": 0.6, "top_p": 0.9}


def preprocessor_config_to_hf(config: VisionConfig) -> dict[str, Any]:
    """Return the content of preprocessor_config.json: how transformers splits an image into tiles."""
    side = {"height": config.tile_size, "width": config.tile_size}
    return {"image_processor_type": "Llama4ImageProcessor", "size": side, "max_patches": config.max_tiles,
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "do_resize": True, "do_convert_rgb": True, "resample": 2}


def _token_ids_to_hf(config):
    return {"bos_token_id": config.bos_id, "eos_token_id": list(config.stop_ids) or None, "pad_token_id": config.pad_id}


def _text_to_hf(c):
    scaling = c.rope_scaling and {
        "rope_type": "llama3", **{hf_name: getattr(c.rope_scaling, name) for name, hf_name in SCALING_FIELDS}}
    floor = c.attn_temperature_floor
    return {
        **{hf_name: getattr(c, name) for name, hf_name, _ in TEXT_FIELDS}, **TEXT_FIXED,
        "use_qk_norm": EVERYWHERE if c.qk_norm_nope else c.qk_norm,
        "floor_scale": int(floor) if floor == int(floor) else floor,    # transformers insists on an int
        "num_hidden_layers": len(c.layers), "rope_theta": c.rope_theta, "rope_scaling": scaling,
        "no_rope_layers": [int(layer.rope) for layer in c.layers],
        "layer_types": ["chunked_attention" if layer.chunked else "full_attention" for layer in c.layers],
        "moe_layers": [i for i, layer in enumerate(c.layers) if layer.moe]}


def _vision_to_hf(c):
    return {
        **{hf_name: getattr(c, name) for name, hf_name, _ in VISION_FIELDS}, **VISION_FIXED,
        "model_type": "llama4_vision_model",
        "projector_input_dim": c.adapter_dim, "projector_output_dim": c.adapter_dim,
        "pixel_shuffle_ratio": 1 / c.pixel_shuffle_factor, "rope_theta": c.rope_theta, "norm_eps": c.norm_eps}
