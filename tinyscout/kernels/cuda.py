"""The reference, with these names replaced by CUDA (csrc/cuda): on a GPU through CuPy, else in the simulator.

What a kernel was not made for is left to the reference, which computes it or says what is wrong: other types than
float32, arrays without elements, shapes that do not fit.  Beside each operation stands how it is launched.
"""
from tinyscout import reference
from tinyscout.kernels.device import asarray as asarray
from tinyscout.kernels.device import asnumpy as asnumpy
from tinyscout.kernels.device import beside, empty, f32
from tinyscout.kernels.guards import for_kernels, rows, shaped
from tinyscout.kernels.launch import Launch, ceil_div, kernel
from tinyscout.reference import *  # noqa: F403  what is not below is the reference itself

WARP, BLOCK = 32, 256


def rows_launch(N, D):
    """One block for each of N rows, and a thread for every four of D numbers, but not more than BLOCK."""
    return Launch((N,), (min(BLOCK, WARP * ceil_div(D, 4 * WARP)),))


def rms_norm(x, weight=None, eps=1e-5):
    if not (for_kernels(x) and (weight is None or shaped(weight, x.shape[-1]))):
        return reference.rms_norm(x, weight, eps)
    source, (x, weight) = x, f32(x, weight)
    out, (N, D) = empty(x.shape), rows(x)
    kernel("norm.cu", "rms_norm")(rows_launch(N, D), out, x, weight, eps, N, D)
    return beside(source, out)
