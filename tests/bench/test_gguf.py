"""llama.cpp on the same weights: names, layouts, rotation, experts and temperature all come out the same."""
from dataclasses import replace

import numpy as np
import pytest

from tinyscout.bench.sizes import SIZES
from tinyscout.config import RopeScaling, layer_plan, tiny_config
from tinyscout.model import random_model

gguf = pytest.importorskip("gguf", reason="gguf is not installed")
llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

from tinyscout.bench.llama import FLOAT32, LlamaCppEngine  # noqa: E402  both need what may be missing
from tinyscout.bench.to_gguf import write_gguf  # noqa: E402

# What llama.cpp has built in stays as it is: the chunk, the temperature, every fourth layer global.
SCALED = tiny_config(vision=False, chunk_size=8192, attn_temperature_floor=8192.0, layers=layer_plan(4, moe_every=2),
                     dim=96, hidden_dim=64, dense_dim=96, top_k=2, rope_scaling=RopeScaling(original=16))


TIED = replace(SCALED, text=replace(SCALED.text, tie_embeddings=True))


def llama_cpp_logits(model, file, tokens, dtype="float32", pieces=1):
    """llama.cpp's logits after the last token; a text in one piece goes through its flash attention."""
    write_gguf(file, model.weights, model.config, dtype)
    engine = LlamaCppEngine(file, 2, 512, model.config.text.vocab_size, llama_cpp, kv_dtype=FLOAT32)
    engine.reset("decode")
    for piece in np.array_split(tokens, pieces):
        logits = engine.feed(piece)
    engine.close()
    return logits


@pytest.mark.parametrize("config", [SIZES["small"], SCALED, TIED], ids=["small", "scaled", "tied"])
@pytest.mark.parametrize("pieces", [1, 7])
def test_the_logits_are_the_same(config, pieces, tmp_path):
    model = random_model(config)
    tokens = np.random.default_rng(1).integers(3, config.text.vocab_size, 150)
    expected = model.logits(tokens)[-1]
    actual = llama_cpp_logits(model, tmp_path / "model.gguf", tokens, pieces=pieces)
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()


def test_fewer_bits_are_nearly_the_same(tmp_path):
    """Each dtype is nearer than the next one with fewer bits, and none is something else."""
    model = random_model(SIZES["small"])
    tokens = np.random.default_rng(2).integers(3, 1024, 64)
    expected = model.logits(tokens)[-1]
    off = [np.linalg.norm(llama_cpp_logits(model, tmp_path / f"{dtype}.gguf", tokens, dtype) - expected)
           / np.linalg.norm(expected) for dtype in ("float32", "bfloat16", "int8", "int4")]
    assert off == sorted(off)
    assert off[-1] < 0.6


def test_every_large_matrix_has_the_dtype(tmp_path):
    config = SIZES["small"]
    write_gguf(tmp_path / "model.gguf", random_model(config).weights, config, "int4")
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    float32 = {name for name, kind in kinds.items() if kind == gguf.GGMLQuantizationType.F32}
    assert all("norm" in name or "gate_inp" in name for name in float32)
    assert {kinds[name] for name in kinds.keys() - float32} == {gguf.GGMLQuantizationType.Q4_0}
    assert len(kinds) == 3 + 4 * 13


@pytest.mark.parametrize("change", [{"chunk_size": 4096}, {"attn_temperature": False},
                                    {"layers": layer_plan(4, nope_every=2)}, {"qk_norm": False}])
def test_what_llama_cpp_cannot_express_is_refused(change, tmp_path):
    config = replace(SCALED, text=replace(SCALED.text, **change))
    with pytest.raises(ValueError, match=r"llama\.cpp's Llama 4 has"):
        write_gguf(tmp_path / "model.gguf", random_model(config).weights, config)


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    with pytest.raises(RuntimeError, match=r"llama\.cpp cannot read"):
        LlamaCppEngine(tmp_path / "bad.gguf", 2, 512, 10, llama_cpp)
