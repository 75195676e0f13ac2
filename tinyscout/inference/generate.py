"""One token at a time: prefill the prompt, then sample, feed back, repeat."""
from numbers import Integral, Real

import numpy as np

from tinyscout import reference
from tinyscout.nn import scout
from tinyscout.nn.cache import Cache
from tinyscout.nn.text import text_model
from tinyscout.progress import track

PREFILL_CHUNK = 512           # tokens of the prompt at once: bounds memory, and the cache makes the result the same


def generate(tokens, images, w, config, ops=reference, *, cache=None, kv="float32", max_new_tokens=256,
             temperature=0.6, top_p=0.9, top_k=None, seed=None, stop_ids=None):
    """Continue a prompt.  The arguments are checked now, the tokens made as they are asked for.

    tokens (T,) int, images (tiles, C, h, w) each, w Scout, config ScoutConfig  ->  iterator of int

    temperature 0 is greedy; top_p in (0, 1] and top_k as in the reference; the same seed gives the same tokens.
    Ends after max_new_tokens or with a stop token (the config's unless given), which is yielded too.
    With a cache the prompt continues what the cache holds; the last token yielded is not in it yet.
    Without one, kv is how the new one keeps keys and values: see `Cache`.
    Raises ValueError.
    """
    tokens, images = scout.validate_tokens(tokens, config), scout.validate_images(images, config)
    _check_sampling(max_new_tokens, temperature, top_p, top_k, seed)
    cache = Cache(config.text, kv) if cache is None else cache
    scout.check_counts(tokens, images, config, 0 if cache.features is None else len(cache.features))
    stop = set(config.stop_ids if stop_ids is None else stop_ids)
    rng = np.random.default_rng(seed)

    def run():
        hidden = _prefill(tokens, images, w, config, cache, ops)
        for n in range(max_new_tokens):
            logits = ops.asnumpy(ops.linear(hidden, w.text.output))
            token = reference.sample(logits, rng.random(), temperature, top_k, top_p)
            yield token
            if token in stop or n + 1 == max_new_tokens:
                return
            x = ops.embed(ops.asarray(np.array([token])), w.text.embedding)    # also where it is a patch token
            with cache.transaction():
                hidden = text_model(x[None], w.text, config.text, cache, ops)[0, -1]

    return run()


def _prefill(tokens, images, w, config, cache, ops):
    """The prompt in pieces  ->  hidden state of its last token (D,)."""
    pieces = [tokens[n:n + PREFILL_CHUNK] for n in range(0, len(tokens), PREFILL_CHUNK)]
    for n, piece in enumerate(track(pieces, "Reading the prompt")):
        with cache.transaction():
            x = scout.embed_inputs(piece, images if n == 0 else (), w, config, cache, ops)
            hidden = text_model(x[None], w.text, config.text, cache, ops)
    return hidden[0, -1]


def _check_sampling(max_new_tokens, temperature, top_p, top_k, seed):
    for good, message in [
        (_whole(max_new_tokens, 0), f"max_new_tokens must be a whole number from 0, not {max_new_tokens!r}"),
        (isinstance(temperature, Real) and 0 <= float(temperature) < float("inf"),
         f"temperature must be a number from 0, not {temperature!r}"),
        (top_p is None or (isinstance(top_p, Real) and 0 < float(top_p) <= 1),
         f"top_p must be above 0 and at most 1, not {top_p!r}"),
        (top_k is None or _whole(top_k, 1), f"top_k must be a whole number from 1, not {top_k!r}"),
        (seed is None or _whole(seed, 0), f"seed must be a whole number from 0, not {seed!r}"),
    ]:
        if not good:
            raise ValueError(message)


def _whole(value, least):
    return isinstance(value, Integral) and value >= least
