"""The keys and values of the tokens so far: a chunked layer keeps its current chunk, a global layer keeps all."""
import numpy as np


class LayerCache:
    """One layer's keys and values, at consecutive positions from `first` on, in buffers with room to grow."""

    def __init__(self, chunk=None):
        self.chunk = chunk
        self.first = 0                              # position of slot 0
        self.keys = self.values = None              # (B, capacity, K, d)

    def extend(self, length, k, v):
        """Put new keys and values behind the `length` tokens there are.

        k and v (B, T, K, d)  ->  keys, values (B, S, K, d) and the position of the first of them
        """
        held = length - self.first
        stop = held + k.shape[1]
        if self.keys is None:
            self.keys, self.values = np.empty_like(k), np.empty_like(v)
        if stop > self.keys.shape[1]:
            self.keys, self.values = (_moved(a, 0, held, max(stop, 2 * held)) for a in (self.keys, self.values))
        self.keys[:, held:stop] = k
        self.values[:, held:stop] = v
        return self.keys[:, :stop], self.values[:, :stop], self.first

    def trim(self, length):
        """Forget what no later token can see: chunks before the one that position `length` lies in."""
        if self.chunk is None:
            return
        start = length // self.chunk * self.chunk
        if start > self.first:
            low, high = start - self.first, length - self.first
            room = min(self.chunk, self.keys.shape[1])
            self.keys, self.values = (_moved(a, low, high, room) for a in (self.keys, self.values))
            self.first = start

    def nbytes(self):
        return 0 if self.keys is None else self.keys.nbytes + self.values.nbytes


def _moved(a, low, high, capacity):
    """Slots low to high of a buffer, at the start of a new one with room for `capacity`."""
    b = np.empty_like(a, shape=(a.shape[0], capacity, *a.shape[2:]))
    b[:, :high - low] = a[:, low:high]
    return b


class Cache:
    """What a model remembers between calls.

    `length` counts the tokens that are in, and moves only when every layer has taken them: a call that
    fails half-way leaves the cache as it was.  `features` are image vectors whose patch tokens are still to come.
    """

    def __init__(self, config):
        self.length = 0
        self.features = None                        # (N, D) or None
        self.layers = [LayerCache(config.chunk if layer.chunked else None) for layer in config.layers]

    def advance(self, T):
        """T more tokens are in."""
        self.length += T
        for layer in self.layers:
            layer.trim(self.length)

    @property
    def nbytes(self):
        """Bytes of all keys and values, spare room included."""
        return sum(layer.nbytes() for layer in self.layers)
