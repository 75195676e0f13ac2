"""Hugging Face's config.json and generation_config.json, to and from ScoutConfig."""
from tinyscout.config import Layer, RopeScaling, ScoutConfig, TextConfig, VisionConfig, plan

ARCHITECTURES = {"llama4": "Llama4ForConditionalGeneration", "llama4_text": "Llama4ForCausalLM"}


def from_hf(config, generation=None):
    """Read a config.json, with the generation_config.json beside it if there is one.

    config dict, generation dict or None  ->  ScoutConfig.  What is missing has transformers' own default.
    Raises ValueError for another architecture and for options that no Llama 4 has.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ValueError(f"model_type {kind!r} is not Llama 4: tinyscout reads {' and '.join(ARCHITECTURES)}")
    text = config.get("text_config", {}) if kind == "llama4" else config
    ids = {**text, **config, **(generation or {})}
    stop = ids.get("eos_token_id", 2)
    return ScoutConfig(
        text=_text_from(text),
        vision=_vision_from(config.get("vision_config") or {}) if kind == "llama4" else None,
        patch_id=config.get("image_token_index", 200_092),
        image_start_id=config.get("boi_token_index", 200_080), image_end_id=config.get("eoi_token_index", 200_081),
        bos_id=ids.get("bos_token_id", 1), pad_id=ids.get("pad_token_id"),
        stop_ids=() if stop is None else tuple(stop) if isinstance(stop, list) else (stop,))


def _only(config, key, allowed, default):
    """An option that Llama 4 never uses: say so rather than give other numbers."""
    if config.get(key, default) != allowed:
        raise ValueError(f"config.json says {key} = {config[key]!r}: Llama 4 has only {allowed!r}")


def _text_from(c):
    _only(c, "hidden_act", "silu", "silu")
    _only(c, "attention_bias", False, False)
    layers, chunk = _layers_from(c), c.get("attention_chunk_size", 8192)
    theta, scaling = _rope_from(c)
    dim, heads = c.get("hidden_size", 5120), c.get("num_attention_heads", 40)
    return TextConfig(
        vocab_size=c.get("vocab_size", 202_048), dim=dim, n_heads=heads,
        n_kv_heads=c.get("num_key_value_heads", 8) or heads, head_dim=c.get("head_dim", 128) or dim // heads,
        n_experts=c.get("num_local_experts", 16) or 1, top_k=c.get("num_experts_per_tok", 1) or 1,
        hidden_dim=c.get("intermediate_size", 8192), dense_dim=c.get("intermediate_size_mlp", 16_384),
        layers=layers, norm_eps=c.get("rms_norm_eps", 1e-5), qk_norm=bool(c.get("use_qk_norm", True)),
        rope_theta=theta, rope_scaling=scaling, chunk=chunk or 8192,
        temperature=bool(c.get("attn_temperature_tuning", True)),       # the first Scout's config.json says 4
        temperature_floor=c.get("floor_scale", 8192), temperature_scale=c.get("attn_scale", 0.1),
        tied=bool(c.get("tie_word_embeddings", False)), max_positions=c.get("max_position_embeddings", 131_072))


def _layers_from(c):
    """`no_rope_layers` is named the wrong way round (1 = has RoPE), and empty means every fourth has none."""
    n = c.get("num_hidden_layers", 48)
    rope = c.get("no_rope_layers") or [layer.rope for layer in plan(n, c.get("no_rope_layer_interval", 4))]
    kinds = c.get("layer_types") or ["chunked_attention" if r else "full_attention" for r in rope]
    step = c.get("interleave_moe_layer_step", 1)
    moe = c.get("moe_layers")
    moe = set(range(step - 1, n, step)) if moe is None else set(moe)
    unknown = set(kinds) - {"chunked_attention", "full_attention"}
    if len(rope) < n or len(kinds) < n or unknown:
        raise ValueError(f"config.json has {n} layers, but no_rope_layers for {len(rope)} and layer_types for "
                         f"{len(kinds)}" if not unknown else f"config.json has unknown layer_types {sorted(unknown)}")
    chunked = c.get("attention_chunk_size", 8192) is not None
    return tuple(Layer(bool(rope[i]), chunked and kinds[i] == "chunked_attention", i in moe) for i in range(n))


def _rope_from(c):
    """theta and scaling, as transformers 5 writes them (rope_parameters) or as older files do  ->  float, RopeScaling."""
    rope = {**(c.get("rope_scaling") or {}), **(c.get("rope_parameters") or {})}
    theta = rope.get("rope_theta") or c.get("rope_theta") or 500_000.0
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ValueError(f"config.json asks for RoPE of type {kind!r}: Llama 4 has 'default' and 'llama3'")
    try:
        return theta, RopeScaling(rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"],
                                  rope["original_max_position_embeddings"])
    except KeyError as missing:
        raise ValueError(f"config.json's RoPE scaling lacks {missing}") from None


def _vision_from(c):
    _only(c, "hidden_act", "gelu", "gelu")
    _only(c, "vision_feature_select_strategy", "default", "default")
    _only(c, "multi_modal_projector_bias", False, False)
    width = {key: c.get(key, default) for key, default in
             [("projector_input_dim", 4096), ("projector_output_dim", 4096), ("vision_output_dim", 7680)]}
    if len(set(width.values())) != 1:
        raise ValueError(f"the picture's adapter and projector do not fit together: {width}")
    rope = c.get("rope_parameters") or {}
    return VisionConfig(
        dim=c.get("hidden_size", 768), n_heads=c.get("num_attention_heads", 16),
        n_layers=c.get("num_hidden_layers", 34), hidden_dim=c.get("intermediate_size", 5632),
        adapter_dim=width["vision_output_dim"], tile_size=_square(c, "image_size", 448),
        patch_size=_square(c, "patch_size", 14), shuffle=round(1 / c.get("pixel_shuffle_ratio", 0.5)),
        channels=c.get("num_channels", 3),
        rope_theta=rope.get("rope_theta") or c.get("rope_theta") or 10_000.0)
    # norm_eps is not read: transformers' vision tower does not read it either and always has 1e-5


def _square(c, key, default):
    size = c.get(key, default)
    if isinstance(size, list | tuple):
        if len(set(size)) != 1:
            raise ValueError(f"config.json's {key} {list(size)} is not square")
        return size[0]
    return size


def to_hf(config, dtype="float32"):
    """The config.json that transformers reads to the same model.

    config ScoutConfig, dtype str  ->  dict
    """
    text, kind = _text_to(config.text), "llama4" if config.vision else "llama4_text"
    ids = {"bos_token_id": config.bos_id, "eos_token_id": list(config.stop_ids) or None, "pad_token_id": config.pad_id}
    head = {"architectures": [ARCHITECTURES[kind]], "model_type": kind, "dtype": dtype,
            "tie_word_embeddings": config.text.tied}
    if not config.vision:
        return {**text, **ids, **head}
    return {**head, "image_token_index": config.patch_id, "boi_token_index": config.image_start_id,
            "eoi_token_index": config.image_end_id, "text_config": {**text, **ids, "model_type": "llama4_text"},
            "vision_config": _vision_to(config.vision)}


def _text_to(c):
    scaling = c.rope_scaling and {
        "rope_type": "llama3", "factor": c.rope_scaling.factor, "low_freq_factor": c.rope_scaling.low,
        "high_freq_factor": c.rope_scaling.high, "original_max_position_embeddings": c.rope_scaling.original}
    return {
        "vocab_size": c.vocab_size, "hidden_size": c.dim, "num_hidden_layers": len(c.layers),
        "num_attention_heads": c.n_heads, "num_key_value_heads": c.n_kv_heads, "head_dim": c.head_dim,
        "num_local_experts": c.n_experts, "num_experts_per_tok": c.top_k, "intermediate_size": c.hidden_dim,
        "intermediate_size_mlp": c.dense_dim, "rms_norm_eps": c.norm_eps, "use_qk_norm": c.qk_norm,
        "rope_theta": c.rope_theta, "rope_scaling": scaling,
        "no_rope_layers": [int(layer.rope) for layer in c.layers],
        "layer_types": ["chunked_attention" if layer.chunked else "full_attention" for layer in c.layers],
        "moe_layers": [i for i, layer in enumerate(c.layers) if layer.moe],
        "attention_chunk_size": c.chunk, "attn_temperature_tuning": c.temperature,
        "floor_scale": c.temperature_floor, "attn_scale": c.temperature_scale, "hidden_act": "silu",
        "attention_bias": False, "tie_word_embeddings": c.tied, "max_position_embeddings": c.max_positions}


def _vision_to(c):
    return {
        "model_type": "llama4_vision_model", "hidden_size": c.dim, "num_attention_heads": c.n_heads,
        "num_hidden_layers": c.n_layers, "intermediate_size": c.hidden_dim, "projector_input_dim": c.adapter_dim,
        "projector_output_dim": c.adapter_dim, "vision_output_dim": c.adapter_dim, "image_size": c.tile_size,
        "patch_size": c.patch_size, "pixel_shuffle_ratio": 1 / c.shuffle, "num_channels": c.channels,
        "rope_theta": c.rope_theta, "norm_eps": c.norm_eps, "hidden_act": "gelu",
        "vision_feature_select_strategy": "default", "multi_modal_projector_bias": False}


def generation_to_hf(config):
    """The generation_config.json beside it: Meta's defaults for sampling.  config ScoutConfig  ->  dict"""
    return {"bos_token_id": config.bos_id, "eos_token_id": list(config.stop_ids) or None,
            "pad_token_id": config.pad_id, "do_sample": True, "temperature": 0.6, "top_p": 0.9}
