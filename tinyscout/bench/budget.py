"""The cost of a model: bytes of weights and cache, operations and bytes per token, tokens per second at best.

Pure functions of a ScoutConfig; nothing is loaded.  Sizes are in bytes, speeds in bytes or operations per second.
"""
import math
from typing import NamedTuple

from tinyscout.config import ScoutConfig
from tinyscout.nn.weights import weight_shapes


class DtypeSpec(NamedTuple):
    """How elements are stored."""

    size: float             # bytes of an element
    group: int = 0          # elements that share a scale; 0: no scales
    scale: int = 0          # bytes of a scale

    def nbytes(self, count: float, max_group: int | None = None) -> float:
        """Bytes of `count` elements and their scales.  max_group: elements that may share a scale, at most"""
        group = min(self.group, max_group or self.group)
        return count * self.size + (count // group * self.scale if group else 0)


DTYPES = {
    "float32": DtypeSpec(4), "bfloat16": DtypeSpec(2), "fp8": DtypeSpec(1), "int8": DtypeSpec(1, 32, 2),
    "int4": DtypeSpec(0.5, 32, 2), "int4-meta": DtypeSpec(0.5, 128, 4),      # int4-meta: as Meta's own loader
}
MATRICES = ("attention", "shared experts", "routed experts", "dense", "output")
EXPERTS = ("shared experts", "routed experts")
QUANTIZED_PARTS = {"int8": MATRICES, "int4": MATRICES, "int4-meta": EXPERTS}      # the other weights stay bfloat16


class GpuSpec(NamedTuple):
    """The manufacturer's figures."""

    name: str
    memory: float           # bytes
    bandwidth: float        # bytes per second
    peak: float | None      # dense bfloat16 operations per second; None if not published


GPUS = [                # GB, GB/s, TFLOP/s
    GpuSpec(name, memory * 1e9, bandwidth * 1e9, peak and peak * 1e12) for name, memory, bandwidth, peak in [
        ("A100 80 GB SXM", 80, 2039, 312), ("H100 80 GB SXM", 80, 3350, 989), ("H200 SXM", 141, 4800, 989),
        ("MI300X", 192, 5300, 1307), ("RTX 4090", 24, 1008, 165), ("RTX 5090", 32, 1792, 210),
        ("M3 Max", 128, 400, None), ("M4 Max", 128, 546, None)]]


def part_of(path: str) -> str:
    """The part of the model that a weight belongs to.  path: "text.blocks.0.attention.w_q" """
    parts_by_prefix = {"vision.": "vision", "w_projector": "projector", "text.embedding": "embedding",
                       "text.output": "output"}
    for prefix, part in parts_by_prefix.items():
        if path.startswith(prefix):
            return part
    parts_by_infix = {".attention.": "attention", ".shared.": "shared experts", ".experts.": "routed experts",
                      "w_router": "routers", "norm": "norms", ".feed_forward.": "dense"}
    return next(part for infix, part in parts_by_infix.items() if infix in path)


def parameters_by_part(config: ScoutConfig) -> dict[str, int]:
    """{part: number of parameters}, in the order of the model."""
    counts: dict[str, int] = {}
    for path, shape in weight_shapes(config).items():
        counts[part_of(path)] = counts.get(part_of(path), 0) + math.prod(shape)
    return counts


def weight_bytes(config: ScoutConfig, dtype: str) -> dict[str, float]:
    """{part: bytes} of all weights.  dtype: one of DTYPES"""
    quantized = QUANTIZED_PARTS.get(dtype)
    return {part: DTYPES[dtype if quantized is None or part in quantized else "bfloat16"].nbytes(count)
            for part, count in parameters_by_part(config).items()}


def expected_expert_fraction(config: ScoutConfig, batch: int = 1) -> float:
    """Expected share of the routed experts that `batch` tokens visit, if all experts are equally likely."""
    return 1 - (1 - config.text.top_k / config.text.n_experts) ** batch


def bytes_read_per_step(config: ScoutConfig, dtype: str, batch: int = 1) -> float:
    """Bytes of weights read to decode one token in each of `batch` texts: no vision, one embedding row per text."""
    c, total = config.text, 0.0
    for part, size in weight_bytes(config, dtype).items():
        if part == "embedding":
            total += size / c.vocab_size * batch if not c.tie_embeddings else size
        elif part not in ("vision", "projector"):
            total += size * (expected_expert_fraction(config, batch) if part == "routed experts" else 1)
    return total


class KVBytes(NamedTuple):
    """Bytes of the keys and values of one text."""

    global_layers: float    # of the layers that see everything; grows with the text
    local_layers: float     # of the layers that see a chunk; at most one chunk
    naive: float            # if every layer kept everything

    @property
    def total(self) -> float:
        return self.global_layers + self.local_layers


def local_kv_dtype(kv_dtype: str) -> str:
    """The dtype of keys and values in chunked layers: never an integer, as in tinyscout.nn.cache."""
    return kv_dtype if kv_dtype in ("float32", "bfloat16") else "bfloat16"


def kv_bytes(config: ScoutConfig, context: int, kv_dtype: str, local_dtype: str | None = None) -> KVBytes:
    """Bytes of the cache after `context` tokens.  local_dtype: of the chunked layers (default: local_kv_dtype(...))"""
    c, local_dtype = config.text, local_dtype or local_kv_dtype(kv_dtype)
    n_local = sum(layer.chunked for layer in c.layers)

    def nbytes(dtype, n_layers, tokens):
        return DTYPES[dtype].nbytes(n_layers * tokens * 2 * c.n_kv_heads * c.head_dim, max_group=c.head_dim)
    return KVBytes(nbytes(kv_dtype, len(c.layers) - n_local, context),
                   nbytes(local_dtype, n_local, min(context, c.chunk_size)),
                   nbytes(kv_dtype, len(c.layers), context))


class FlopCount(NamedTuple):
    """Operations for one token."""

    linear: float           # two for every weight that it is multiplied by, the output matrix included
    attention: float        # at the end of the context
    naive: float            # attention, if every layer saw everything


def flops_per_token(config: ScoutConfig, context: int) -> FlopCount:
    """Additions and multiplications for the token after `context` others, at the end of a chunk."""
    c, parts = config.text, parameters_by_part(config)
    active = sum(parts.get(part, 0) for part in (*MATRICES, "routers", "norms"))
    active -= round(parts.get("routed experts", 0) * (1 - c.top_k / c.n_experts))
    if c.tie_embeddings:
        active += parts["embedding"]
    keys = sum(min(context, c.chunk_size) if layer.chunked else context for layer in c.layers)
    flops_per_key = 4 * c.n_heads * c.head_dim          # q @ k and p @ v, two for each channel
    return FlopCount(2 * active, flops_per_key * keys, flops_per_key * context * len(c.layers))


class DecodeStep(NamedTuple):
    """The cost of one decoding step: one token for each text."""

    nbytes: float           # bytes read
    operations: float
    memory: float           # bytes of all weights and all caches

    def tokens_per_second(self, bandwidth: float, peak: float | None, batch: int = 1) -> float:
        """Tokens per second at best, by the roofline: limited by reading or by computing, whichever takes longer."""
        return batch / max(self.nbytes / bandwidth, self.operations / peak if peak else 0)


def decode_step(config: ScoutConfig, context: int, dtype: str, kv_dtype: str, batch: int = 1) -> DecodeStep:
    """The cost of decoding one token in each of `batch` texts of `context` tokens."""
    cache, flops = kv_bytes(config, context, kv_dtype).total, flops_per_token(config, context)
    return DecodeStep(bytes_read_per_step(config, dtype, batch) + batch * cache,
                      batch * (flops.linear + flops.attention),
                      sum(weight_bytes(config, dtype).values()) + batch * cache)


def max_context(config: ScoutConfig, dtype: str, kv_dtype: str, memory: float) -> int:
    """The longest text whose cache fits into memory with the weights.  memory in bytes  ->  tokens, 0 if none fits"""
    free = memory - sum(weight_bytes(config, dtype).values())

    def fits(tokens):
        return kv_bytes(config, tokens, kv_dtype).total <= free

    if not fits(1):
        return 0
    low, high = 1, 2
    while fits(high) and high < 2 ** 40:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
