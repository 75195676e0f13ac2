"""Every operation of Scout in plain NumPy: the definitions that all kernels are tested against.

This package is also the interface of every backend: `kernels.c` and `kernels.cuda` have the same list of
names, some of them replaced by faster functions.  Inputs may be float32 or float64; a weight in float16
or bfloat16 is converted to the input's dtype when it is used, so a checkpoint is used as it is stored.

Each differentiable f has an f_backward below it, which takes dy, the gradient of f's result, and then the arguments of
f.  It returns the gradients of those arguments, in their order, that are learned or depend on learned ones.  It
recomputes the intermediate values that it needs: f saves nothing for it.
"""
# ruff: noqa: F401  these imports are re-exports
from numpy import asarray
from numpy import asarray as asnumpy  # into and out of the backend's own arrays

from tinyscout.reference.activation import gelu, gelu_backward, sigmoid, sigmoid_backward, swiglu, swiglu_backward
from tinyscout.reference.adamw import adamw_step
from tinyscout.reference.attention import (
    attention_temperature,
    causal_mask,
    chunked_mask,
    grouped_query_attention,
    grouped_query_attention_backward,
    softmax,
    softmax_backward,
)
from tinyscout.reference.fusion import fuse, fuse_backward
from tinyscout.reference.linear import embed, embed_backward, linear, linear_backward
from tinyscout.reference.loss import (
    cross_entropy,
    cross_entropy_backward,
    soft_cross_entropy,
    soft_cross_entropy_backward,
)
from tinyscout.reference.moe import (
    experts,
    experts_backward,
    load_balance,
    load_balance_backward,
    router,
    router_backward,
)
from tinyscout.reference.muon import muon_step
from tinyscout.reference.norm import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward
from tinyscout.reference.patches import patchify, patchify_backward, pixel_shuffle, pixel_shuffle_backward
from tinyscout.reference.quantize import (  # three operations, and the formats of a weight
    Quantized,
    QuantizedRows,
    dequantize,
    quantize,
    quantize_rows,
    take,
    to_dense,
)
from tinyscout.reference.rope import apply_rope, apply_rope_backward, rope_angles, rope_angles_2d, rope_frequencies
from tinyscout.reference.sampling import sample, top_k, top_p

DIFFERENTIABLE = [              # each has its gradient below it: f_backward
    "apply_rope", "cross_entropy", "embed", "experts", "fuse", "gelu", "grouped_query_attention", "layer_norm",
    "linear", "load_balance", "patchify", "pixel_shuffle", "rms_norm", "router", "sigmoid", "soft_cross_entropy",
    "softmax", "swiglu",
]
__all__ = [
    *DIFFERENTIABLE, *(f"{name}_backward" for name in DIFFERENTIABLE),
    "adamw_step", "asarray", "asnumpy", "attention_temperature", "causal_mask", "chunked_mask", "dequantize",
    "muon_step", "quantize", "quantize_rows", "rope_angles", "rope_angles_2d", "rope_frequencies", "sample", "top_k",
    "top_p",
]
