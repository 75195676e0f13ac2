"""The keys and values of the tokens so far: a chunked layer keeps its current chunk, a global layer keeps all."""
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np

from tinyscout.reference import QuantizedRows, quantize_rows, take

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BITS = {"int8": 8, "int4": 4}
KV_DTYPES = ("float32", "bfloat16", *BITS)


class LayerCache:
    """One layer's keys and values, at consecutive positions from `start` on, in buffers with room to grow.

    kv_dtype is their format: "float32" (as they are computed), "bfloat16", or "int8" or "int4" as QuantizedRows.
    """

    def __init__(self, chunk_size=None, kv_dtype="float32"):
        self.chunk_size = chunk_size
        self.kv_dtype = kv_dtype
        self.start = 0                              # position of slot 0
        self.keys: Any = None                       # (B, capacity, K, d), an array or QuantizedRows
        self.values: Any = None

    def append(self, length, k, v):
        """Append keys and values after the first `length` positions, and return all of them.

        k and v (B, T, K, d)  ->  keys, values (B, S, K, d) in the kv_dtype, and the position of the first
        """
        B, T, K, d = k.shape
        self.reserve(length, T, B, K, d, k.dtype, k)
        new, visible = np.s_[:, length - self.start:length - self.start + T], np.s_[:, :length - self.start + T]
        for buffer, x in (self.keys, k), (self.values, v):
            for stored, added in zip(_arrays(buffer), _arrays(self.to_storage(x)), strict=True):
                stored[new] = added
        return take(self.keys, visible), take(self.values, visible), self.start

    def reserve(self, length, T, B, K, d, dtype=np.float32, like=None):
        """Make room in `keys` and `values` for T more tokens after the first `length` positions.

        A kernel may then write to the slots from length - start on.  dtype: of the buffers if kv_dtype is "float32";
        like: an array of the library that allocates them, NumPy or a GPU's
        """
        held = length - self.start
        stop = held + T
        if self.keys is None:
            self.keys, self.values = (self.to_storage(np.empty((B, 0, K, d), dtype, like=like)) for _ in range(2))
        if stop > self.keys.shape[1]:
            capacity = max(stop, 2 * held if self.chunk_size is None else min(2 * held, self.chunk_size))
            self.keys, self.values = (_reallocate(a, 0, held, capacity) for a in (self.keys, self.values))

    def to_storage(self, x):
        """Convert keys or values (B, T, K, d) to the kv_dtype."""
        if self.kv_dtype in BITS:
            return quantize_rows(x, BITS[self.kv_dtype], BFLOAT16)
        return x if self.kv_dtype == "float32" else x.astype(BFLOAT16)

    def trim(self, length):
        """Drop the slots that no later token can see: those of chunks before that of position `length`."""
        start = 0 if self.chunk_size is None else length // self.chunk_size * self.chunk_size
        if start > self.start:
            low, high = start - self.start, length - self.start
            self.keys, self.values = (_reallocate(a, low, high, high - low) for a in (self.keys, self.values))
            self.start = start

    @property
    def nbytes(self):
        """Bytes of its keys and values, including unused slots."""
        return 0 if self.keys is None else self.keys.nbytes + self.values.nbytes


def _reallocate(old, low, high, capacity):
    """Return a new buffer (B, capacity, K, d) that begins with slots low to high of the old one."""
    if isinstance(old, QuantizedRows):
        return QuantizedRows(*(_reallocate(array, low, high, capacity) for array in old))
    new = np.empty_like(old, shape=(old.shape[0], capacity, *old.shape[2:]))
    new[:, :high - low] = old[:, low:high]
    return new


def _arrays(buffer):
    """The arrays that a buffer consists of."""
    return buffer if isinstance(buffer, QuantizedRows) else (buffer,)


class Cache:
    """The state of a model between calls: the keys and values of all layers.

    `length` is the number of cached tokens.  `features` are image vectors whose patch tokens have not been read yet.
    kv_dtype, one of KV_DTYPES, is the format of keys and values.  int8 and int4 apply to the global layers, whose
    memory grows without bound; chunked layers then use bfloat16.  Raises ValueError for another kv_dtype, or if
    head_dim does not divide into groups.

    `backend_state` is private data of the backend for one model and this cache (tinyscout.kernels.Backend).
    """

    def __init__(self, config, kv_dtype="float32"):
        if kv_dtype not in KV_DTYPES:
            raise ValueError(f"keys and values cannot be kept as {kv_dtype!r}: choose from {', '.join(KV_DTYPES)}")
        if kv_dtype in BITS:
            quantize_rows(np.zeros((1, config.head_dim), np.float32), BITS[kv_dtype])       # checks the head_dim
        self.length = 0
        self.features = None                        # (N, D) or None
        self.backend_state: Any = None
        self.layers = [LayerCache(config.chunk_size, "bfloat16" if kv_dtype in BITS else kv_dtype) if layer.chunked
                       else LayerCache(None, kv_dtype) for layer in config.layers]

    def advance(self, T):
        """Count T more tokens, after every layer has stored them."""
        self.length += T

    @contextmanager
    def transaction(self):
        """`with cache.transaction():` around one call of the model restores the cache if the call fails.

        Restoring two values is enough: slots after `length` are never read, only overwritten, and chunks that ended
        during the call are dropped only when it has succeeded.
        """
        saved = self.length, self.features
        try:
            yield self
        except BaseException:
            self.length, self.features = saved
            raise
        for layer in self.layers:
            layer.trim(self.length)

    @property
    def nbytes(self):
        """Bytes of all keys and values, including unused slots."""
        return sum(layer.nbytes for layer in self.layers)
