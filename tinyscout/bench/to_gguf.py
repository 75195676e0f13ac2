"""Convert weights to a GGUF file, the format of llama.cpp, with its names, layouts and types."""
from pathlib import Path

import gguf
import numpy as np

from tinyscout import reference
from tinyscout.config import ScoutConfig, layer_plan
from tinyscout.nn.weights import Scout, named_arrays, to_file_layout
from tinyscout.progress import track

GGUF_TYPES = {"float32": gguf.GGMLQuantizationType.F32, "bfloat16": gguf.GGMLQuantizationType.BF16,
              "int8": gguf.GGMLQuantizationType.Q8_0, "int4": gguf.GGMLQuantizationType.Q4_0}
BLOCK_NAMES = {     # tinyscout's: llama.cpp's
    "attention_norm": "attn_norm", "feed_forward_norm": "ffn_norm",
    **{f"attention.w_{x}": f"attn_{'output' if x == 'o' else x}" for x in "qkvo"},
    "feed_forward.w_router": "ffn_gate_inp",
    **{f"feed_forward{part}.w_{x}": f"ffn_{x}{end}" for x in ("gate", "up", "down")
       for part, end in [("", ""), (".shared", "_shexp"), (".experts", "_exps")]},
}
TOP_LEVEL_NAMES = {"embedding": "token_embd", "norm": "output_norm", "output": "output"}


def gguf_name(path):
    """text.blocks.3.attention.w_q  ->  blk.3.attn_q.weight"""
    inner = path.removeprefix("text.")
    if not inner.startswith("blocks."):
        return f"{TOP_LEVEL_NAMES[inner]}.weight"
    _, n, rest = inner.split(".", 2)
    return f"blk.{n}.{BLOCK_NAMES[rest]}.weight"


def to_gguf_layout(path, array):
    """Transpose every matrix (in, out), also of the experts, to (out, in): llama.cpp reads it row by row."""
    return array.swapaxes(1, 2) if array.ndim == 3 else to_file_layout(path, array)


def gguf_type(path, shape, dtype):
    """The GGUF type of a tensor: llama.cpp requires float32 for vectors and the router; all others use `dtype`."""
    return GGUF_TYPES["float32" if len(shape) == 1 or path.endswith("w_router") else dtype]


def check_supported(c):
    """Raise ValueError if a TextConfig differs from the settings that llama.cpp has built in for Llama 4."""
    step = next((n for n, layer in enumerate(c.layers, 1) if layer.moe), 0)
    requirements = {
        "a chunk of 8192": c.chunk_size == 8192, 
        "every fourth layer global": bool(step) and c.layers == layer_plan(len(c.layers), 4, step),
        "the usual temperature":
        (c.attn_temperature, c.attn_temperature_floor, c.attn_temperature_scale) == (True, 8192.0, 0.1),
        "a norm of queries and keys unless it has 128 experts":
        (c.qk_norm, c.qk_norm_nope) == (c.n_experts != 128, False)}
    if missing := [name for name, is_met in requirements.items() if not is_met]:
        raise ValueError(f"llama.cpp's Llama 4 has {' and '.join(missing)}, but this config does not")
    return step


def write_sizes(writer, c, step):
    """Write the sizes under GGUF's names."""
    writer.add_context_length(c.max_positions)
    writer.add_embedding_length(c.dim)
    writer.add_block_count(len(c.layers))
    writer.add_feed_forward_length(c.dense_dim)
    writer.add_expert_feed_forward_length(c.hidden_dim)
    writer.add_expert_count(c.n_experts)
    writer.add_expert_used_count(c.top_k)
    writer.add_interleave_moe_layer_step(step)
    writer.add_head_count(c.n_heads)
    writer.add_head_count_kv(c.n_kv_heads)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_vocab_size(c.vocab_size)
    writer.add_tokenizer_model("none")          # input and output are ids and logits, not text


def iter_tensors(weights, config):
    """(GGUF's name, path in the tree, array in GGUF's layout) of every tensor of the text model."""
    c = config.text
    if c.rope_scaling is not None:              # the factor by which each frequency is reduced
        frequencies = reference.rope_frequencies(c.head_dim, c.rope_theta)
        factors = frequencies / reference.rope_frequencies(c.head_dim, c.rope_theta, c.rope_scaling)
        yield "rope_freqs.weight", "", factors.astype(np.float32)
    for path, array in named_arrays(weights.text, "text"):
        if not (c.tie_embeddings and path == "text.output"):
            yield gguf_name(path), path, to_gguf_layout(path, array)


def write_gguf(file: Path | str, weights: Scout, config: ScoutConfig, dtype: str = "float32") -> None:
    """Write the text model as GGUF.

    weights of floats; dtype of GGUF_TYPES for every matrix except the router's: "int8" is Q8_0 and "int4" is Q4_0, each
    in groups of 32 inputs.  One tensor is in memory at a time.
    Raises ValueError for a model that llama.cpp does not support, and OSError.
    """
    step = check_supported(config.text)
    tensors = list(iter_tensors(weights, config))
    writer = gguf.GGUFWriter(Path(file), "llama4")
    write_sizes(writer, config.text, step)
    for name, path, array in tensors:
        kind = gguf_type(path, array.shape, dtype)
        shape = gguf.quant_shape_to_byte_shape(array.shape, kind)
        writer.add_tensor_info(name, shape, np.dtype(np.uint8), int(np.prod(shape)), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, path, array in track(tensors, f"Writing {dtype} for llama.cpp"):
        kind = gguf_type(path, array.shape, dtype)
        rows = np.ascontiguousarray(array, np.float32)
        writer.write_tensor_data(gguf.quantize(rows, kind).view(np.uint8))
    writer.close()
