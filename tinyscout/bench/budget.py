"""What a model costs: bytes of weights and cache, operations and bytes per token, tokens a second at best.

Pure functions of a ScoutConfig; nothing is loaded.  Sizes in bytes, speeds in bytes or operations a second.
"""
import math
from typing import NamedTuple

import numpy as np

from tinyscout.nn.weights import build


class DtypeSpec(NamedTuple):
    """How numbers are stored, and which of them."""

    size: float             # bytes of a number
    group: int = 0          # numbers that share a scale; 0: there are no scales
    scale: int = 0          # bytes of a scale
    parts: tuple = ()       # of the weights: what is stored so, the rest being bfloat16; empty: everything

    def bytes_of(self, numbers):
        return numbers * self.size + (numbers // self.group * self.scale if self.group else 0)


MATRICES = ("attention", "shared experts", "routed experts", "dense", "output")
EXPERTS = ("shared experts", "routed experts")
WEIGHTS = {
    "float32": DtypeSpec(4), "bfloat16": DtypeSpec(2), "fp8": DtypeSpec(1),
    "int8": DtypeSpec(1, 32, 2, MATRICES), "int4": DtypeSpec(0.5, 32, 2, MATRICES),
    "int4-meta": DtypeSpec(0.5, 128, 4, EXPERTS),            # what Meta's own loader makes of Scout
}
KV_FORMATS = {"float32": DtypeSpec(4), "bfloat16": DtypeSpec(2), "int8": DtypeSpec(1, 32, 2),
              "int4": DtypeSpec(0.5, 32, 2)}


class GpuSpec(NamedTuple):
    """What its maker publishes."""

    name: str
    memory: float           # bytes
    bandwidth: float        # bytes a second
    peak: float | None      # bfloat16 operations a second, dense; None where the maker does not say


CARDS = [               # GB, GB/s, TFLOP/s
    GpuSpec(name, memory * 1e9, bandwidth * 1e9, peak and peak * 1e12) for name, memory, bandwidth, peak in [
        ("A100 80 GB SXM", 80, 2039, 312), ("H100 80 GB SXM", 80, 3350, 989), ("H200 SXM", 141, 4800, 989),
        ("MI300X", 192, 5300, 1307), ("RTX 4090", 24, 1008, 165), ("RTX 5090", 32, 1792, 210),
        ("M3 Max", 128, 400, None), ("M4 Max", 128, 546, None)]]


def part_of(path):
    """Which part of the model an array of the weights' tree belongs to."""
    kinds = {"vision.": "vision", "w_projector": "projector", "text.embedding": "embedding", "text.output": "output"}
    for start, part in kinds.items():
        if path.startswith(start):
            return part
    inner = {".attention.": "attention", ".shared.": "shared experts", ".experts.": "routed experts",
             "w_router": "routers", "norm": "norms", ".feed_forward.": "dense"}
    return next(part for sign, part in inner.items() if sign in path)


def parameters_by_part(config):
    """{part: how many parameters}, in the order of the model.  config ScoutConfig"""
    sizes: dict[str, int] = {}

    def leaf(path, shape):
        sizes[part_of(path)] = sizes.get(part_of(path), 0) + math.prod(shape)
        return np.broadcast_to(np.float32(0), shape)

    build(config, leaf)
    return sizes


def weight_bytes(config, form):
    """{part: bytes} of all weights.  config ScoutConfig, form of WEIGHTS"""
    kind = WEIGHTS[form]
    return {part: kind.bytes_of(n) if part in (kind.parts or (part,)) else 2 * n
            for part, n in parameters_by_part(config).items()}


def expected_expert_fraction(config, batch=1):
    """The share of the routed experts that `batch` tokens visit, if every expert is as likely as any other."""
    return 1 - (1 - config.text.top_k / config.text.n_experts) ** batch


def bytes_read_per_step(config, form, batch=1):
    """Bytes of weights that decoding one token of each of `batch` texts reads: no vision, one row of the embedding."""
    c, total = config.text, 0.0
    for part, size in weight_bytes(config, form).items():
        if part == "embedding":
            total += size / c.vocab_size * batch if not c.tie_embeddings else size
        elif part not in ("vision", "projector"):
            total += size * (expected_expert_fraction(config, batch) if part == "routed experts" else 1)
    return total


class KVBytes(NamedTuple):
    """Bytes of the keys and values of one text."""

    whole: float            # in the layers that see everything: grows with the text
    local: float            # in the chunked layers: at most one chunk
    naive: float            # if every layer kept everything

    @property
    def total(self):
        return self.whole + self.local


def kv_bytes(config, context, kv, local=None):
    """What `context` tokens leave in the cache.  kv of KV, local the form in chunked layers (default: bfloat16 where
    kv is of integers, as in tinyscout.nn.cache, since there is little to gain)  ->  Kept"""
    c = config.text
    local = local or (kv if kv in ("float32", "bfloat16") else "bfloat16")
    row = 2 * c.n_kv_heads * c.head_dim
    chunked = sum(layer.chunked for layer in c.layers)
    rest = len(c.layers) - chunked
    return KVBytes(KV_FORMATS[kv].bytes_of(rest * context * row),
                   KV_FORMATS[local].bytes_of(chunked * min(context, c.chunk_size) * row),
                   KV_FORMATS[kv].bytes_of(len(c.layers) * context * row))


class FlopCount(NamedTuple):
    """Operations for one token."""

    linear: float           # two for every weight that it meets, the output's matrix included
    attention: float        # at the end of the context
    naive: float            # attention, if every layer saw everything


def flops_per_token(config, context):
    """Additions and multiplications for the token after `context` others, late in its chunk.  ->  Work"""
    c, parts = config.text, parameters_by_part(config)
    met = sum(parts.get(part, 0) for part in (*MATRICES, "routers", "norms"))
    met -= round(parts.get("routed experts", 0) * (1 - c.top_k / c.n_experts))
    if c.tie_embeddings:
        met += parts["embedding"]
    seen = sum(min(context, c.chunk_size) if layer.chunked else context for layer in c.layers)
    pair = 4 * c.n_heads * c.head_dim                   # a score and its share of the mean, two for each channel
    return FlopCount(2 * met, pair * seen, pair * context * len(c.layers))


class DecodeStep(NamedTuple):
    """One step of decoding, a token for each of the texts."""

    nbytes: float           # read
    operations: float
    memory: float           # bytes of all weights and all caches

    def speed(self, bandwidth, peak, batch=1):
        """Tokens a second at best, the roofline: reading or computing, whichever takes longer."""
        return batch / max(self.nbytes / bandwidth, self.operations / peak if peak else 0)


def decoding(config, context, weights, kv, batch=1):
    """config ScoutConfig, context int tokens of each text, weights of WEIGHTS, kv of KV, batch int  ->  Decoding"""
    kept, each = kv_bytes(config, context, kv).total, flops_per_token(config, context)
    return DecodeStep(bytes_read_per_step(config, weights, batch) + batch * kept,
                      batch * (each.linear + each.attention),
                      sum(weight_bytes(config, weights).values()) + batch * kept)


def max_context(config, weights, kv, memory):
    """The longest text whose cache fits beside the weights.  memory in bytes  ->  tokens, 0 where nothing fits"""
    free = memory - sum(weight_bytes(config, weights).values())
    if free < kv_bytes(config, 1, kv).total:
        return 0
    low, high = 1, 2
    while kv_bytes(config, high, kv).total <= free and high < 2 ** 40:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if kv_bytes(config, middle, kv).total <= free else (low, middle)
    return low
