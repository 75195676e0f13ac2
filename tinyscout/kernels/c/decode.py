"""One token through all layers in one call of C, with arguments that are prepared once and kept in the cache.

csrc/c/decode.c does for one token what `rotate_and_norm`, `scale_queries` and `moe` of tinyscout/nn/text.py do for
many.  Change them together; the laws and tests/kernels/test_decode.py compare the two.
"""
from time import perf_counter

import numpy as np

from tinyscout.kernels.c.arrays import as_float32, float_ptr, kv_view, matrix_view
from tinyscout.kernels.c.library import ffi, lib
from tinyscout.kernels.guards import is_readable_weight
from tinyscout.nn.weights import MoE, named_arrays
from tinyscout.reference import Quantized, attention_temperature, rope_angles

SLOW_TOKEN_SECONDS = 0.5        # after a slower token, the next one runs layer by layer, through `iterate`


class TokenDecoder:
    """The C structs of one model and one cache, and the scratch memory of a token."""

    def __init__(self, w, config):
        self.w, self.config, self.threads = w, config, lib.set_threads(0)
        self.keep_alive = []                            # memory that the structs point to
        self.is_slow = True                             # the first token may have to wait for the disk
        self.layers = ffi.new("layer[]", [self.layer_fields(block, layer)
                                          for block, layer in zip(w.blocks, config.layers, strict=True)])
        self.struct = ffi.new("decoder *", {
            "layers": self.layers, "L": len(w.blocks), "D": config.dim, "H": config.n_heads, "K": config.n_kv_heads,
            "d": config.head_dim, "C": config.top_k, "qk_norm": config.qk_norm, "eps": config.norm_eps})
        self.scratch = np.empty(lib.decode_scratch_floats(self.struct), np.float32)
        self.struct.scratch = float_ptr(self.scratch)
        self.buffers = [(None, None, 0)] * len(w.blocks)        # (keys, values, start) of each layer that C has seen

    def is_valid_for(self, w, config):
        """True if it was made for these weights, this config and the current number of threads."""
        return self.w is w and self.config is config and self.threads == lib.set_threads(0)

    def vector_ptr(self, weight):
        [weight] = as_float32(weight)
        self.keep_alive.append(weight)
        return float_ptr(weight)

    def matrix_struct(self, w):
        struct = matrix_view(w)
        self.keep_alive.append(struct)
        return struct[0]

    def layer_fields(self, block, layer):
        """The fields of the C struct `layer`, except for those of the cache, which grows."""
        c, ffn = self.config, block.feed_forward
        dense = ffn.shared if isinstance(ffn, MoE) else ffn             # the network that every token uses
        fields = {"attention_norm": self.vector_ptr(block.attention_norm), "rope": layer.rope,
                  "feed_forward_norm": self.vector_ptr(block.feed_forward_norm), "F": dense.w_up.shape[1],
                  "chunk": c.chunk_size if layer.chunked else 0,
                  **{name: self.matrix_struct(w) for name, w in block.attention._asdict().items()},
                  **{f"dense_{name.removeprefix('w_')}": self.matrix_struct(w) for name, w in dense._asdict().items()}}
        if isinstance(ffn, MoE):
            fields |= {"E": c.n_experts, "w_router": self.matrix_struct(ffn.w_router),
                       **{name: self.matrix_struct(w) for name, w in ffn.experts._asdict().items()}}
        return fields

    def reserve(self, cache):
        """Make room for one more token in every layer of the cache, and update the addresses in the C structs."""
        c = self.config
        for n, layer in enumerate(cache.layers):
            layer.reserve(cache.length, 1, 1, c.n_kv_heads, c.head_dim)
            keys, values, start = self.buffers[n]
            if not (keys is layer.keys and values is layer.values and start == layer.start):
                self.layers[n].keys, self.layers[n].values = kv_view(layer.keys)[0], kv_view(layer.values)[0]
                self.layers[n].kv_start = layer.start
                self.buffers[n] = layer.keys, layer.values, layer.start

    def __call__(self, x, cache, iterate):
        """The vector of a token x (1, 1, D)  ->  (1, 1, D), before the last norm"""
        self.reserve(cache)
        x = np.array(x, np.float32, order="C")
        cos, sin, temperature = self.position_tables(cache.length)
        position = cache.length, float_ptr(cos), float_ptr(sin), temperature
        start = perf_counter()
        if self.is_slow:
            for n, _ in enumerate(iterate(self.w.blocks, "layers")):
                lib.decode(float_ptr(x), self.struct, n, n + 1, *position)
        else:
            lib.decode(float_ptr(x), self.struct, 0, len(self.w.blocks), *position)
        self.is_slow = perf_counter() - start > SLOW_TOKEN_SECONDS
        return x

    def position_tables(self, position):
        """As in tinyscout/nn/text.py, for one token  ->  cos and sin (1, d/2) float32, temperature float"""
        c, positions = self.config, np.array([position])
        cos, sin = (a.astype(np.float32) for a in rope_angles(positions, c.head_dim, c.rope_theta, c.rope_scaling))
        if not c.attn_temperature:
            return cos, sin, 1.0
        return cos, sin, attention_temperature(positions, c.attn_temperature_floor, c.attn_temperature_scale)[0]


def can_decode(x, w, config, cache):
    """True if x (1, 1, D) is float32, C supports the model, and it can read every weight in place."""
    if x.dtype != np.float32 or config.qk_norm_nope:
        return False
    if any(layer.kv_dtype == "float32" and layer.keys is not None and layer.keys.dtype != np.float32
           for layer in cache.layers):
        return False
    return all(_is_readable_by_c(a) for _, a in named_arrays(w.blocks))


def _is_readable_by_c(w):
    if len(w.shape) == 1:
        return True                                     # the weights of a norm are copied
    if not is_readable_weight(w, *(None for _ in w.shape)):
        return False
    if isinstance(w, Quantized):
        return all(a.flags.c_contiguous and a.flags.aligned for a in w)
    return w.flags.aligned and w.dtype.isnative and w.itemsize in w.strides[-2:]
