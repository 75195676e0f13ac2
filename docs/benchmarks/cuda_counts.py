"""What the numbered CUDA kernels ask of a GPU, counted by the simulator, for docs/cuda_linear.md and cuda_attention.md.

python docs/benchmarks/cuda_counts.py writes cuda-counts.json beside it: {kernel: {what: how many}}.  A minute or two.
"""
import json
from pathlib import Path

import numpy as np

from tinyscout.kernels import nvrtc
from tinyscout.kernels.cuda import matrix, versions
from tinyscout.kernels.launch import convert_arguments, kernel
from tinyscout.simulator import Profile, run

FILE = Path(__file__).with_name("cuda-counts.json")
N = 128                                             # rows, inputs and outputs of the product; queries of attention
H, K, D = 2, 1, 64                                  # its heads, key heads and channels
WHAT = ("instructions", "requests", "sectors", "ideal_sectors", "wavefronts", "ideal_wavefronts")


def profiled(file, name, launch, *arguments):
    """A launch on the simulator  ->  {"file.cu:line": Counts}"""
    made, profile = kernel(file, name), Profile()
    run(made.ptx, name, *launch, convert_arguments(name, made.types, arguments), profile=profile)
    return profile.lines


def numbers(half, *shape):
    """Normal numbers, or as bits of bfloat16."""
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return (x.view(np.uint32) >> 16).astype(np.uint16) if half else x


def linear(step):
    half = step == 3
    x, w, out = numbers(half, N, N), numbers(half, N, N), np.zeros((N, N), np.uint16 if half else np.float32)
    launch = getattr(versions, f"linear_{step}_launch")(N, N)
    return profiled(f"linear_{step}.cu", f"linear_{step}", launch, out, x, w, None, N, N, N, *([] if half else [N, 1]))


def attention(step):
    half, name = step == 3, f"grouped_query_attention_{step}"
    q, k, v = (numbers(half, 1, N, heads, D) for heads in (H, K, K))
    launch = (versions.attention_1_launch(1, N, H), matrix.attention_2_launch(1, N, H, K, D),
              versions.attention_3_launch(1, N, H, K, D))[step - 1]
    return profiled(f"attention_{step}.cu", name + (f"_{D}" if half else ""), launch, np.zeros_like(q), q, k, v,
                    True, 0, 0, 1, N, N, H, K, D)


def total(lines):
    return {what: sum(getattr(counts, what) for counts in lines.values()) for what in WHAT}


def largest(file):
    """The registers that the hungriest kernel of a file needs for each thread."""
    return max(registers for registers, _ in nvrtc.resource_usage(nvrtc.SOURCE_DIR / file, "sm_90").values())


if __name__ == "__main__":
    found = {f"{of.__name__}_{step}": total(of(step)) | {"registers": largest(f"{of.__name__}_{step}.cu")}
             for of in (linear, attention) for step in (1, 2, 3)}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
