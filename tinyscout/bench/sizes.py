"""The models that are measured, the dtypes of their weights, and the bytes read per token."""
import ml_dtypes
import numpy as np

from tinyscout.bench.budget import DTYPES, kv_bytes
from tinyscout.checkpoint.quantize import quantize_weights
from tinyscout.config import ScoutConfig, TextConfig, layer_plan
from tinyscout.nn.weights import Scout, count_parameters, named_arrays, tree_map

WEIGHT_DTYPES = ("float32", "bfloat16", "int8", "int4")     # integers in groups of 32 inputs, like Q8_0 and Q4_0


def text_config(**sizes):
    """The config of a model without vision, with special ids inside its vocabulary."""
    return ScoutConfig(TextConfig(rope_scaling=None, max_positions=262_144, **sizes), None,
                       bos_id=0, stop_ids=(1,), pad_id=2)


SIZES = {
    "mid": text_config(vocab_size=16_384, dim=1024, n_heads=16, n_kv_heads=4, head_dim=64, hidden_dim=2048,
                       dense_dim=4096, layers=layer_plan(8)),
    "small": text_config(vocab_size=1024, dim=128, n_heads=8, n_kv_heads=2, head_dim=16, hidden_dim=256,
                         dense_dim=512, layers=layer_plan(4)),
}


def convert_weights(weights: Scout, dtype: str) -> Scout:
    """Convert float32 weights to one of WEIGHT_DTYPES."""
    if dtype == "float32":
        return weights
    if dtype == "bfloat16":
        return tree_map(lambda array: array.astype(ml_dtypes.bfloat16), weights)
    return quantize_weights(weights, bits=int(dtype.removeprefix("int")), group=DTYPES[dtype].group)


def bytes_per_token(weights: Scout, config: ScoutConfig) -> int:
    """Bytes of weights read for one token: its experts, its row of the embedding, and all other weights."""
    c, total = config.text, 0.0
    for path, array in named_arrays(weights.text, "text"):
        share = c.top_k / c.n_experts if ".experts." in path else 1 / c.vocab_size if "embedding" in path else 1
        total += array.nbytes * share
    return round(total)


def bytes_per_position(config: ScoutConfig, kv_dtype: str) -> int:
    """Bytes of the keys and values of one token in all layers."""
    return round(kv_bytes(config, 1, kv_dtype).total)


def describe_config(config: ScoutConfig) -> dict:
    """The sizes on which the results depend."""
    c, counts = config.text, count_parameters(config)
    return {"layers": len(c.layers), "dim": c.dim, "heads": c.n_heads, "kv heads": c.n_kv_heads,
            "head dim": c.head_dim, "experts": c.n_experts, "top k": c.top_k, "hidden": c.hidden_dim,
            "vocabulary": c.vocab_size, "parameters": counts.total, "active": counts.active}


def random_tokens(config: ScoutConfig, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random ids without the special ones: (*shape) int64"""
    return rng.integers(3, config.text.vocab_size, shape).astype(np.int64)
