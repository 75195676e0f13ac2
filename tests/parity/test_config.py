"""The config against transformers' own config classes: they read what we write, and we read what they write."""
import numpy as np
import pytest

from tinyscout.checkpoint.config_json import config_from_hf, config_to_hf
from tinyscout.config import MAVERICK, SCOUT, layer_plan, tiny_config

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from .oracle import Llama4Config, Llama4TextConfig, random_config

OURS = {"scout": SCOUT, "maverick": MAVERICK, "mini": tiny_config(), "text": tiny_config(vision=False),
        "tied": tiny_config(tie_embeddings=True),
        "dense": tiny_config(layers=layer_plan(4, moe_every=9)),
        "no chunks": tiny_config(layers=layer_plan(4, nope_every=1))}


def agree(ours, theirs):
    """Our reading of a text config, field by field beside what transformers' object says."""
    n = theirs.num_hidden_layers
    assert len(ours.layers) == n
    assert [layer.rope for layer in ours.layers] == [bool(flag) for flag in theirs.no_rope_layers[:n]]
    assert [layer.chunked for layer in ours.layers] == [kind == "chunked_attention" for kind in theirs.layer_types[:n]]
    assert {i for i, layer in enumerate(ours.layers) if layer.moe} == {i for i in theirs.moe_layers if i < n}
    rope = theirs.rope_parameters
    assert ours.rope_theta == rope["rope_theta"]
    if rope["rope_type"] == "default":
        assert ours.rope_scaling is None
    else:
        assert ours.rope_scaling == (rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"],
                                     rope["original_max_position_embeddings"])
    for mine, their in [("vocab_size", "vocab_size"), ("dim", "hidden_size"), ("n_heads", "num_attention_heads"),
                        ("n_kv_heads", "num_key_value_heads"), ("head_dim", "head_dim"),
                        ("n_experts", "num_local_experts"), ("top_k", "num_experts_per_tok"),
                        ("hidden_dim", "intermediate_size"), ("dense_dim", "intermediate_size_mlp"),
                        ("norm_eps", "rms_norm_eps"), ("qk_norm", "use_qk_norm"),
                        ("chunk_size", "attention_chunk_size"),
                        ("attn_temperature", "attn_temperature_tuning"), ("attn_temperature_floor", "floor_scale"),
                        ("attn_temperature_scale", "attn_scale"), ("tie_embeddings", "tie_word_embeddings"),
                        ("max_positions", "max_position_embeddings")]:
        assert getattr(ours, mine) == getattr(theirs, their), mine


def agree_on_vision(ours, theirs):
    for mine, their in [("dim", "hidden_size"), ("n_heads", "num_attention_heads"), ("n_layers", "num_hidden_layers"),
                        ("hidden_dim", "intermediate_size"), ("adapter_dim", "vision_output_dim"),
                        ("adapter_dim", "projector_input_dim"), ("adapter_dim", "projector_output_dim"),
                        ("tile_size", "image_size"), ("patch_size", "patch_size"), ("channels", "num_channels"),
                        ("norm_eps", "norm_eps")]:
        assert getattr(ours, mine) == getattr(theirs, their), mine
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert ours.pixel_shuffle_factor * theirs.pixel_shuffle_ratio == 1


def test_transformers_defaults():
    theirs = Llama4TextConfig()
    read = config_from_hf(theirs.to_dict())
    agree(read.text, theirs)
    assert (read.bos_id, read.pad_id) == (theirs.bos_token_id, theirs.pad_token_id)
    assert read.stop_ids == (theirs.eos_token_id,)
    agree(config_from_hf({"model_type": "llama4_text"}).text, theirs)
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
    theirs = Llama4Config(**written) if "text_config" in written else Llama4TextConfig(**written)
    for given in (written, theirs.to_dict()):
        read = config_from_hf(given)
        agree(read.text, getattr(theirs, "text_config", theirs))
        if read.vision:
            agree_on_vision(read.vision, theirs.vision_config)
            assert (read.patch_id, read.image_start_id, read.image_end_id) == (
                theirs.image_token_index, theirs.boi_token_index, theirs.eoi_token_index)
        assert config_from_hf(config_to_hf(read)) == read


@pytest.mark.parametrize("config", OURS.values(), ids=OURS)
def test_ours_in_transformers(config):
    written = config_to_hf(config)
    theirs = Llama4Config(**written) if config.vision else Llama4TextConfig(**written)
    agree(config.text, getattr(theirs, "text_config", theirs))
    if config.vision:
        agree_on_vision(config.vision, theirs.vision_config)
    ids = {} if config.vision else {"patch_id": 200_092, "image_start_id": 200_080, "image_end_id": 200_081}
    again = config_from_hf(theirs.to_dict())
    assert again == config_from_hf(written)
    assert again.text == config.text
    assert again.stop_ids == config.stop_ids
    assert all(getattr(again, name) == value for name, value in ids.items())
    assert again.vision == config.vision


def test_old_files_that_transformers_5_refuses():
    """The first Scout's 4 for a flag: transformers 5 refuses to read it, we read it, and write what both read."""
    old = config_to_hf(tiny_config(vision=False)) | {"attn_temperature_tuning": 4}
    with pytest.raises(Exception, match="attn_temperature_tuning"):
        Llama4TextConfig(**old)
    agree(config_from_hf(old).text, Llama4TextConfig(**config_to_hf(config_from_hf(old))))
