"""Every operation of Scout as plain NumPy: what the numbers mean.

This package is also the shape of every backend: `kernels.c` and `kernels.cuda` are this same list of
names, some of them replaced by something faster.  Inputs may be float32 or float64; a weight in float16
or bfloat16 is widened to the input's type where it is used, so a checkpoint can stay as its file is.
"""
from numpy import asarray
from numpy import asarray as asnumpy  # into and out of the backend's own arrays

from tinyscout.reference.activation import gelu, sigmoid, swiglu
from tinyscout.reference.adamw import adamw_step
from tinyscout.reference.attention import (
    attention_temperature,
    causal_mask,
    chunked_mask,
    grouped_query_attention,
    softmax,
)
from tinyscout.reference.fusion import fuse
from tinyscout.reference.linear import embed, linear
from tinyscout.reference.loss import cross_entropy
from tinyscout.reference.moe import experts, router
from tinyscout.reference.norm import layer_norm, rms_norm
from tinyscout.reference.patches import patchify, pixel_shuffle
from tinyscout.reference.quantize import (  # noqa: F401  three operations, and what forms a weight has
    Quantized,
    QuantizedRows,
    dense,
    dequantize,
    part,
    quantize,
    quantize_rows,
)
from tinyscout.reference.rope import apply_rope, rope_angles, rope_angles_2d, rope_frequencies
from tinyscout.reference.sampling import sample, top_k, top_p

__all__ = [
    "adamw_step", "apply_rope", "asarray", "asnumpy", "attention_temperature", "causal_mask", "chunked_mask",
    "cross_entropy", "dequantize", "embed", "experts", "fuse", "gelu", "grouped_query_attention", "layer_norm",
    "linear", "patchify", "pixel_shuffle", "quantize", "quantize_rows", "rms_norm", "rope_angles", "rope_angles_2d",
    "rope_frequencies", "router", "sample", "sigmoid", "softmax", "swiglu", "top_k", "top_p",
]
