"""Checkpoints between tinyscout and transformers, both ways: the same tensors, the same logits, nothing left over."""
import json
from dataclasses import replace

import numpy as np
import pytest

import tinyscout
from tinyscout.checkpoint import load_config, load_weights, save_checkpoint
from tinyscout.checkpoint.safetensors_io import mmap_tensors
from tinyscout.config import Layer, RopeScaling, layer_plan, tiny_config
from tinyscout.nn.weights import init_weights, named_arrays, tree_map

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from safetensors.torch import load_file  # noqa: E402
from transformers import AutoConfig  # noqa: E402

from . import oracle  # noqa: E402

LOGITS = 1e-4       # in fp32 and eager, where logits are a few units
SMALL = {"rope_scaling": RopeScaling(8.0, 1.0, 4.0, 64), "layers": layer_plan(5, moe_every=2)}
MODELS = {"pictures": tiny_config(**SMALL), "text": tiny_config(vision=False, **SMALL),
          "tied text": tiny_config(vision=False, tie_embeddings=True),
          "tied": tiny_config(tie_embeddings=True), "maverick": tiny_config(qk_norm=False, rope_scaling=None,
                                                                            layers=layer_plan(4, moe_every=2)),
          "rope and global": tiny_config(vision=False, layers=(Layer(True, True, True), Layer(True, False, True)))}


def lively(config, seed=0):
    """Random weights in which norms and biases are not one and zero, so that a mix-up shows."""
    rng = np.random.default_rng(seed)
    stir = lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32) if a.ndim == 1 else a        # noqa: E731
    weights = tree_map(stir, init_weights(config, seed))
    return weights if not config.text.tie_embeddings else weights._replace(
        text=weights.text._replace(output=weights.text.embedding.T))


def prompt(config):
    """Words past several chunks, and a picture where there are eyes  ->  tokens, tiles or None."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 400, 40)
    if config.vision is None:
        return tokens, None
    tokens[3:3 + 2 * config.vision.tokens_per_tile] = config.patch_id
    return tokens, rng.standard_normal((2, 3, config.vision.tile_size, config.vision.tile_size)).astype(np.float32)


def in_transformers(directory, config):
    """transformers' model of a directory, in fp32 and eager; fails where its report names a single tensor."""
    kind = oracle.Llama4ForConditionalGeneration if config.vision else oracle.Llama4ForCausalLM
    model, report = kind.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()), report
    return oracle.ready(model)


def compare(model, directory):
    """transformers' logits beside tinyscout's on the same directory."""
    ours = tinyscout.load(directory)
    tokens, tiles = prompt(ours.config)
    theirs = oracle.logits(model, tokens, tiles)
    assert np.abs(ours.logits(tokens, [] if tiles is None else [tiles]) - theirs).max() < LOGITS
    assert np.abs(theirs).max() > 0.5


@pytest.mark.parametrize("shard_bytes", [10 ** 9, 100_000], ids=["one file", "shards"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_ours_in_transformers(tmp_path, config, dtype, shard_bytes):
    weights = lively(config)
    save_checkpoint(tmp_path, weights, config, dtype, shard_bytes)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard_bytes < 10 ** 9
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype
    compare(in_transformers(tmp_path, config), tmp_path)


@pytest.mark.parametrize("vision", [False, True])
def test_what_transformers_has_not_it_refuses(tmp_path, vision):
    """A norm in the NoPE layers too: it would answer with other numbers."""
    config = tiny_config(vision, qk_norm_nope=True)
    tinyscout.save(tinyscout.random_model(config), tmp_path)
    assert load_config(tmp_path).text == config.text
    for reads in (AutoConfig.from_pretrained, lambda path: in_transformers(path, config)):
        with pytest.raises(Exception, match="use_qk_norm"):
            reads(tmp_path)


def test_saved_by_the_public_door(tmp_path):
    tinyscout.save(tinyscout.random_model(tiny_config(), seed=4), tmp_path, "bfloat16")
    compare(in_transformers(tmp_path, tiny_config()), tmp_path)


@pytest.mark.parametrize("save", [{}, {"max_shard_size": "200KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize(("seed", "vision"), [(0, False), (1, True), (2, True), (3, False)])
def test_theirs_in_tinyscout(tmp_path, seed, vision, save):
    model = oracle.make(oracle.random_config(seed, vision), seed)
    model.save_pretrained(tmp_path, **save)
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(save)
    ours = tinyscout.load(tmp_path)
    rng = np.random.default_rng(seed)
    tokens, tiles = rng.integers(0, 90, 40), None
    if vision:
        tokens[4:4 + ours.config.vision.tokens_per_tile] = 96
        tiles = rng.standard_normal((1, 3, 56, 56)).astype(np.float32)
    theirs = oracle.logits(model, tokens, tiles)
    assert np.abs(ours.logits(tokens, [] if tiles is None else [tiles]) - theirs).max() < LOGITS


def all_tensors(directory):
    return {name: tensor for path in directory.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("vision", [False, True])
def test_from_them_to_us_to_them(tmp_path, vision, dtype):
    """Not a bit of a tensor changes, nor its name, its dtype or what the config says."""
    first, second = tmp_path / "first", tmp_path / "second"
    theirs = oracle.make(oracle.random_config(6, vision), 6)
    for parameter in theirs.parameters():                               # not .to(dtype), which would spoil their angles
        parameter.data = parameter.data.to(dtype)
    theirs.save_pretrained(first)
    model = tinyscout.load(first)
    tinyscout.save(model, second)
    before, after = all_tensors(first), all_tensors(second)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype == dtype, name
        assert torch.equal(after[name], tensor), name
    assert load_config(second) == load_config(first)
    again = in_transformers(second, model.config)
    assert all(torch.equal(p, before[name].float()) for name, p in again.state_dict().items() if name in before)
    index = [json.loads((path / "config.json").read_text())["dtype"] for path in (first, second)]
    assert index[0] == index[1] == str(dtype).removeprefix("torch.")


def test_from_us_to_them_to_us(tmp_path):
    config = MODELS["pictures"]
    weights = lively(config, 2)
    save_checkpoint(tmp_path / "ours", weights, config)
    in_transformers(tmp_path / "ours", config).save_pretrained(tmp_path / "theirs", max_shard_size="300KB")
    theirs = load_config(tmp_path / "theirs")
    assert replace(theirs, stop_ids=config.stop_ids) == config
    assert mmap_tensors(tmp_path / "ours").keys() == mmap_tensors(tmp_path / "theirs").keys()
    for (path, a), (_, b) in zip(named_arrays(weights), named_arrays(load_weights(tmp_path / "theirs", theirs)),
                                 strict=True):
        np.testing.assert_array_equal(a, b, err_msg=path)
