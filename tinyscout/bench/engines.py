"""Who takes part: our backends, transformers and llama.cpp, each behind begin(what), read(tokens) and close()."""
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

PEERS = ("transformers", "llama.cpp")
GROUPS = {          # those who are compared with each other: the same weights, in the same number of bits
    "float32": ("numpy", "c", "transformers", "llama.cpp"),
    "bfloat16": ("c", "transformers", "llama.cpp"),
    "int8": ("c", "llama.cpp"),
    "int4": ("c", "llama.cpp"),
}
KV_OF_GROUP = {"float32": "float32", "bfloat16": "bfloat16", "int8": "bfloat16", "int4": "bfloat16"}     # of our cache
EAGER = {"float32": "eager", "bfloat16": "sdpa"}        # transformers' attention


class Ours:
    """A backend of tinyscout, driven as `generate` drives it."""

    def __init__(self, model, kv="float32"):
        self.model, self.kv, self.cache = model, kv, None

    def begin(self, what):
        self.cache = Cache(self.model.config.text, self.kv)

    def read(self, tokens):
        """Take tokens in  ->  scores of the next one (V,)"""
        m = self.model
        for n in range(0, len(tokens), PREFILL_CHUNK):
            x = scout.embed_inputs(tokens[n:n + PREFILL_CHUNK], (), m.weights, m.config, self.cache, m.ops)
            hidden = text_model(x[None], m.weights.text, m.config.text, self.cache, m.ops)
        return np.asarray(m.ops.asnumpy(m.ops.linear(hidden[0, -1], m.weights.text.output)))

    def close(self):
        self.cache = None


class Transformers:
    """transformers, holding the same weights in the same type."""

    def __init__(self, weights, config, form, threads, torch, transformers):
        torch.set_num_threads(threads)
        settings = transformers.Llama4TextConfig(**config_to_hf(config, form))
        settings._attn_implementation = EAGER[form]
        with torch.device("meta"):                  # no memory: the weights come next
            net = transformers.Llama4ForCausalLM(settings)
        tensors = {name: to_torch(arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1), torch)
                   for name, arrays in to_hf_layout(weights, config).items()}
        net.load_state_dict(tensors, strict=True, assign=True)
        rotary = net.model.rotary_emb               # its table is no weight: made again, off "meta"
        net.model.rotary_emb = type(rotary)(settings)
        self.net, self.torch, self.cache = net.eval(), torch, None
        self.new_cache = lambda: transformers.DynamicCache(config=settings)

    def begin(self, what):
        self.cache = self.new_cache()

    def read(self, tokens):
        with self.torch.inference_mode():
            ids = self.torch.from_numpy(np.asarray(tokens))[None]
            out = self.net(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1].float().numpy()

    def close(self):
        self.net = self.cache = None


def to_torch(array, torch):
    """torch knows no NumPy bfloat16: the bits go over as integers."""
    if array.dtype.name != "bfloat16":
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)


def peer_modules(name):
    """The modules that a peer needs.  Raises ImportError or RuntimeError where they are missing or broken."""
    if name == "llama.cpp":
        import gguf  # noqa: F401
        import llama_cpp
        return (llama_cpp,)
    import torch
    import transformers
    transformers.Llama4ForCausalLM  # noqa: B018  imported only when asked for
    transformers.logging.set_verbosity_error()
    return torch, transformers


def modules_and_notes(names):
    """{peer: its modules} of those that are here, and a list that says why the others are not."""
    found, notes = {}, []
    for name in names:
        try:
            found[name] = peer_modules(name)
        except (ImportError, RuntimeError, OSError) as error:
            notes.append(f"{name} is not here to compare with: {error}")
    return found, notes


def make_contenders(form, names, model, modules, threads, longest, directory=None):
    """Everybody of one group, ready to read.

    form of GROUPS, names of contenders, model Model in float32, modules {peer: modules}, threads int,
    longest int tokens, directory for llama.cpp's file or None for the usual one  ->  {name: contender}
    """
    weights, made = convert_weights(model.weights, form), {}
    for name in names:
        if name == "llama.cpp":
            made[name] = llama(form, model, modules[name], threads, longest, directory)
        elif name == "transformers":
            made[name] = Transformers(weights, model.config, form, threads, *modules[name])
        else:
            made[name] = Ours(replace(model, weights=weights, ops=get_backend(name)), KV_OF_GROUP[form])
    return made


def llama(form, model, modules, threads, longest, directory):
    """llama.cpp with a GGUF file of these weights.  It maps the file, so the file goes when the contender goes."""
    from tinyscout.bench.llama import Llama
    from tinyscout.bench.to_gguf import write_gguf  # which needs a package that may be missing

    scratch = tempfile.TemporaryDirectory(prefix="tinyscout-", dir=directory)
    try:
        file = Path(scratch.name) / f"{form}.gguf"
        write_gguf(file, model.weights, model.config, form)
        return Llama(file, threads, longest, model.config.text.vocab_size, modules[0], closing=scratch.cleanup)
    except BaseException:
        scratch.cleanup()
        raise
