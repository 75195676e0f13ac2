"""Few bits: numbers as small integers, and for every group of them one scale."""
from typing import Any, NamedTuple

import numpy as np

COLUMNS, QUAD = 16, 4       # a tile's columns, one per lane of a vector register; inputs that lie side by side in it


class Quantized(NamedTuple):
    """A matrix (I, O), or E of them, as integers and scales, equation (quantized).

    values (..., O/16, I/4, 16, 4) int8, or (..., O/16, I/8, 16, 4) uint8 with two 4-bit integers in each
    scales (..., O/16, I/group, 16)

    A tile of 16 columns lies together, and four (or eight) inputs of a column side by side in it: one load then
    feeds 16 products.  The group, 32 or 128 inputs, and the bits, 8 or 4, follow from the shapes.
    """

    values: Any
    scales: Any

    @property
    def bits(self):
        return 4 if self.values.dtype == np.uint8 else 8

    @property
    def shape(self):
        *E, tiles, quads, _, _ = self.values.shape
        return (*E, quads * QUAD * 8 // self.bits, tiles * COLUMNS)

    @property
    def group(self):
        return self.shape[-2] // self.scales.shape[-2]


class QuantizedRows(NamedTuple):
    """Keys or values (..., d) as integers and scales, each row on its own, equation (quantized).

    values (..., d) int8, or (..., d/2) uint8 with two 4-bit integers in each; scales (..., d/group), group min(32, d)
    """

    values: Any
    scales: Any


def nibbles(values):
    """Two 4-bit integers of each byte, the low half first.

    values (..., n) uint8  ->  (..., 2 * n) int8 from -8 to 7
    """
    pair = np.stack([values << 4, values], axis=-1).view(np.int8) >> 4          # the shift back repeats the sign
    return pair.reshape(*values.shape[:-1], -1)


def dequantize(w, dtype=np.float32):
    """The numbers that a quantized matrix or rows stand for: integer times scale, equation (quantized).

    w Quantized (..., I, O) or QuantizedRows (..., d)  ->  array of the same shape in `dtype`
    """
    integers = nibbles(w.values) if w.values.dtype == np.uint8 else w.values
    if isinstance(w, Quantized):                    # out of the tiles: (..., O/16, I/q, 16, q) -> (..., I, O)
        integers = np.moveaxis(integers, -4, -2).swapaxes(-1, -3).reshape(w.shape)
        scales = np.moveaxis(w.scales, -3, -2).reshape(*w.shape[:-2], -1, w.shape[-1])
        return integers * np.repeat(scales.astype(dtype), w.group, axis=-2)
    return integers * np.repeat(w.scales.astype(dtype), integers.shape[-1] // w.scales.shape[-1], axis=-1)


def dense(w, dtype):
    """Any form of a weight as plain numbers in `dtype`: a stored array is widened, a quantized one multiplied out."""
    return dequantize(w, dtype) if isinstance(w, Quantized | QuantizedRows) else w.astype(dtype, copy=False)
