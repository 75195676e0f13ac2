"""The user's interface: a Model has a config, weights, a tokenizer and a backend; `load` and `save` it."""
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tinyscout.checkpoint import load_config, load_weights, save_checkpoint
from tinyscout.config import ScoutConfig
from tinyscout.inference.generate import generate
from tinyscout.inference.prefetch import iterate_with_progress
from tinyscout.inputs.tokenizer import Tokenizer
from tinyscout.inputs.tokenizer_files import find_file
from tinyscout.nn import scout
from tinyscout.nn.cache import Cache
from tinyscout.nn.weights import Scout, init_weights, tree_map
from tinyscout.progress import Display
from tinyscout.reference import Quantized

BACKENDS = {"numpy": "tinyscout.reference", "c": "tinyscout.kernels.c", "cuda": "tinyscout.kernels.cuda"}
BUNDLED_MODEL = Path(__file__).parent / "scout-mini"        # trained by this package: docs/training.md


def get_backend(backend: str | ModuleType) -> ModuleType:
    """Return the backend module of that name.  A module (for example your own overlay) is returned unchanged.

    backend str or module  ->  module.  Raises ValueError for an unknown name, RuntimeError for one not built.
    A backend's note about this machine (`device_note`) goes to stderr.
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
    if note := getattr(ops, "device_note", None):
        print(f"tinyscout: {note}", file=sys.stderr)
    return ops


def map_arrays(weights: Any, move: Callable) -> Any:
    """Apply ops.asarray or ops.asnumpy to every array of a tree of weights: to a backend's device, or back."""
    return tree_map(lambda w: Quantized(*map(move, w)) if isinstance(w, Quantized) else move(w), weights)


@dataclass(frozen=True)
class Model:
    """A whole Llama 4.  `ops` is the backend module that it runs on: tinyscout.reference or another."""

    config: ScoutConfig
    weights: Scout
    tokenizer: Tokenizer | None
    ops: Any

    def new_cache(self, kv_dtype: str = "float32") -> Cache:
        """Return an empty cache that `logits` and `generate` fill call by call.

        kv_dtype "float32", "bfloat16", "int8" or "int4": dtype of the keys and values, the last two in global layers
        only
        """
        return Cache(self.config.text, kv_dtype)

    def logits(self, tokens: Sequence[int] | np.ndarray, images: Sequence[np.ndarray] = (),
               cache: Cache | None = None) -> np.ndarray:
        """Return the logits of the next token at every position.

        tokens (T,) ids with the patch tokens in place, images (tiles, 3, h, w) arrays in order  ->  (T, V) float32

        With a cache the tokens continue its text, and images may be passed in an earlier call than their patch tokens.
        Raises ValueError for ids outside the vocabulary or patch tokens that do not match the images.
        """
        iterate = iterate_with_progress(Display())
        y = scout.forward(tokens, images, self.weights, self.config, cache, self.ops, iterate)
        return np.asarray(self.ops.asnumpy(y), np.float32)

    def generate(self, tokens: Sequence[int] | np.ndarray, images: Sequence[np.ndarray] = (), *,
                 max_new_tokens: int = 256, temperature: float = 0.6, top_p: float | None = 0.9,
                 top_k: int | None = None, seed: int | None = None, stop_ids: Sequence[int] | None = None,
                 cache: Cache | None = None, kv_dtype: str = "float32") -> Iterator[int]:
        """Generate the token ids that continue the prompt, one by one.

        tokens (T,) ids, images (tiles, 3, h, w) each  ->  iterator of int

        temperature 0 is greedy; top_p in (0, 1] and top_k cut the distribution; the same seed gives the same tokens.
        Ends after max_new_tokens or with one of stop_ids (default: the config's), which is yielded too.  With a
        cache the prompt continues its text; without one, a new cache is made with kv_dtype.
        Raises ValueError for invalid arguments.
        """
        return generate(tokens, images, self.weights, self.config, self.ops, cache=cache, kv_dtype=kv_dtype,
                        max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed,
                        stop_ids=stop_ids)


def load(path: Path | str | None = None, backend: str | ModuleType = "numpy", dtype: str | None = None) -> Model:
    """Open a Llama 4 checkpoint directory in Hugging Face's layout.

    path, or None for the small model in this package, backend "numpy", "c", "cuda" or a module, dtype None to keep
    the dtype of the files (memory-mapped, converted on use) or for example "float32" to convert all weights now
    (more memory, faster decoding)  ->  Model
    Raises FileNotFoundError, ValueError, RuntimeError for a backend that is not built, or MemoryError.
    """
    path, ops = BUNDLED_MODEL if path is None else Path(path).expanduser(), get_backend(backend)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a directory")
    config = load_config(path)
    weights = map_arrays(load_weights(path, config, dtype), ops.asarray)
    return Model(config, weights, Tokenizer.load(path) if find_file(path) else None, ops)


def random_model(config: ScoutConfig, backend: str | ModuleType = "numpy", seed: int = 0,
                 tokenizer: Tokenizer | None = None) -> Model:
    """Return a model with random weights of the right shapes, without a download.  config ScoutConfig  ->  Model"""
    ops = get_backend(backend)
    return Model(config, map_arrays(init_weights(config, seed), ops.asarray), tokenizer, ops)


def save(model: Model, path: Path | str, dtype: str | None = None) -> None:
    """Write a checkpoint directory that `load` and transformers read.

    model Model, path, dtype None to keep the weights' own or for example "bfloat16".
    Raises OSError; an older checkpoint at that path is then unchanged.
    """
    write = model.tokenizer.save if model.tokenizer else lambda scratch: None
    weights = map_arrays(model.weights, model.ops.asnumpy)
    save_checkpoint(Path(path).expanduser(), weights, model.config, dtype, write_extra=write)
