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
        """
        held = length - self.first
        stop = held + k.shape[1]
        if self.keys is None:
            self.keys, self.values = np.empty_like(k), np.empty_like(v)
        if stop > self.keys.shape[1]:
            room = max(stop, 2 * held if self.chunk is None else min(2 * held, self.chunk))
            self.keys, self.values = (_moved(a, 0, held, room) for a in (self.keys, self.values))
        self.keys[:, held:stop] = k
        self.values[:, held:stop] = v
        return self.keys[:, :stop], self.values[:, :stop], self.first

    def trim(self, length):
        """Forget what no later token can see: the chunks before the one that position `length` lies in."""
        start = 0 if self.chunk is None else length // self.chunk * self.chunk
        if start > self.first:
            low, high = start - self.first, length - self.first
            self.keys, self.values = (_moved(a, low, high, high - low) for a in (self.keys, self.values))
            self.first = start

    def nbytes(self):
        return 0 if self.keys is None else self.keys.nbytes + self.values.nbytes


def _moved(old, low, high, room):
    """Slots low to high of a buffer (B, capacity, K, d), at the start of a new one with `room` slots."""
    new = np.empty_like(old, shape=(old.shape[0], room, *old.shape[2:]))
    new[:, :high - low] = old[:, low:high]
    return new


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

        Two values are enough, since what stands in the layers behind `length` is never read, only overwritten,
        and the chunks that ended meanwhile are forgotten only when the call has come through.
        """
        before = self.length, self.features
        try:
            yield self
        except BaseException:
            self.length, self.features = before
            raise
        for layer in self.layers:
            layer.trim(self.length)

    @property
    def nbytes(self):
        """Bytes of all keys and values, spare room included."""
        return sum(layer.nbytes() for layer in self.layers)
