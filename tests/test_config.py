"""The config: Scout's and Maverick's sizes, every way Hugging Face writes them, and every way a file can be wrong."""
import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyscout.checkpoint.config_json import config_from_hf, config_to_hf, generation_config_to_hf, read_json
from tinyscout.config import (
    CONFIGS,
    MAVERICK,
    SCOUT,
    Layer,
    RopeScaling,
    ScoutConfig,
    TextConfig,
    VisionConfig,
    layer_plan,
    tiny_config,
)

# What the Hub's Scout says, in the fields that differ from transformers' defaults, and Maverick's likewise.
HUB_SCOUT = {
    "architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4", "boi_token_index": 200080,
    "eoi_token_index": 200081, "image_token_index": 200092, "tie_word_embeddings": False,
    "text_config": {
        "model_type": "llama4_text", "attention_chunk_size": 8192, "attn_scale": 0.1, "attn_temperature_tuning": 4,
        "bos_token_id": 200000, "eos_token_id": [200001, 200007, 200008], "floor_scale": 8192, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 5120, "interleave_moe_layer_step": 1, "intermediate_size": 8192,
        "intermediate_size_mlp": 16384, "max_position_embeddings": 10485760, "moe_layers": list(range(48)),
        "no_rope_layers": [], "num_attention_heads": 40, "num_experts_per_tok": 1, "num_hidden_layers": 48,
        "num_key_value_heads": 8, "num_local_experts": 16, "pad_token_id": 200018, "rms_norm_eps": 1e-5,
        "rope_scaling": {"factor": 16.0, "high_freq_factor": 1.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "use_qk_norm": True, "vocab_size": 202048},
    "vision_config": {
        "model_type": "llama4_vision_model", "hidden_act": "gelu", "hidden_size": 1408, "image_size": 336,
        "intermediate_size": 5632, "num_attention_heads": 16, "num_channels": 3, "num_hidden_layers": 34,
        "patch_size": 14, "pixel_shuffle_ratio": 0.5, "projector_input_dim": 4096, "projector_output_dim": 4096,
        "rope_theta": 10000, "vision_feature_select_strategy": "default", "vision_output_dim": 4096}}
HUB_MAVERICK = copy.deepcopy(HUB_SCOUT)
HUB_MAVERICK["text_config"] |= {"num_local_experts": 128, "interleave_moe_layer_step": 2, "use_qk_norm": False,
                                "moe_layers": list(range(1, 48, 2)), "rope_scaling": None,
                                "max_position_embeddings": 1048576}
SMALL = config_to_hf(tiny_config())
SMALL_TEXT = config_to_hf(tiny_config(vision=False))


def text(**changes):
    """The text part of a small config.json with some keys changed, read."""
    return config_from_hf({**SMALL_TEXT, **changes}).text


def without(*keys, **changes):
    return config_from_hf({key: value for key, value in {**SMALL_TEXT, **changes}.items() if key not in keys}).text


@st.composite
def configs(draw):
    K, size = draw(st.integers(1, 3)), st.integers(1, 40)
    flags = st.builds(Layer, st.booleans(), st.booleans(), st.booleans())
    positive = st.floats(1e-3, 1e6)
    scaling = st.builds(lambda f, l, h, o: RopeScaling(f, min(l, h), max(l, h), o), positive, positive, positive, size)
    decoder = TextConfig(
        vocab_size=draw(size), dim=draw(size), n_heads=K * draw(st.integers(1, 3)), n_kv_heads=K,
        head_dim=2 * draw(size), n_experts=5, top_k=draw(st.integers(1, 5)), hidden_dim=draw(size),
        dense_dim=draw(size), layers=tuple(draw(st.lists(flags, min_size=1, max_size=6))),
        norm_eps=draw(st.floats(0, 1)), qk_norm=draw(st.booleans()), rope_theta=draw(positive), chunk_size=draw(size),
        rope_scaling=draw(st.none() | scaling), attn_temperature=draw(st.booleans()),
        attn_temperature_floor=draw(size | positive), attn_temperature_scale=draw(st.floats(0, 1)),
        tie_embeddings=draw(st.booleans()), max_positions=draw(size))
    decoder = replace(decoder, qk_norm_nope=decoder.qk_norm and draw(st.booleans()))
    d, factor, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    vision = VisionConfig(dim=8 * d, n_heads=2, n_layers=draw(size), hidden_dim=8 * d * factor ** 2,
                          adapter_dim=draw(size), tile_size=7 * factor * tokens, patch_size=7,
                          pixel_shuffle_factor=factor, channels=draw(st.integers(1, 4)), rope_theta=draw(positive))
    id = st.integers(0, 300_000)
    return ScoutConfig(decoder, draw(st.sampled_from([vision, None])), bos_id=draw(st.none() | id),
                       pad_id=draw(st.none() | id), stop_ids=tuple(draw(st.lists(id, max_size=3))))


def test_scout_and_maverick():
    assert config_from_hf(HUB_SCOUT) == SCOUT
    assert config_from_hf(HUB_MAVERICK) == MAVERICK
    assert {"scout": SCOUT, "maverick": MAVERICK} == CONFIGS
    assert [i for i, layer in enumerate(SCOUT.text.layers) if not layer.rope] == list(range(3, 48, 4))
    assert all(layer.rope == layer.chunked for layer in SCOUT.text.layers)
    assert all(layer.moe for layer in SCOUT.text.layers)
    assert [i for i, layer in enumerate(MAVERICK.text.layers) if layer.moe] == list(range(1, 48, 2))
    assert SCOUT.vision.tokens_per_tile == 144
    assert (SCOUT.vision.grid, SCOUT.vision.head_dim) == (24, 88)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(configs())
def test_written_and_read_again(config):
    written = json.loads(json.dumps([config_to_hf(config), generation_config_to_hf(config)], allow_nan=False))
    assert config_from_hf(*written) == config
    assert config_from_hf(written[0]) == config


@pytest.mark.parametrize("config", [SCOUT, MAVERICK, tiny_config(), tiny_config(vision=False)])
def test_what_transformers_is_strict_about(config):
    """transformers 5 refuses a whole number written as 8192.0, and a flag written as 4."""
    written = config_to_hf(config)
    text_config = written.get("text_config", written)
    for key in ("floor_scale", "vocab_size", "attention_chunk_size", "max_position_embeddings", "num_local_experts"):
        assert type(text_config[key]) is int, key
    for key in ("attn_temperature_tuning", "use_qk_norm", "attention_bias", "tie_word_embeddings"):
        assert type(text_config[key]) is bool, key


def test_no_rope_layers_is_named_the_wrong_way_round():
    assert [layer.rope for layer in text(no_rope_layers=[0, 1, 1, 0]).layers] == [False, True, True, False]
    usual = [True, True, True, False]
    for empty in ([], None):
        assert [layer.rope for layer in text(no_rope_layers=empty).layers] == usual
    assert [layer.rope for layer in without("no_rope_layers").layers] == usual
    every_second = text(no_rope_layers=[], no_rope_layer_interval=2)
    assert [layer.rope for layer in every_second.layers] == [True, False, True, False]


def test_layer_types():
    assert [layer.chunked for layer in without("layer_types", no_rope_layers=[1, 0, 1, 1]).layers] == [1, 0, 1, 1]
    assert [layer.chunked for layer in text(layer_types=["full_attention"] * 4).layers] == [False] * 4
    both = text(no_rope_layers=[0, 1, 0, 1], layer_types=["chunked_attention", "full_attention"] * 2)
    assert [(layer.rope, layer.chunked) for layer in both.layers] == [(False, True), (True, False)] * 2
    nowhere = text(attention_chunk_size=None)
    assert not any(layer.chunked for layer in nowhere.layers)
    assert [layer.rope for layer in nowhere.layers] == [True, True, True, False]


def test_moe_layers():
    assert [layer.moe for layer in without("moe_layers", interleave_moe_layer_step=2).layers] == [0, 1, 0, 1]
    assert [layer.moe for layer in text(moe_layers=None, interleave_moe_layer_step=3).layers] == [0, 0, 1, 0]
    assert [layer.moe for layer in text(moe_layers=[0, 3], interleave_moe_layer_step=0).layers] == [1, 0, 0, 1]
    dense = text(moe_layers=[], num_local_experts=0, num_experts_per_tok=0)
    assert not any(layer.moe for layer in dense.layers)


def test_temperature_is_a_flag_however_it_is_written():
    assert all(text(attn_temperature_tuning=value).attn_temperature is True for value in (4, 1, True))
    assert all(text(attn_temperature_tuning=value).attn_temperature is False for value in (0, False))


def test_rope_old_and_new():
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}
    read = RopeScaling(8.0, 1.0, 4.0, 8192)                             # the first files said so: taken as written
    older = text(rope_theta=7.0, rope_scaling=scaling)
    newer = without("rope_theta", "rope_scaling", rope_parameters={**scaling, "rope_theta": 7.0})
    oldest = text(rope_theta=7.0, rope_scaling={**scaling, "type": "llama3"} | {"rope_type": "llama3"})
    assert all((c.rope_theta, c.rope_scaling) == (7.0, read) for c in (older, newer, oldest))
    assert text(rope_scaling=None).rope_scaling is None
    plain = without("rope_theta", "rope_scaling", rope_parameters={"rope_type": "default", "rope_theta": 9.0})
    assert (plain.rope_theta, plain.rope_scaling) == (9.0, None)
    silent = without("rope_theta", "rope_scaling")
    assert (silent.rope_theta, silent.rope_scaling) == (500_000.0, None)


def test_null_sizes():
    assert text(num_key_value_heads=None).n_kv_heads == 4
    assert text(head_dim=None).head_dim == 64 // 4


def test_ids():
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    assert config_from_hf({**SMALL_TEXT, **ids}).stop_ids == (2,)
    assert config_from_hf({**SMALL_TEXT, **ids}, {"eos_token_id": [3, 4], "pad_token_id": 0}).stop_ids == (3, 4)
    assert config_from_hf({**SMALL_TEXT, **ids}, {"pad_token_id": 0}).pad_id == 0
    assert config_from_hf({**SMALL_TEXT, "eos_token_id": None}, {}).stop_ids == ()
    nested = {**SMALL, "eos_token_id": None, "text_config": {**SMALL["text_config"], "eos_token_id": 5}}
    assert config_from_hf(nested).stop_ids == (5,)      # null at the top does not hide what is inside


def test_missing_text_config_is_transformers_default():
    config = config_from_hf({"model_type": "llama4_text"})
    assert config.text == replace(SCOUT.text, rope_scaling=None, max_positions=131_072)
    assert (config.bos_id, config.stop_ids, config.pad_id, config.vision) == (1, (2,), None, None)


REFUSED = [
    ({"model_type": "llama"}, "not Llama 4"), ({"model_type": None}, "not Llama 4"),
    ({"model_type": ["llama4"]}, "not Llama 4"),
    ({"hidden_act": "gelu"}, "hidden_act"), ({"attention_bias": True}, "attention_bias"),
    ({"vocab_size": "512"}, "vocab_size"), ({"hidden_size": 64.0}, "hidden_size"),
    ({"hidden_size": float("nan")}, "hidden_size"), ({"rope_theta": "big"}, "rope_theta"),
    ({"hidden_size": True}, "hidden_size"), ({"hidden_size": -64}, "hidden_size"), ({"hidden_size": None}, "dim"),
    ({"hidden_size": 10 ** 400}, "hidden_size"), ({"rope_theta": 0}, "rope_theta"),
    ({"rms_norm_eps": float("inf")}, "norm_eps"), ({"rms_norm_eps": -1.0}, "rms_norm_eps"), ({"head_dim": 15}, "odd"),
    ({"head_dim": None, "num_attention_heads": 0}, "n_heads"), ({"num_key_value_heads": 3}, "share"),
    ({"num_experts_per_tok": 9}, "experts"), ({"num_hidden_layers": 0}, "num_hidden_layers"),
    ({"num_hidden_layers": 10 ** 12}, "num_hidden_layers"), ({"num_hidden_layers": 5}, "layers"),
    ({"no_rope_layers": [1]}, "no_rope_layers"), ({"no_rope_layers": 1}, "no_rope_layers"),
    ({"no_rope_layers": [], "no_rope_layer_interval": 0}, "no_rope_layer_interval"),
    ({"moe_layers": None, "interleave_moe_layer_step": 0}, "interleave_moe_layer_step"),
    ({"moe_layers": [[0]]}, "moe_layers"), ({"layer_types": ["sliding_attention"] * 4}, "layer_types"),
    ({"layer_types": ["full_attention"]}, "layer_types"), ({"attention_chunk_size": 0}, "chunk_size"),
    ({"attn_temperature_tuning": "yes"}, "attn_temperature"), ({"use_qk_norm": 1.5}, "qk_norm"),
    ({"rope_scaling": "llama3"}, "rope_scaling"), ({"rope_scaling": {"rope_type": "yarn"}}, "yarn"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "lacks"),
    ({"rope_scaling": {**SMALL_TEXT["rope_scaling"], "factor": 0}}, "scaling"),
    ({"rope_scaling": {**SMALL_TEXT["rope_scaling"], "high_freq_factor": 0.5}}, "low <= high"),
    ({"bos_token_id": "<s>"}, "bos_id"), ({"eos_token_id": [1, None, "x"]}, "stop_ids"),
    ({"eos_token_id": {}}, "stop_ids"), ({"floor_scale": "8"}, "floor_scale"),
]
REFUSED_IN_VISION = [
    ({"hidden_act": "quick_gelu"}, "hidden_act"), ({"image_size": [56, 42]}, "tile_size"),
    ({"patch_size": 15}, "evenly"),
    ({"pixel_shuffle_ratio": 0}, "pixel_shuffle_ratio"), ({"pixel_shuffle_ratio": 0.3}, "pixel_shuffle_ratio"),
    ({"pixel_shuffle_ratio": 1e-320}, "pixel_shuffle_ratio"), ({"vision_output_dim": 7}, "vision_output_dim"),
    ({"intermediate_size": 100}, "hidden_dim"), ({"hidden_size": 36}, "multiple"),
    ({"num_channels": "3"}, "num_channels"),
    ({"multi_modal_projector_bias": True}, "multi_modal_projector_bias")]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config_from_hf({**SMALL_TEXT, **changes})


@pytest.mark.parametrize(("changes", "message"), REFUSED_IN_VISION)
def test_refused_in_vision(changes, message):
    with pytest.raises(ValueError, match=message):
        config_from_hf({**SMALL, "vision_config": {**SMALL["vision_config"], **changes}})


def test_square_images():
    sides = {"image_size": [56, 56], "patch_size": [14, 14]}
    assert config_from_hf({**SMALL, "vision_config": {**SMALL["vision_config"], **sides}}) == config_from_hf(SMALL)


junk = st.recursive(
    st.sampled_from([None, True, False, 0, 1, -1, 3, 8.0, 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), 2 ** 63,
                     10 ** 400, "", "8", "llama3", "gelu"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["rope_type", "rope_theta"]), inner),
    max_leaves=4)


def mutate(draw, value):
    """A config.json in which one to four values, at any depth, are something else or missing."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 4))):
        parent = value
        while True:
            key = draw(st.sampled_from(sorted(parent, key=str)))
            if not (isinstance(parent[key], dict) and parent[key] and draw(st.integers(0, 5))):
                break
            parent = parent[key]
        if draw(st.integers(0, 3)):
            parent[key] = draw(junk)
        elif len(parent) > 1:
            del parent[key]
    return value


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_damaged_config_is_read_or_refused_in_one_line(data):
    damaged = mutate(data.draw, data.draw(st.sampled_from([SMALL, SMALL_TEXT])))
    has_generation_config = data.draw(st.sampled_from([False, True]))
    generation = mutate(data.draw, generation_config_to_hf(tiny_config())) if has_generation_config else None
    try:
        config = config_from_hf(damaged, generation)
    except ValueError as error:
        lines = str(error).splitlines()
    else:
        lines = ["good"]
        assert config_from_hf(json.loads(json.dumps(config_to_hf(config)))) == config
    assert len(lines) == 1


@pytest.mark.parametrize("changes", [
    {"dim": 0}, {"dim": 8.0}, {"dim": "8"}, {"dim": True}, {"chunk_size": 0}, {"rope_theta": float("nan")},
    {"layers": ()}, {"n_heads": 3}, {"head_dim": 3}, {"top_k": 5}, {"tie_embeddings": None},
    {"qk_norm": False, "qk_norm_nope": True}, {"rope_scaling": RopeScaling(factor=0.0)}])
def test_config_refuses(changes):
    with pytest.raises(ValueError, match=r"\w"):
        tiny_config(**changes)


def test_other_refusals():
    for changes in ({"n_layers": 0}, {"channels": 2.5}, {"pixel_shuffle_factor": 3}, {"n_heads": 3}, {"tile_size": 57}):
        with pytest.raises(ValueError, match=r"\w"):
            VisionConfig(**changes)
    for changes in ({"patch_id": -1}, {"stop_ids": ("x",)}, {"bos_id": 1.5}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            ScoutConfig(**changes)
    with pytest.raises(ValueError, match="at least 1"):
        layer_plan(4, nope_every=0)


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' * 50_000, b"9" * 5000])
def test_not_a_json_object(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        read_json(path)
