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
MODELS = {"multimodal": tiny_config(**SMALL), "text": tiny_config(vision=False, **SMALL),
          "tied text": tiny_config(vision=False, tie_embeddings=True), "tied": tiny_config(tie_embeddings=True),
          "maverick": tiny_config(qk_norm=False, rope_scaling=None, layers=layer_plan(4, moe_every=2)),
          "rope and global": tiny_config(vision=False, layers=(Layer(True, True, True), Layer(True, False, True)))}


def random_weights(config, seed=0):
    """Random weights in which norms and biases are not one and zero, so that a mix-up shows."""
    rng = np.random.default_rng(seed)
    weights = tree_map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32) if a.ndim == 1 else a,
                       init_weights(config, seed))
    return weights if not config.text.tie_embeddings else weights._replace(
        text=weights.text._replace(output=weights.text.embedding.T))


def prompt(config):
    """Tokens past several chunks, and an image if there is a vision tower  ->  tokens, tiles or None."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 400, 40)
    if config.vision is None:
        return tokens, None
    tokens[3:3 + 2 * config.vision.tokens_per_tile] = config.patch_id
    return tokens, rng.standard_normal((2, 3, config.vision.tile_size, config.vision.tile_size)).astype(np.float32)


def load_in_transformers(directory, config):
    """transformers' model of a directory, in fp32 and eager; fails if its report names a single tensor."""
    model_class = oracle.Llama4ForConditionalGeneration if config.vision else oracle.Llama4ForCausalLM
    model, report = model_class.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()), report
    return oracle.prepare(model)


def compare(hf_model, directory):
    """transformers' logits beside tinyscout's on the same directory."""
    model = tinyscout.load(directory)
    tokens, tiles = prompt(model.config)
    expected = oracle.logits(hf_model, tokens, tiles)
    assert np.abs(model.logits(tokens, [] if tiles is None else [tiles]) - expected).max() < LOGITS
    assert np.abs(expected).max() > 0.5


@pytest.mark.parametrize("shard_bytes", [10 ** 9, 100_000], ids=["one file", "shards"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_a_saved_checkpoint_in_transformers(tmp_path, config, dtype, shard_bytes):
    weights = random_weights(config)
    save_checkpoint(tmp_path, weights, config, dtype, shard_bytes)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard_bytes < 10 ** 9
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype
    compare(load_in_transformers(tmp_path, config), tmp_path)


@pytest.mark.parametrize("vision", [False, True])
def test_what_transformers_has_not_it_refuses(tmp_path, vision):
    """A norm in the NoPE layers too: it would answer with other numbers."""
    config = tiny_config(vision, qk_norm_nope=True)
    tinyscout.save(tinyscout.random_model(config), tmp_path)
    assert load_config(tmp_path).text == config.text
    for read in (AutoConfig.from_pretrained, lambda path: load_in_transformers(path, config)):
        with pytest.raises(Exception, match="use_qk_norm"):
            read(tmp_path)


def test_saved_by_the_public_function(tmp_path):
    tinyscout.save(tinyscout.random_model(tiny_config(), seed=4), tmp_path, "bfloat16")
    compare(load_in_transformers(tmp_path, tiny_config()), tmp_path)


@pytest.mark.parametrize("save", [{}, {"max_shard_size": "200KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize(("seed", "vision"), [(0, False), (1, True), (2, True), (3, False)])
def test_a_checkpoint_of_transformers_in_tinyscout(tmp_path, seed, vision, save):
    hf_model = oracle.make(oracle.random_config(seed, vision), seed)
    hf_model.save_pretrained(tmp_path, **save)
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(save)
    model = tinyscout.load(tmp_path)
    rng = np.random.default_rng(seed)
    tokens, tiles = rng.integers(0, 90, 40), None
    if vision:
        tokens[4:4 + model.config.vision.tokens_per_tile] = 96
        tiles = rng.standard_normal((1, 3, 56, 56)).astype(np.float32)
    expected = oracle.logits(hf_model, tokens, tiles)
    assert np.abs(model.logits(tokens, [] if tiles is None else [tiles]) - expected).max() < LOGITS


def all_tensors(directory):
    return {name: tensor for path in directory.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("vision", [False, True])
def test_from_transformers_to_tinyscout_and_back(tmp_path, vision, dtype):
    """Not a bit of a tensor changes, nor its name, its dtype or what the config says."""
    first, second = tmp_path / "first", tmp_path / "second"
    hf_model = oracle.make(oracle.random_config(6, vision), 6)
    for parameter in hf_model.parameters():     # not .to(dtype), which would also round the buffers of RoPE
        parameter.data = parameter.data.to(dtype)
    hf_model.save_pretrained(first)
    model = tinyscout.load(first)
    tinyscout.save(model, second)
    before, after = all_tensors(first), all_tensors(second)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype == dtype, name
        assert torch.equal(after[name], tensor), name
    assert load_config(second) == load_config(first)
    reloaded = load_in_transformers(second, model.config)
    assert all(torch.equal(p, before[name].float()) for name, p in reloaded.state_dict().items() if name in before)
    dtypes = [json.loads((path / "config.json").read_text())["dtype"] for path in (first, second)]
    assert dtypes[0] == dtypes[1] == str(dtype).removeprefix("torch.")


def test_from_tinyscout_to_transformers_and_back(tmp_path):
    config = MODELS["multimodal"]
    weights = random_weights(config, 2)
    save_checkpoint(tmp_path / "saved", weights, config)
    load_in_transformers(tmp_path / "saved", config).save_pretrained(tmp_path / "hf", max_shard_size="300KB")
    hf_config = load_config(tmp_path / "hf")
    assert replace(hf_config, stop_ids=config.stop_ids) == config
    assert mmap_tensors(tmp_path / "saved").keys() == mmap_tensors(tmp_path / "hf").keys()
    hf_weights = load_weights(tmp_path / "hf", hf_config)
    for (path, a), (_, b) in zip(named_arrays(weights), named_arrays(hf_weights), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=path)
