"""The dtypes of checkpoints: their codes in safetensors files, and those of the scales of quantized weights."""
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT_DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": BFLOAT16}     # {code: dtype}
DTYPES = {**FLOAT_DTYPES, "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
          "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8)}
DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}
SCALE_DTYPES = {32: BFLOAT16, 128: np.dtype(np.float32)}        # {inputs that share a scale: dtype of the scale}


def parse_dtype(dtype: DTypeLike, verb: str, *allowed: np.dtype) -> np.dtype:
    """A dtype or its name as a dtype.  Raises ValueError for one that is not allowed."""
    parsed: Any
    try:
        parsed = np.dtype(dtype)
    except TypeError:
        parsed = dtype
    if parsed not in allowed:
        raise ValueError(f"tinyscout cannot {verb} {parsed}: choose from {', '.join(d.name for d in allowed)}")
    return parsed
