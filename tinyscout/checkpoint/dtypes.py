"""The dtypes of checkpoints: their codes in safetensors files, and dtypes and shapes of quantized weights."""
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from tinyscout.reference.quantize import COLUMNS, QUAD

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT_DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": BFLOAT16}     # {code: dtype}
DTYPES = {**FLOAT_DTYPES, "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
          "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8)}
DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}
SCALE_DTYPES = {32: BFLOAT16, 128: np.dtype(np.float32)}        # {inputs that share a scale: dtype of the scale}


def quantized_shapes(shape: tuple[int, ...], bits: int, group: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of the values and of the scales of a `Quantized` matrix (I, O), or of E of them."""
    *E, I, O = shape
    tiles = (*E, O // COLUMNS)
    return (*tiles, I * bits // (8 * QUAD), COLUMNS, QUAD), (*tiles, I // group, COLUMNS)


def parse_dtype(dtype: DTypeLike, verb: str, *allowed: np.dtype) -> np.dtype:
    """Convert a dtype or its name to a dtype.  Raises ValueError if it is not allowed."""
    parsed: Any
    try:
        parsed = np.dtype(dtype)
    except TypeError:
        parsed = dtype
    if parsed not in allowed:
        raise ValueError(f"tinyscout cannot {verb} {parsed}: choose from {', '.join(d.name for d in allowed)}")
    return parsed
