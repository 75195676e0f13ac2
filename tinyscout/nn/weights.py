"""The weights: one NamedTuple per block, whose comments are the table of shapes.

Every matrix is (in, out), so a projection reads `x @ w`.  The letters are those of config.py.
"""
import math
from typing import Any, NamedTuple

import numpy as np

from tinyscout.reference import Quantized

Array = Any


class Attention(NamedTuple):
    w_q: Array                  # (D, H*d)
    w_k: Array                  # (D, K*d)
    w_v: Array                  # (D, K*d)
    w_o: Array                  # (H*d, D)


class FeedForward(NamedTuple):
    w_gate: Array               # (D, F)    routed experts: (E, D, F)
    w_up: Array                 # (D, F)                    (E, D, F)
    w_down: Array               # (F, D)                    (E, F, D)


class MoE(NamedTuple):
    w_router: Array             # (D, E)
    shared: FeedForward
    experts: FeedForward


class Block(NamedTuple):
    attention_norm: Array       # (D,)
    attention: Attention
    feed_forward_norm: Array    # (D,)
    feed_forward: Any           # MoE or FeedForward


class Text(NamedTuple):
    embedding: Array            # (V, D)
    blocks: list                # of Block
    norm: Array                 # (D,)
    output: Array               # (D, V)


class LayerNorm(NamedTuple):
    weight: Array               # (D,)
    bias: Array                 # (D,)


class VisionAttention(NamedTuple):
    w_q: Array                  # (D, D)
    b_q: Array                  # (D,)
    w_k: Array
    b_k: Array
    w_v: Array
    b_v: Array
    w_o: Array
    b_o: Array


class MLP(NamedTuple):
    w_1: Array                  # (D, F)
    b_1: Array                  # (F,)
    w_2: Array                  # (F, D)
    b_2: Array                  # (D,)


class VisionBlock(NamedTuple):
    attention_norm: LayerNorm
    attention: VisionAttention
    mlp_norm: LayerNorm
    mlp: MLP


class Adapter(NamedTuple):
    w_1: Array                  # (D * pixel_shuffle_factor**2, A)
    w_2: Array                  # (A, A)


class Vision(NamedTuple):
    w_patch: Array              # (C * patch * patch, D)
    class_embedding: Array      # (D,)
    position_embedding: Array   # (P + 1, D)
    norm_pre: LayerNorm
    blocks: list                # of VisionBlock
    norm_post: LayerNorm
    adapter: Adapter


class Scout(NamedTuple):
    text: Text
    vision: Any                 # Vision, or None in a text-only model
    w_projector: Array          # (A, D of the text), or None


def build(config, make_leaf):
    """Build the tree of weights from make_leaf(path, shape), such as `("text.blocks.0.attention.w_q", (D, H*d))`.

    make_leaf is not called for a tied output matrix, which is the transposed embedding.
    """
    text = _build_text(config.text, make_leaf)
    if config.vision is None:
        return Scout(text, None, None)
    vision = _build_vision(config.vision, make_leaf)
    return Scout(text, vision, make_leaf("w_projector", (config.vision.adapter_dim, config.text.dim)))


def _build_text(c, make_leaf):
    D, Hd, Kd = c.dim, c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim

    def feed_forward(at, F, *E):
        return FeedForward(make_leaf(f"{at}.w_gate", (*E, D, F)), make_leaf(f"{at}.w_up", (*E, D, F)),
                           make_leaf(f"{at}.w_down", (*E, F, D)))

    def block(at, layer):
        attention = Attention(make_leaf(f"{at}.attention.w_q", (D, Hd)), make_leaf(f"{at}.attention.w_k", (D, Kd)),
                              make_leaf(f"{at}.attention.w_v", (D, Kd)), make_leaf(f"{at}.attention.w_o", (Hd, D)))
        inner = f"{at}.feed_forward"
        mixed = MoE(make_leaf(f"{inner}.w_router", (D, c.n_experts)), feed_forward(f"{inner}.shared", c.hidden_dim),
                    feed_forward(f"{inner}.experts", c.hidden_dim, c.n_experts)) if layer.moe else None
        return Block(make_leaf(f"{at}.attention_norm", (D,)), attention, make_leaf(f"{at}.feed_forward_norm", (D,)),
                     mixed or feed_forward(inner, c.dense_dim))

    embedding = make_leaf("text.embedding", (c.vocab_size, D))
    blocks = [block(f"text.blocks.{n}", layer) for n, layer in enumerate(c.layers)]
    return Text(embedding, blocks, make_leaf("text.norm", (D,)),
                embedding.T if c.tie_embeddings else make_leaf("text.output", (D, c.vocab_size)))


def _build_vision(c, make_leaf):
    D, F, P = c.dim, c.hidden_dim, c.grid ** 2

    def norm(at):
        return LayerNorm(make_leaf(f"{at}.weight", (D,)), make_leaf(f"{at}.bias", (D,)))

    def block(at):
        qkvo = [make_leaf(f"{at}.attention.{kind}_{name}", (D, D) if kind == "w" else (D,))
                for name in "qkvo" for kind in "wb"]
        mlp = MLP(make_leaf(f"{at}.mlp.w_1", (D, F)), make_leaf(f"{at}.mlp.b_1", (F,)),
                  make_leaf(f"{at}.mlp.w_2", (F, D)), make_leaf(f"{at}.mlp.b_2", (D,)))
        return VisionBlock(norm(f"{at}.attention_norm"), VisionAttention(*qkvo), norm(f"{at}.mlp_norm"), mlp)

    return Vision(
        make_leaf("vision.w_patch", (c.channels * c.patch_size ** 2, D)), make_leaf("vision.class_embedding", (D,)),
        make_leaf("vision.position_embedding", (P + 1, D)), norm("vision.norm_pre"),
        [block(f"vision.blocks.{n}") for n in range(c.n_layers)], norm("vision.norm_post"),
        Adapter(make_leaf("vision.adapter.w_1", (D * c.pixel_shuffle_factor ** 2, c.adapter_dim)),
                make_leaf("vision.adapter.w_2", (c.adapter_dim, c.adapter_dim))))


def to_file_layout(path, array):
    """Convert a matrix to the layout of a checkpoint, (out, in), or back: a transposed view in both cases.

    Embeddings, and experts, which have three axes, have the same layout in both.
    """
    return array.T if array.ndim == 2 and not path.endswith("embedding") else array


def named_arrays(tree, path=""):
    """Yield (path, array) for every array of a tree of weights, paths as in `build`; a Quantized counts as an array."""
    if isinstance(tree, tuple | list) and not isinstance(tree, Quantized):
        keys = tree._fields if hasattr(tree, "_fields") else range(len(tree))
        for key, branch in zip(keys, tree, strict=True):
            yield from named_arrays(branch, f"{path}.{key}" if path else str(key))
    elif tree is not None:
        yield path, tree


def check_shapes(weights, config):
    """Raise ValueError unless the tree has exactly the weights, and their shapes, that the config describes."""
    found = {path: array.shape for path, array in named_arrays(weights)}
    wanted = {path: array.shape for path, array in named_arrays(abstract_weights(config))}
    for path in sorted(found.keys() | wanted.keys()):
        if found.get(path) != wanted.get(path):
            raise ValueError(f"{path} has shape {found.get(path)}, but the config calls for {wanted.get(path)}")


def tree_map(f, *trees):
    """Apply f to the arrays, or Quantized, at the same path of each tree; None stays None."""
    first = trees[0]
    if isinstance(first, tuple | list) and not isinstance(first, Quantized):
        mapped = [tree_map(f, *branches) for branches in zip(*trees, strict=True)]
        return type(first)(*mapped) if hasattr(first, "_fields") else mapped
    return None if first is None else f(*trees)


def weight_shapes(config):
    """Return {path: shape} of all weights of a config, without a tied output matrix."""
    shapes = {}

    def record(path, shape):
        shapes[path] = shape
        return np.broadcast_to(np.float32(0), shape)

    build(config, record)
    return shapes


def abstract_weights(config):
    """Build the tree of weights with the shape of every array, without allocating its memory."""
    return build(config, lambda path, shape: np.broadcast_to(np.float32(0), shape))


def init_weights(config, seed=0, dtype=np.float32):
    """Initialise weights: matrices normal with variance 1 / inputs, norms one, biases zero.

    config ScoutConfig, seed int, dtype of every array  ->  Scout, each matrix in the memory layout of a checkpoint
    """
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        name = path.rsplit(".", 1)[-1]
        if name.startswith("b_") or name == "bias":
            return np.zeros(shape, dtype)
        if len(shape) == 1 and not name.endswith("embedding"):
            return np.ones(shape, dtype)
        fan_in = shape[-1] if name.endswith("embedding") else shape[-2]
        stored = to_file_layout(path, np.broadcast_to(0, shape)).shape
        values = rng.standard_normal(stored, dtype=np.float32)
        values *= fan_in ** -0.5
        return to_file_layout(path, values.astype(dtype, copy=False))

    return build(config, leaf)


class ParameterCount(NamedTuple):
    """Numbers of parameters."""

    text: int
    vision: int         # the tower with its adapter
    projector: int
    total: int
    routed: int         # all routed experts of all layers
    active: int         # text parameters that one token uses: all except the experts not chosen for it


def count_parameters(config):
    """Count the parameters of a config without allocating weights.

    config ScoutConfig  ->  ParameterCount
    """
    sizes = {path: math.prod(shape) for path, shape in weight_shapes(config).items()}

    def total(part):
        return sum(size for path, size in sizes.items() if part in path)

    text, vision, projector, routed = total("text."), total("vision."), total("w_projector"), total(".experts.")
    active = text - routed + routed * config.text.top_k // config.text.n_experts
    return ParameterCount(text, vision, projector, text + vision + projector, routed, active)
