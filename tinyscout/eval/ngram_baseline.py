"""Baselines without a neural network: text compressors, and an n-gram model that predicts a byte from the last four."""
import gzip
import lzma

import numpy as np

MAX_ORDER = 5           # bytes of the longest n-gram: the byte to predict and four before it


class NgramModel:
    """Counts of every run of 1 .. MAX_ORDER bytes, with Witten-Bell smoothing, equation (witten-bell)."""

    def __init__(self, text):
        """Count the n-grams of text, bytes."""
        data = np.frombuffer(text, np.uint8).astype(np.int64)
        self.tables = []
        for order in range(1, MAX_ORDER + 1):
            grams, counts = np.unique(pack_ngrams(data, order), return_counts=True)
            contexts, first = np.unique(grams >> 8, return_index=True)
            totals = np.add.reduceat(counts, first)
            n_kinds = np.diff(np.append(first, len(grams)))             # number of different bytes after a context
            self.tables.append((grams, counts, contexts, totals, n_kinds))

    def bits_per_byte(self, text):
        """The cross-entropy of a text in bits per byte, each byte given the four before it.  text bytes  ->  float"""
        data = np.concatenate([np.zeros(MAX_ORDER - 1, np.int64), np.frombuffer(text, np.uint8).astype(np.int64)])
        probs = np.full(len(data) - MAX_ORDER + 1, 1 / 256)
        for order, (grams, counts, contexts, totals, n_kinds) in enumerate(self.tables, 1):
            ngrams = pack_ngrams(data[MAX_ORDER - order:], order)
            count = lookup(ngrams, grams, counts)
            total, kinds = (lookup(ngrams >> 8, contexts, values) for values in (totals, n_kinds))
            probs = np.where(total > 0, (count + kinds * probs) / np.maximum(total + kinds, 1), probs)
        return float(-np.log2(probs).mean())


def pack_ngrams(data, order):
    """Pack each run of `order` bytes into one number, with the first byte as the most significant."""
    n = len(data) - order + 1
    return sum(data[i:i + n] << 8 * (order - 1 - i) for i in range(order))


def lookup(wanted, keys, values):
    """Look up the value of each wanted key in sorted keys; 0 if it is missing."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def compressor_bits_per_byte(text):
    """Bits per byte of two compressors, without training.  text bytes  ->  {"gzip": float, "xz": float}"""
    sizes = {"gzip": len(gzip.compress(text, 9)), "xz": len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))}
    return {name: 8 * size / len(text) for name, size in sizes.items()}
