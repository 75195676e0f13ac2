"""The budget against figures worked out elsewhere, and its laws."""
import numpy as np
import pytest

from tinyscout.bench import budget
from tinyscout.checkpoint.quantize import quantize_weights
from tinyscout.cli import main
from tinyscout.cli._format import parse_tokens
from tinyscout.config import CONFIGS, MAVERICK, SCOUT, layer_plan, tiny_config
from tinyscout.nn.cache import KV_DTYPES, Cache
from tinyscout.nn.scout import forward
from tinyscout.nn.weights import count_parameters, init_weights
from tinyscout.reference import Quantized

LENGTHS = {"128K": 131_072, "1M": 1_048_576, "10 million": 10_000_000, "10M": 10_485_760}


def total(config, dtype):
    return sum(budget.weight_bytes(config, dtype).values())


@pytest.mark.parametrize(("name", "dtype", "gigabytes"), [
    ("scout", "bfloat16", 217.28), ("scout", "fp8", 108.64), ("scout", "int4-meta", 66.48),
    ("maverick", "bfloat16", 803.2), ("maverick", "fp8", 401.6), ("maverick", "int4-meta", 231.0)])
def test_bytes_of_all_weights(name, dtype, gigabytes):
    assert total(CONFIGS[name], dtype) / 1e9 == pytest.approx(gigabytes, abs=0.05 if gigabytes > 200 else 0.005)


def test_the_parts_are_all_there_is():
    for config in (SCOUT, MAVERICK, tiny_config(), tiny_config(vision=False),
                   tiny_config(layers=MAVERICK.text.layers[:2])):
        assert sum(budget.parameters_by_part(config).values()) == count_parameters(config).total
    parts = budget.parameters_by_part(SCOUT)
    assert parts["routed experts"] == 16 * 48 * 125_829_120
    assert parts["attention"] == 48 * 62_914_560
    assert parts["embedding"] == parts["output"] == 1_034_485_760
    assert parts["routers"] == 48 * 16 * 5120


@pytest.mark.parametrize(("kv_dtype", "gigabytes"), [
    ("bfloat16", {"128K": (25.8, 7.65), "1M": (206.2, 52.75), "10 million": (1966, 492.7), "10M": (2061.6, 516.6)}),
    ("int8", {"128K": (12.9, 3.83), "1M": (103.1, 26.4), "10 million": (983, 246.4), "10M": (1030.8, 258.3)}),
    ("int4", {"128K": (6.44, 1.91), "1M": (51.5, 13.2), "10 million": (491.5, 123.2), "10M": (515.4, 129.2)})])
def test_keys_and_values_without_their_scales(kv_dtype, gigabytes, monkeypatch):
    monkeypatch.setattr(budget, "DTYPES", {name: spec._replace(group=0) for name, spec in budget.DTYPES.items()})
    for name, (naive, chunked) in gigabytes.items():
        size = budget.kv_bytes(SCOUT, LENGTHS[name], kv_dtype, local_dtype=kv_dtype)
        assert size.naive / 1e9 == pytest.approx(naive, rel=2e-3)
        assert size.total / 1e9 == pytest.approx(chunked, rel=2e-3)


def test_scales_of_keys_and_values():
    """Two bytes for 32 numbers: a sixteenth of int8, an eighth of int4."""
    bfloat16 = budget.kv_bytes(SCOUT, 1 << 20, "bfloat16").global_layers
    assert budget.kv_bytes(SCOUT, 1 << 20, "int8").global_layers == bfloat16 / 2 * (1 + 1 / 16)
    assert budget.kv_bytes(SCOUT, 1 << 20, "int4").global_layers == bfloat16 / 4 * (1 + 1 / 8)


def test_operations():
    assert budget.flops_per_token(SCOUT, 8192).linear / 1e9 == pytest.approx(32.28, abs=0.005)
    for length, (attention, naive) in {8192: (8.05, 8.05), 131_072: (38.25, 128.9), 262_144: (70.5, 257.7),
                                       1_048_576: (263.7, 1030.8), 10_485_760: (2583, 10_308)}.items():
        flops = budget.flops_per_token(SCOUT, length)
        assert flops.attention / 1e9 == pytest.approx(attention, rel=1e-3)
        assert flops.naive / 1e9 == pytest.approx(naive, rel=1e-3)


@pytest.mark.parametrize("config", [SCOUT, MAVERICK])
def test_bytes_that_a_token_reads(config):
    assert budget.bytes_read_per_step(config, "bfloat16") / 1e9 == pytest.approx(32.3, abs=0.03)


def test_a_batch_wakes_more_experts():
    assert budget.expected_expert_fraction(SCOUT) == pytest.approx(1 / 16)
    assert budget.expected_expert_fraction(SCOUT, 16) == pytest.approx(1 - (15 / 16) ** 16)
    one, many = (budget.decode_step(SCOUT, 8192, "bfloat16", "bfloat16", batch) for batch in (1, 64))
    assert many.tokens_per_second(3e12, None, 64) > one.tokens_per_second(3e12, None)
    assert many.operations == 64 * one.operations


def test_the_roofline_is_the_slower_of_the_two():
    step = budget.DecodeStep(nbytes=10.0, operations=6.0, memory=0.0)
    assert step.tokens_per_second(bandwidth=20.0, peak=2.0) == 1 / 3
    assert step.tokens_per_second(bandwidth=20.0, peak=60.0) == 2.0
    assert step.tokens_per_second(bandwidth=20.0, peak=None, batch=4) == 8.0


def test_one_card_holds_scout_and_a_quarter_of_a_million_tokens():
    tokens = budget.max_context(SCOUT, "int4-meta", "bfloat16", 80e9)
    assert tokens == pytest.approx(250_000, rel=0.01)
    spare = 80e9 - total(SCOUT, "int4-meta")
    assert budget.kv_bytes(SCOUT, tokens, "bfloat16").total <= spare < budget.kv_bytes(SCOUT, tokens + 1,
                                                                                       "bfloat16").total
    assert budget.max_context(SCOUT, "bfloat16", "bfloat16", 80e9) == 0


@pytest.mark.parametrize("head_dim", [16, 32])
@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_a_real_cache_holds_as_much(kv_dtype, head_dim):
    """What was worked out, against the arrays of a cache that has just been filled."""
    config = tiny_config(vision=False, chunk_size=64, head_dim=head_dim)
    cache = Cache(config.text, kv_dtype)
    forward(np.arange(24), (), init_weights(config), config, cache)
    assert cache.nbytes == budget.kv_bytes(config, 24, kv_dtype).total


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_real_weights_are_as_large(dtype):
    config = tiny_config(vision=False, dim=64, hidden_dim=64, dense_dim=96, layers=layer_plan(2, moe_every=2))
    weights = quantize_weights(init_weights(config), bits=int(dtype[3:]), group=32)
    nbytes = sum(sum(array.nbytes for array in w) for w in leaves(weights) if isinstance(w, Quantized))
    sizes = budget.weight_bytes(config, dtype)
    assert nbytes == sum(sizes[part] for part in budget.MATRICES)


def leaves(tree):
    """Every array and quantized matrix of a tree of weights."""
    if isinstance(tree, tuple | list) and not isinstance(tree, Quantized):
        for branch in tree:
            yield from leaves(branch)
    else:
        yield tree


def test_the_command(capsys):
    assert main(["budget", "scout", "--context", "10M", "--dtype", "int4", "--kv-dtype", "int8"]) == 0
    said = capsys.readouterr().out
    for figure in ("10,485,760 tokens", "2.583 TFLOP", "32.28 GFLOP", "217.28 GB", "66.48 GB", "54.32 GB",
                   "H100 80 GB SXM", "here: ", "does not fit"):
        assert figure in said, figure
    assert main(["budget", "maverick", "--context", "4096", "--batch", "4"]) == 0
    said = capsys.readouterr().out
    assert "total of 4 texts" in said
    assert "Claims about" not in said


def test_numbers_of_tokens():
    assert [parse_tokens(text) for text in ("1", "8k", "128K", "10M")] == [1, 8192, 131_072, 10_485_760]


@pytest.mark.parametrize("words", ["budget", "budget nowhere", "budget scout --context 1.5M",
                                   "budget scout --context 0", "budget scout --context M",
                                   "budget scout --dtype int3"])
def test_bad_words_are_refused_in_one_line(words, capsys):
    assert main(words.split()) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
