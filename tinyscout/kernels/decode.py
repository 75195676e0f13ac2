"""One token through all layers in one call of C: what csrc/c/decode.c wants to know, kept in the cache."""
from time import perf_counter

import numpy as np

from tinyscout.disk import reading_ahead
from tinyscout.kernels.arrays import f32, floats, matrix, past
from tinyscout.kernels.guards import readable
from tinyscout.kernels.library import ffi, lib
from tinyscout.progress import steps
from tinyscout.reference import Quantized, attention_temperature, rope_angles
from tinyscout.weights import MoE, named

SLOW = 0.5          # seconds for a token: layer by layer then, with a bar and with reading ahead


class Decoder:
    """The C structs of one model and one cache, and the memory that a token needs on its way."""

    def __init__(self, w, config):
        self.w, self.config, self.threads = w, config, lib.set_threads(0)
        self.alive = []                                 # what the structs point into
        self.slow = True                                # the first token may have to wait for the disk
        self.layers = ffi.new("layer[]", [self.layer(*both) for both in zip(w.blocks, config.layers, strict=True)])
        self.struct = ffi.new("decoder *", {
            "layers": self.layers, "L": len(w.blocks), "D": config.dim, "H": config.n_heads, "K": config.n_kv_heads,
            "d": config.head_dim, "C": config.top_k, "qk_norm": config.qk_norm, "eps": config.norm_eps})
        self.scratch = np.empty(lib.decode_scratch_floats(self.struct), np.float32)
        self.struct.scratch = floats(self.scratch)
        self.buffers = [(None, None, 0)] * len(w.blocks)        # each layer's cache when it was last looked at

    def fits(self, w, config):
        """Is it made for these weights, and for as many threads as there are now?"""
        return self.w is w and self.config is config and self.threads == lib.set_threads(0)

    def numbers(self, weight):
        [weight] = f32(weight)
        self.alive.append(weight)
        return floats(weight)

    def matrix(self, w):
        struct = matrix(w)
        self.alive.append(struct)
        return struct[0]

    def layer(self, block, plan):
        """A C `layer` for one block, all but the cache, which grows."""
        c, ffn = self.config, block.feed_forward
        always = ffn.shared if isinstance(ffn, MoE) else ffn
        made = {"attention_norm": self.numbers(block.attention_norm), "rope": plan.rope, "F": always.w_up.shape[1],
                "feed_forward_norm": self.numbers(block.feed_forward_norm), "chunk": c.chunk if plan.chunked else 0,
                **{name: self.matrix(w) for name, w in block.attention._asdict().items()},
                **{f"dense_{name.removeprefix('w_')}": self.matrix(w) for name, w in always._asdict().items()}}
        if isinstance(ffn, MoE):
            made |= {"E": c.n_experts, "w_router": self.matrix(ffn.w_router),
                     **{name: self.matrix(w) for name, w in ffn.experts._asdict().items()}}
        return made

    def make_room(self, cache):
        """Room for one more token in every layer, and C knows where."""
        c = self.config
        for n, layer in enumerate(cache.layers):
            layer.make_room(cache.length, 1, 1, c.n_kv_heads, c.head_dim)
            keys, values, first = self.buffers[n]
            if not (keys is layer.keys and values is layer.values and first == layer.first):
                self.layers[n].keys, self.layers[n].values = past(layer.keys)[0], past(layer.values)[0]
                self.layers[n].kv_start = layer.first
                self.buffers[n] = layer.keys, layer.values, layer.first

    def __call__(self, x, cache):
        """The vector of a token x (1, 1, D)  ->  (1, 1, D), before the last norm"""
        c, here = self.config, np.array([cache.length])
        self.make_room(cache)
        cos, sin = (a.astype(np.float32) for a in rope_angles(here, c.head_dim, c.rope_theta, c.rope_scaling))
        sharper = attention_temperature(here, c.temperature_floor, c.temperature_scale)[0] if c.temperature else 1.0
        x = np.array(x, np.float32, order="C")
        along = floats(x), self.struct
        where = cache.length, floats(cos), floats(sin), sharper
        begun = perf_counter()
        if self.slow:
            for n, _ in enumerate(steps(reading_ahead(self.w.blocks), "layers", len(self.w.blocks))):
                lib.decode(*along, n, n + 1, *where)
        else:
            lib.decode(*along, 0, len(self.w.blocks), *where)
        self.slow = perf_counter() - begun > SLOW
        return x


def decodable(x, w, config, cache):
    """Is it one token in float32, of a plan that C knows, and every weight in a form that it reads in place?"""
    if cache is None or x.shape[:2] != (1, 1) or x.dtype != np.float32 or config.qk_norm_nope:
        return False
    if any(layer.kv == "float32" and layer.keys is not None and layer.keys.dtype != np.float32
           for layer in cache.layers):
        return False
    return all(_in_place(a) for _, a in named(w.blocks))


def _in_place(w):
    if isinstance(w, Quantized):
        return readable(w, *(None for _ in w.shape)) and all(a.flags.c_contiguous and a.flags.aligned for a in w)
    return w.ndim == 1 or (readable(w, *(None for _ in w.shape)) and w.flags.aligned and w.dtype.isnative
                           and w.itemsize in w.strides[-2:])
