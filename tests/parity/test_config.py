"""The config against transformers' own config classes: they read what tinyscout writes, and the other way round."""
import numpy as np
import pytest

from tinyscout.checkpoint.config_json import config_from_hf, config_to_hf
from tinyscout.config import MAVERICK, SCOUT, layer_plan, tiny_config

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from .oracle import Llama4Config, Llama4TextConfig, random_config

CONFIGS = {"scout": SCOUT, "maverick": MAVERICK, "tiny": tiny_config(), "text": tiny_config(vision=False),
           "tied": tiny_config(tie_embeddings=True),
           "dense": tiny_config(layers=layer_plan(4, moe_every=9)),
           "no chunks": tiny_config(layers=layer_plan(4, nope_every=1))}


def assert_same_text_config(config, hf_config):
    """A TextConfig has the values of transformers' object, field by field."""
    n = hf_config.num_hidden_layers
    assert len(config.layers) == n
    assert [layer.rope for layer in config.layers] == [bool(flag) for flag in hf_config.no_rope_layers[:n]]
    assert [layer.chunked for layer in config.layers] == [
        kind == "chunked_attention" for kind in hf_config.layer_types[:n]]
    assert {i for i, layer in enumerate(config.layers) if layer.moe} == {i for i in hf_config.moe_layers if i < n}
    rope = hf_config.rope_parameters
    assert config.rope_theta == rope["rope_theta"]
    if rope["rope_type"] == "default":
        assert config.rope_scaling is None
    else:
        assert config.rope_scaling == (rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"],
                                       rope["original_max_position_embeddings"])
    for name, hf_name in [
            ("vocab_size", "vocab_size"), ("dim", "hidden_size"), ("n_heads", "num_attention_heads"),
            ("n_kv_heads", "num_key_value_heads"), ("head_dim", "head_dim"),
            ("n_experts", "num_local_experts"), ("top_k", "num_experts_per_tok"),
            ("hidden_dim", "intermediate_size"), ("dense_dim", "intermediate_size_mlp"),
            ("norm_eps", "rms_norm_eps"), ("qk_norm", "use_qk_norm"),
            ("chunk_size", "attention_chunk_size"),
            ("attn_temperature", "attn_temperature_tuning"), ("attn_temperature_floor", "floor_scale"),
            ("attn_temperature_scale", "attn_scale"), ("tie_embeddings", "tie_word_embeddings"),
            ("max_positions", "max_position_embeddings")]:
        assert getattr(config, name) == getattr(hf_config, hf_name), name


def assert_same_vision_config(config, hf_config):
    for name, hf_name in [
            ("dim", "hidden_size"), ("n_heads", "num_attention_heads"), ("n_layers", "num_hidden_layers"),
            ("hidden_dim", "intermediate_size"), ("adapter_dim", "vision_output_dim"),
            ("adapter_dim", "projector_input_dim"), ("adapter_dim", "projector_output_dim"),
            ("tile_size", "image_size"), ("patch_size", "patch_size"), ("channels", "num_channels"),
            ("norm_eps", "norm_eps")]:
        assert getattr(config, name) == getattr(hf_config, hf_name), name
    assert config.rope_theta == hf_config.rope_parameters["rope_theta"]
    assert config.pixel_shuffle_factor * hf_config.pixel_shuffle_ratio == 1


def test_transformers_defaults():
    hf_config = Llama4TextConfig()
    config = config_from_hf(hf_config.to_dict())
    assert_same_text_config(config.text, hf_config)
    assert (config.bos_id, config.pad_id) == (hf_config.bos_token_id, hf_config.pad_token_id)
    assert config.stop_ids == (hf_config.eos_token_id,)
    assert_same_text_config(config_from_hf({"model_type": "llama4_text"}).text, hf_config)
    with pytest.raises(ValueError, match="vision_output_dim"):          # the default tower does not fit together
        config_from_hf(Llama4Config().to_dict())


@pytest.mark.parametrize("seed", range(40))
def test_random_configs(seed):
    rng = np.random.default_rng(1000 + seed)
    written = random_config(seed, vision=seed % 2 == 0)
    text = written.get("text_config", written)
    n = text["num_hidden_layers"]
    text |= {"no_rope_layers": [None, [], rng.integers(0, 2, n).tolist()][seed % 3],
             "no_rope_layer_interval": int(rng.integers(1, 6)),
             "moe_layers": [None, rng.choice(n, 2, replace=False).tolist(), []][rng.integers(3)],
             "layer_types": [None, rng.choice(["chunked_attention", "full_attention"], n).tolist()][rng.integers(2)],
             "attn_temperature_tuning": bool(rng.integers(2)), "tie_word_embeddings": bool(rng.integers(2))}
    hf_config = Llama4Config(**written) if "text_config" in written else Llama4TextConfig(**written)
    for content in (written, hf_config.to_dict()):
        config = config_from_hf(content)
        assert_same_text_config(config.text, getattr(hf_config, "text_config", hf_config))
        if config.vision:
            assert_same_vision_config(config.vision, hf_config.vision_config)
            assert (config.patch_id, config.image_start_id, config.image_end_id) == (
                hf_config.image_token_index, hf_config.boi_token_index, hf_config.eoi_token_index)
        assert config_from_hf(config_to_hf(config)) == config


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_configs_in_transformers(config):
    written = config_to_hf(config)
    hf_config = Llama4Config(**written) if config.vision else Llama4TextConfig(**written)
    assert_same_text_config(config.text, getattr(hf_config, "text_config", hf_config))
    if config.vision:
        assert_same_vision_config(config.vision, hf_config.vision_config)
    ids = {} if config.vision else {"patch_id": 200_092, "image_start_id": 200_080, "image_end_id": 200_081}
    read_back = config_from_hf(hf_config.to_dict())
    assert read_back == config_from_hf(written)
    assert read_back.text == config.text
    assert read_back.stop_ids == config.stop_ids
    assert all(getattr(read_back, name) == value for name, value in ids.items())
    assert read_back.vision == config.vision


def test_old_files_that_transformers_5_refuses():
    """The first Scout's 4 for a flag: transformers 5 refuses it, tinyscout reads it, and writes what both read."""
    old = config_to_hf(tiny_config(vision=False)) | {"attn_temperature_tuning": 4}
    with pytest.raises(Exception, match="attn_temperature_tuning"):
        Llama4TextConfig(**old)
    config = config_from_hf(old)
    assert_same_text_config(config.text, Llama4TextConfig(**config_to_hf(config)))
