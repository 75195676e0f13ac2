"""Generation: prefill the prompt, then sample a token, feed it back, repeat."""
from collections.abc import Iterator, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np

from tinyscout import reference
from tinyscout.config import ScoutConfig
from tinyscout.inference.prefetch import iterate_with_progress
from tinyscout.nn import scout
from tinyscout.nn.cache import Cache
from tinyscout.nn.text import text_model
from tinyscout.nn.weights import Scout
from tinyscout.progress import Display

PREFILL_CHUNK = 512     # prompt tokens per call: bounds memory; with the cache, the result is the same


def generate(tokens: Sequence[int] | np.ndarray, images: Sequence[np.ndarray], w: Scout, config: ScoutConfig,
             ops: Any = reference, *, cache: Cache | None = None, kv_dtype: str = "float32", max_new_tokens: int = 256,
             temperature: float = 0.6, top_p: float | None = 0.9, top_k: int | None = None, seed: int | None = None,
             stop_ids: Sequence[int] | None = None) -> Iterator[int]:
    """Continue a prompt.  Arguments are checked immediately; each token is computed when it is requested.

    tokens (T,) int, images (tiles, C, h, w) each, w Scout, config ScoutConfig  ->  iterator of int

    temperature 0 is greedy; top_p in (0, 1] and top_k as in the reference; the same seed gives the same tokens.
    Ends after max_new_tokens or with a stop token (the config's unless given), which is yielded too.
    With a cache, the prompt continues the cached tokens; the last token yielded is not in the cache yet.
    Without one, a new cache has this kv_dtype: see `Cache`.
    Raises ValueError for invalid arguments.
    """
    tokens, images = scout.validate_tokens(tokens, config), scout.validate_images(images, config)
    _check_sampling(max_new_tokens, temperature, top_p, top_k, seed)
    cache = Cache(config.text, kv_dtype) if cache is None else cache
    scout.check_image_tokens(tokens, images, config, 0 if cache.features is None else len(cache.features))
    stop = set(config.stop_ids if stop_ids is None else stop_ids)
    sample = partial(reference.sample, temperature=temperature, k=top_k, p=top_p)
    return _generate(tokens, images, w, config, cache, ops, sample, np.random.default_rng(seed), max_new_tokens, stop)


def _generate(tokens, images, w, config, cache, ops, sample, rng, max_new_tokens, stop):
    """The loop: sample from the logits of the last token, yield, and feed the token back."""
    display = Display()
    hidden = _prefill(tokens, images, w, config, cache, ops, display)
    for n in range(max_new_tokens):
        logits = ops.asnumpy(ops.linear(hidden, w.text.output))
        token = sample(logits, rng.random())
        yield token
        if token in stop or n + 1 == max_new_tokens:
            return
        x = ops.embed(ops.asarray(np.array([token])), w.text.embedding)     # also if it is a patch token
        with cache.transaction():
            hidden = text_model(x[None], w.text, config.text, cache, ops, iterate_with_progress(display))[0, -1]


def _prefill(tokens, images, w, config, cache, ops, display):
    """Run the prompt in chunks  ->  hidden state of its last token (D,)."""
    chunks = [tokens[n:n + PREFILL_CHUNK] for n in range(0, len(tokens), PREFILL_CHUNK)]
    iterate = iterate_with_progress(display)
    for n, chunk in enumerate(display.track(chunks, "Reading the prompt")):
        with cache.transaction():
            x = scout.embed_inputs(chunk, images if n == 0 else (), w, config, cache, ops, iterate)
            hidden = text_model(x[None], w.text, config.text, cache, ops, iterate)
    return hidden[0, -1]


def _check_sampling(max_new_tokens, temperature, top_p, top_k, seed):
    for good, message in [
        (_is_int_from(max_new_tokens, 0), f"max_new_tokens must be a whole number from 0, not {max_new_tokens!r}"),
        (isinstance(temperature, Real) and 0 <= float(temperature) < float("inf"),
         f"temperature must be a number from 0, not {temperature!r}"),
        (top_p is None or (isinstance(top_p, Real) and 0 < float(top_p) <= 1),
         f"top_p must be above 0 and at most 1, not {top_p!r}"),
        (top_k is None or _is_int_from(top_k, 1), f"top_k must be a whole number from 1, not {top_k!r}"),
        (seed is None or _is_int_from(seed, 0), f"seed must be a whole number from 0, not {seed!r}"),
    ]:
        if not good:
            raise ValueError(message)


def _is_int_from(value, minimum):
    return isinstance(value, Integral) and value >= minimum
