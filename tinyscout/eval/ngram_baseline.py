"""What counting alone can do: text compressors, and a model that has counted which byte follows which four."""
import gzip
import lzma

import numpy as np

ORDER = 5               # bytes looked at together: the one to come and four before it


class NgramModel:
    """How often each run of 1 .. ORDER bytes came, with what is needed to smooth, equation (witten-bell)."""

    def __init__(self, text):
        """text bytes to count"""
        data = np.frombuffer(text, np.uint8).astype(np.int64)
        self.tables = []
        for order in range(1, ORDER + 1):
            grams, counts = np.unique(pack_ngrams(data, order), return_counts=True)
            contexts, first = np.unique(grams >> 8, return_index=True)
            totals = np.add.reduceat(counts, first)
            kinds = np.diff(np.append(first, len(grams)))                   # how many different bytes came there
            self.tables.append((grams, counts, contexts, totals, kinds))

    def bits_per_byte(self, text):
        """Bits a byte that a text costs, given the four bytes before each.  text bytes  ->  float"""
        data = np.concatenate([np.zeros(ORDER - 1, np.int64), np.frombuffer(text, np.uint8).astype(np.int64)])
        chance = np.full(len(data) - ORDER + 1, 1 / 256)
        for order, (grams, counts, contexts, totals, kinds) in enumerate(self.tables, 1):
            seen = pack_ngrams(data[ORDER - order:], order)
            n = lookup(seen, grams, counts)
            total, kind = (lookup(seen >> 8, contexts, values) for values in (totals, kinds))
            chance = np.where(total > 0, (n + kind * chance) / np.maximum(total + kind, 1), chance)
        return float(-np.log2(chance).mean())


def pack_ngrams(data, order):
    """Each run of `order` bytes as one number, the earliest byte highest."""
    n = len(data) - order + 1
    return sum(data[i:i + n] << 8 * (order - 1 - i) for i in range(order))


def lookup(wanted, keys, values):
    """values where keys are what is wanted, 0 where there is none; keys in order."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def compressor_bits_per_byte(text):
    """Bits a byte of two compressors, which learn while they read.  text bytes  ->  {"gzip": float, "xz": float}"""
    sizes = {"gzip": len(gzip.compress(text, 9)), "xz": len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))}
    return {name: 8 * size / len(text) for name, size in sizes.items()}
