"""The engines that are compared: tinyscout's backends, transformers and llama.cpp, with one interface.

reset(phase) begins a new text, to measure its "prefill" or "decode"; feed(tokens) returns the logits of the next
token; close() frees the memory.
"""
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyscout.bench.sizes import convert_weights
from tinyscout.checkpoint import to_hf_layout
from tinyscout.checkpoint.config_json import config_to_hf
from tinyscout.inference.generate import PREFILL_CHUNK
from tinyscout.model import get_backend
from tinyscout.nn import scout
from tinyscout.nn.cache import Cache
from tinyscout.nn.text import text_model

EXTERNAL_ENGINES = ("transformers", "llama.cpp")
GROUPS = {          # engines that are compared with each other: the same weights in the same number of bits
    "float32": ("numpy", "c", "transformers", "llama.cpp"),
    "bfloat16": ("c", "transformers", "llama.cpp"),
    "int8": ("c", "llama.cpp"),
    "int4": ("c", "llama.cpp"),
}
KV_OF_GROUP = {         # the dtype of tinyscout's cache
    "float32": "float32", "bfloat16": "bfloat16", "int8": "bfloat16", "int4": "bfloat16",
}
ATTENTION = {"float32": "eager", "bfloat16": "sdpa"}    # of transformers


class TinyscoutEngine:
    """A backend of tinyscout, called in the same way as in `generate`."""

    def __init__(self, model, kv_dtype="float32"):
        self.model, self.kv_dtype, self.cache = model, kv_dtype, None

    def reset(self, phase):
        self.cache = Cache(self.model.config.text, self.kv_dtype)

    def feed(self, tokens):
        """Feed tokens  ->  logits of the next token (V,)"""
        m = self.model
        for n in range(0, len(tokens), PREFILL_CHUNK):
            x = scout.embed_inputs(tokens[n:n + PREFILL_CHUNK], (), m.weights, m.config, self.cache, m.ops)
            hidden = text_model(x[None], m.weights.text, m.config.text, self.cache, m.ops)
        return np.asarray(m.ops.asnumpy(m.ops.linear(hidden[0, -1], m.weights.text.output)))

    def close(self):
        self.cache = None


class TransformersEngine:
    """transformers with the same weights in the same dtype."""

    def __init__(self, weights, config, dtype, threads, torch, transformers):
        torch.set_num_threads(threads)
        settings = transformers.Llama4TextConfig(**config_to_hf(config, dtype))
        settings._attn_implementation = ATTENTION[dtype]
        with torch.device("meta"):                  # no memory is allocated: the weights are assigned below
            net = transformers.Llama4ForCausalLM(settings)
        tensors = {name: to_torch(arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1), torch)
                   for name, arrays in to_hf_layout(weights, config).items()}
        net.load_state_dict(tensors, strict=True, assign=True)
        rotary = net.model.rotary_emb               # its table is not a weight: compute it on the CPU
        net.model.rotary_emb = type(rotary)(settings)
        self.net, self.torch, self.cache = net.eval(), torch, None
        self.new_cache = lambda: transformers.DynamicCache(config=settings)

    def reset(self, phase):
        self.cache = self.new_cache()

    def feed(self, tokens):
        with self.torch.inference_mode():
            ids = self.torch.from_numpy(np.asarray(tokens))[None]
            out = self.net(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1].float().numpy()

    def close(self):
        self.net = self.cache = None


def to_torch(array, torch):
    """Convert an array to a tensor.  torch does not support NumPy's bfloat16, so its bits are passed as integers."""
    if array.dtype.name != "bfloat16":
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)


def import_engine(name):
    """Import the modules of an external engine.  Raises ImportError or RuntimeError if they are missing or broken."""
    if name == "llama.cpp":
        import gguf  # noqa: F401
        import llama_cpp
        return (llama_cpp,)
    import torch
    import transformers
    transformers.Llama4ForCausalLM  # noqa: B018  transformers imports an attribute when it is first used
    transformers.logging.set_verbosity_error()
    return torch, transformers


def import_engines(names):
    """{external engine: its modules} of the installed ones, and a list of notes on the missing ones."""
    modules, notes = {}, []
    for name in names:
        try:
            modules[name] = import_engine(name)
        except (ImportError, RuntimeError, OSError) as error:
            notes.append(f"{name} is not available: {error}")
    return modules, notes


def make_engines(group, names, model, modules, threads, max_tokens, directory=None):
    """Make the engines of one group.

    group of GROUPS, names of engines, model Model in float32, modules {external engine: modules}, threads int,
    max_tokens of a text, directory for llama.cpp's file or None for the system's temporary one  ->  {name: engine}
    """
    weights, engines = convert_weights(model.weights, group), {}
    for name in names:
        if name == "llama.cpp":
            engines[name] = make_llama_cpp(group, model, modules[name], threads, max_tokens, directory)
        elif name == "transformers":
            engines[name] = TransformersEngine(weights, model.config, group, threads, *modules[name])
        else:
            engines[name] = TinyscoutEngine(replace(model, weights=weights, ops=get_backend(name)), KV_OF_GROUP[group])
    return engines


def make_llama_cpp(dtype, model, modules, threads, max_tokens, directory):
    """Write these weights to a GGUF file and open it with llama.cpp.  Closing the engine deletes the file."""
    from tinyscout.bench.llama import LlamaCppEngine
    from tinyscout.bench.to_gguf import write_gguf  # needs a package that may be missing

    scratch = tempfile.TemporaryDirectory(prefix="tinyscout-", dir=directory)
    try:
        file = Path(scratch.name) / f"{dtype}.gguf"
        write_gguf(file, model.weights, model.config, dtype)
        return LlamaCppEngine(file, threads, max_tokens, model.config.text.vocab_size, modules[0],
                              on_close=scratch.cleanup)
    except BaseException:
        scratch.cleanup()
        raise
