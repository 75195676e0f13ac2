"""Quantization: store values as small integers, with one scale for each group of them."""
from typing import Any, NamedTuple

import numpy as np

COLUMNS, QUAD = 16, 4       # columns of a tile, one per lane of a vector register; adjacent inputs of a column
ROW_GROUP = 32              # channels of a key or value that share a scale
LEVELS = {4: 8, 8: 127}     # {bits: steps from zero to the largest magnitude of a group}
MIN_ABS_MAX = 1e-6          # lower bound on the largest magnitude of a group, so that zeros have a scale


class Quantized(NamedTuple):
    """A matrix (I, O), or E of them, as integers and scales, equation (quantized).

    values (..., O/16, I/4, 16, 4) int8, or (..., O/16, I/8, 16, 4) uint8 with two 4-bit integers in each
    scales (..., O/16, I/group, 16)

    A tile of 16 columns is contiguous, and in it four (or eight) inputs of a column are adjacent, so that one load
    feeds 16 products.  The group, 32 or 128 inputs, and the bits, 8 or 4, follow from the shapes and the dtype.
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

    @property
    def nbytes(self):
        return self.values.nbytes + self.scales.nbytes


class QuantizedRows(NamedTuple):
    """Keys or values (..., d) as integers and scales, each row separately, equation (quantized).

    values (..., d) int8, or (..., d/2) uint8 with two 4-bit integers in each; scales (..., d/group), group min(32, d)
    """

    values: Any
    scales: Any

    @property
    def bits(self):
        return 4 if self.values.dtype == np.uint8 else 8

    @property
    def shape(self):
        return (*self.values.shape[:-1], self.values.shape[-1] * 8 // self.bits)

    @property
    def group(self):
        return self.shape[-1] // self.scales.shape[-1]

    @property
    def nbytes(self):
        return self.values.nbytes + self.scales.nbytes


def round_to_groups(x, bits, scale_dtype):
    """Round groups of values, along the last axis, to integers and one scale each, equation (rounding).

    x (..., group), finite or ValueError  ->  integers (..., group) int8, scales (..., 1) in `scale_dtype`

    A scale that its dtype cannot represent is rounded up, so that the largest value of its group stays in range.
    """
    x = x.astype(np.float32, copy=False)
    abs_max = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(MIN_ABS_MAX))
    exact = abs_max / np.float32(LEVELS[bits])
    if not np.isfinite(exact).all():
        raise ValueError("only finite numbers can be quantized")
    scales = exact.astype(scale_dtype)
    scale_bits = scales.view(f"u{scales.itemsize}")
    scale_bits += scales.astype(np.float32) < exact      # the next larger positive float has the next bit pattern
    low, high = (-8, 7) if bits == 4 else (-127, 127)
    return np.clip(np.rint(x / scales.astype(np.float32)), low, high).astype(np.int8), scales


def quantize(w, bits=4, group=32, scale_dtype=np.float32):
    """Quantize a matrix: each `group` inputs of a column share a scale, equation (quantized).

    w (I, O) or (E, I, O), bits 4 or 8, group of inputs, scale_dtype of floats  ->  Quantized

    With 4 bits, group 128 and float32 scales, the integers and scales are bit-identical to Meta's.
    Raises ValueError if O is not a multiple of 16, I is not a multiple of the group, or w is not finite.
    """
    *E, I, O = w.shape
    if bits not in LEVELS or group % 8 or O % COLUMNS or I % group:
        raise ValueError(f"a matrix of {I} x {O} cannot be cut into tiles of {COLUMNS} columns and groups of {group} "
                         f"inputs of {bits} bits")
    tiles = np.moveaxis(w.reshape(*E, I, O // COLUMNS, COLUMNS), -3, -1)                # (..., O/16, 16, I)
    integers, scales = round_to_groups(tiles.reshape(*tiles.shape[:-1], I // group, group), bits, scale_dtype)
    values = pack_int4(integers.reshape(tiles.shape)) if bits == 4 else integers
    values = values.reshape(*E, O // COLUMNS, COLUMNS, -1, QUAD).swapaxes(-3, -2)
    return Quantized(np.ascontiguousarray(values), np.ascontiguousarray(scales[..., 0].swapaxes(-1, -2)))


def quantize_rows(x, bits=8, scale_dtype=np.float32):
    """Quantize keys or values: each min(32, d) channels share a scale, equation (quantized).

    x (..., d), bits 4 or 8, scale_dtype of floats  ->  QuantizedRows.  Raises ValueError as `quantize` does.
    """
    d = x.shape[-1]
    group = min(ROW_GROUP, d)
    if bits not in LEVELS or d % group or (bits == 4 and d % 2):
        raise ValueError(f"rows of {d} channels cannot be cut into groups of {group} numbers of {bits} bits")
    integers, scales = round_to_groups(x.reshape(*x.shape[:-1], d // group, group), bits, scale_dtype)
    integers = integers.reshape(x.shape)
    return QuantizedRows(pack_int4(integers) if bits == 4 else integers, scales[..., 0])


def pack_int4(integers):
    """Pack two 4-bit integers into a byte, the first in the low half.

    integers (..., n) int8 from -8 to 7  ->  (..., n/2) uint8
    """
    nibbles = integers.view(np.uint8)
    return nibbles[..., 0::2] & 15 | nibbles[..., 1::2] << 4


def unpack_int4(values):
    """Unpack the two 4-bit integers of each byte, the low half first.

    values (..., n) uint8  ->  (..., 2 * n) int8 from -8 to 7
    """
    integers = np.stack([values << 4, values], axis=-1).view(np.int8) >> 4      # the arithmetic shift extends the sign
    return integers.reshape(*values.shape[:-1], -1)


def dequantize(w, dtype=np.float32):
    """Dequantize a matrix or rows: each integer times its scale, equation (quantized).

    w Quantized (..., I, O) or QuantizedRows (..., d)  ->  array of the same shape in `dtype`
    """
    integers = unpack_int4(w.values) if w.values.dtype == np.uint8 else w.values
    if isinstance(w, Quantized):                    # undo the tiles: (..., O/16, I/q, 16, q) -> (..., I, O)
        integers = np.moveaxis(integers, -4, -2).swapaxes(-1, -3).reshape(w.shape)
        scales = np.moveaxis(w.scales, -3, -2).reshape(*w.shape[:-2], -1, w.shape[-1])
        return integers * np.repeat(scales.astype(dtype), w.group, axis=-2)
    return integers * np.repeat(w.scales.astype(dtype), w.group, axis=-1)


def to_dense(w, dtype):
    """Convert a weight of any format to an array of `dtype`, dequantizing if necessary."""
    return dequantize(w, dtype) if isinstance(w, Quantized | QuantizedRows) else w.astype(dtype, copy=False)


def take(w, index):
    """Index a weight of any format along its leading axes: expert e of (E, I, O), or the keys of a few tokens."""
    return type(w)(*(a[index] for a in w)) if isinstance(w, Quantized | QuantizedRows) else w[index]
