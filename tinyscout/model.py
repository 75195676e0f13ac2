"""What a user holds: a config, weights, a tokenizer and a backend; and how it is loaded and saved."""
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tinyscout.checkpoint import load_config, load_weights, save_checkpoint
from tinyscout.config import ScoutConfig
from tinyscout.inference.generate import generate
from tinyscout.inputs.tokenizer import Tokenizer
from tinyscout.nn import scout
from tinyscout.nn.cache import Cache
from tinyscout.nn.weights import Scout, init_weights, tree_map
from tinyscout.reference import Quantized

BACKENDS = {"numpy": "tinyscout.reference", "c": "tinyscout.kernels.c", "cuda": "tinyscout.kernels.cuda"}
BUNDLED_MODEL = Path(__file__).parent / "scout-mini"      # trained by this package: docs/training.md


def get_backend(backend):
    """The module of operations behind a name; a module (your own overlay, say) is taken as it is.

    backend str or module  ->  module.  Raises ValueError for an unknown name, RuntimeError for one not built.
    What a backend has to say of this machine goes to stderr.
    """
    if isinstance(backend, ModuleType):
        return backend
    if backend not in BACKENDS:
        raise ValueError(f"no backend {backend!r}: choose from {', '.join(BACKENDS)}")
    try:
        ops = importlib.import_module(BACKENDS[backend])
    except ImportError as error:
        raise RuntimeError(f"backend {backend!r} is not built here ({error}): reinstall tinyscout on a machine with "
                           f"a compiler, or use 'numpy'") from None
    if note := getattr(ops, "note", None):
        print(f"tinyscout: {note}", file=sys.stderr)
    return ops


def map_arrays(weights, move):
    """A tree of weights with every array moved by ops.asarray to where a backend computes, or by ops.asnumpy back."""
    return tree_map(lambda w: Quantized(*map(move, w)) if isinstance(w, Quantized) else move(w), weights)


@dataclass(frozen=True)
class Model:
    """A whole Llama 4.  `ops` is the module that computes it: tinyscout.reference or another backend."""

    config: ScoutConfig
    weights: Scout
    tokenizer: Tokenizer | None
    ops: Any

    def new_cache(self, kv="float32"):
        """An empty memory, to be handed to `logits` or `generate` call after call.

        kv "float32", "bfloat16", "int8" or "int4": how keys and values are kept, the last two in the global layers
        """
        return Cache(self.config.text, kv)

    def logits(self, tokens, images=(), cache=None):
        """Scores of the next token at every token.

        tokens (T,) ids with the patch tokens in place, images (tiles, 3, h, w) arrays in order  ->  (T, V) float32

        With a cache the tokens continue what it holds, and images may be given before their patch tokens come.
        Raises ValueError for ids outside the vocabulary or patch tokens that do not match the images.
        """
        y = scout.forward(tokens, images, self.weights, self.config, cache, self.ops)
        return np.asarray(self.ops.asnumpy(y), np.float32)

    def generate(self, tokens, images=(), **options):
        """Token ids that continue the prompt, one by one: see `tinyscout.inference.generate.generate` for the options.

        max_new_tokens=256, temperature=0.6, top_p=0.9, top_k=None, seed=None, stop_ids=None, cache=None,
        kv="float32"
        """
        return generate(tokens, images, self.weights, self.config, self.ops, **options)


def load(path=None, backend="numpy", dtype=None):
    """Open a Llama 4 checkpoint directory in Hugging Face's layout.

    path, or None for the small model that is part of this package, backend "numpy", "c", "cuda" or a module, dtype
    None to compute from the files as they are (memory-mapped, widened where used) or such as "float32" to convert
    now (more memory, faster tokens)  ->  Model
    Raises FileNotFoundError, ValueError, RuntimeError for a backend that is not there, or MemoryError.
    """
    path, ops = BUNDLED_MODEL if path is None else Path(path).expanduser(), get_backend(backend)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a directory")
    config = load_config(path)
    weights = map_arrays(load_weights(path, config, dtype), ops.asarray)
    known = any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "original/tokenizer.model"))
    return Model(config, weights, Tokenizer.load(path) if known else None, ops)


def random_model(config, backend="numpy", seed=0, tokenizer=None):
    """A model with random weights: nothing to download, and every shape is real.  config ScoutConfig  ->  Model"""
    ops = get_backend(backend)
    return Model(config, map_arrays(init_weights(config, seed), ops.asarray), tokenizer, ops)


def save(model, path, dtype=None):
    """Write a checkpoint directory that `load` and transformers read.

    model Model, path, dtype None or such as "bfloat16".  Raises OSError; an older checkpoint there stays whole then.
    """
    write = model.tokenizer.save if model.tokenizer else lambda scratch: None
    weights = map_arrays(model.weights, model.ops.asnumpy)
    save_checkpoint(Path(path).expanduser(), weights, model.config, dtype, extra=write)
