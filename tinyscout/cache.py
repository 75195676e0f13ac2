"""The keys and values of the tokens so far: a chunked layer keeps its current chunk, a global layer keeps all."""
from contextlib import contextmanager
from typing import Any

import numpy as np


class LayerCache:
    """One layer's keys and values, at consecutive positions from `first` on, in buffers with room to grow."""

    def __init__(self, chunk=None):
        self.chunk = chunk
        self.first = 0                              # position of slot 0
        self.keys: Any = None                       # (B, capacity, K, d)
        self.values: Any = None

    def extend(self, length, k, v):
        """Put new keys and values behind the `length` tokens there are.

        k and v (B, T, K, d)  ->  keys, values (B, S, K, d) and the position of the first of them

        What no new token can see, the chunks before that of position `length`, is forgotten here and not
        before: the same call can then be made again, should this one fail further up.
        """
        first = 0 if self.chunk is None else length // self.chunk * self.chunk
        held = length - first
        stop = held + k.shape[1]
        if self.keys is None or first > self.first or stop > self.keys.shape[1]:
            room = max(stop, 2 * held if self.chunk is None else min(2 * held, self.chunk))
            kept = slice(first - self.first, length - self.first)
            keys, values = _moved(self.keys, kept, k, room), _moved(self.values, kept, v, room)
            self.keys, self.values, self.first = keys, values, first
        self.keys[:, held:stop] = k
        self.values[:, held:stop] = v
        return self.keys[:, :stop], self.values[:, :stop], first

    def nbytes(self):
        return 0 if self.keys is None else self.keys.nbytes + self.values.nbytes


def _moved(old, kept, new, room):
    """A buffer for arrays like `new` (B, T, K, d) with `room` slots, beginning with the kept slots of the old one."""
    buffer = np.empty_like(new, shape=(new.shape[0], room, *new.shape[2:]))
    if old is not None:
        buffer[:, :kept.stop - kept.start] = old[:, kept]
    return buffer


class Cache:
    """What a model remembers between calls.

    `length` counts the tokens that are in.  `features` are image vectors whose patch tokens are still to come.
    """

    def __init__(self, config):
        self.length = 0
        self.features = None                        # (N, D) or None
        self.layers = [LayerCache(config.chunk if layer.chunked else None) for layer in config.layers]

    def advance(self, T):
        """T more tokens are in: every layer has taken them."""
        self.length += T

    @contextmanager
    def all_or_nothing(self):
        """`with cache.all_or_nothing():` around one call of the model: where it fails, the cache is as it was.

        Two values are enough, since what stands in the layers behind `length` is never read, only overwritten.
        """
        before = self.length, self.features
        try:
            yield self
        except BaseException:
            self.length, self.features = before
            raise

    @property
    def nbytes(self):
        """Bytes of all keys and values, spare room included."""
        return sum(layer.nbytes() for layer in self.layers)
