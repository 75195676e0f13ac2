"""Instructions and memory accesses of the numbered CUDA kernels, for docs/cuda_linear.md and cuda_attention.md.

python docs/benchmarks/cuda_counts.py counts them in the simulator and writes {kernel: {counter: count}} to
cuda-counts.json beside it.  It takes a minute or two.
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
COUNTERS = ("instructions", "requests", "sectors", "ideal_sectors", "wavefronts", "ideal_wavefronts")


def profile_launch(file, name, launch, *arguments):
    """Launch a kernel on the simulator  ->  {"file.cu:line": LineCounts}"""
    function, profile = kernel(file, name), Profile()
    run(function.ptx, name, *launch, convert_arguments(name, function.types, arguments), profile=profile)
    return profile.lines


def random_array(is_bf16, *shape):
    """Normal numbers as float32, or as the bits of bfloat16."""
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return (x.view(np.uint32) >> 16).astype(np.uint16) if is_bf16 else x


def profile_linear(step):
    is_bf16 = step == 3
    x, w = random_array(is_bf16, N, N), random_array(is_bf16, N, N)
    out = np.zeros((N, N), np.uint16 if is_bf16 else np.float32)
    launch, strides = getattr(versions, f"linear_{step}_launch")(N, N), [] if is_bf16 else [N, 1]
    return profile_launch(f"linear_{step}.cu", f"linear_{step}", launch, out, x, w, None, N, N, N, *strides)


def profile_attention(step):
    is_bf16, name = step == 3, f"grouped_query_attention_{step}"
    q, k, v = (random_array(is_bf16, 1, N, heads, D) for heads in (H, K, K))
    launch = (versions.attention_1_launch(1, N, H), matrix.attention_2_launch(1, N, H, K, D),
              versions.attention_3_launch(1, N, H, K, D))[step - 1]
    out, name = np.zeros_like(q), name + (f"_{D}" if is_bf16 else "")
    return profile_launch(f"attention_{step}.cu", name, launch, out, q, k, v, True, 0, 0, 1, N, N, H, K, D)


def total_counts(lines):
    return {counter: sum(getattr(counts, counter) for counts in lines.values()) for counter in COUNTERS}


def max_registers(file):
    """The most registers of a thread that a kernel of a file needs."""
    return max(registers for registers, _ in nvrtc.resource_usage(nvrtc.SOURCE_DIR / file, "sm_90").values())


PROFILES = {"linear": profile_linear, "attention": profile_attention}

if __name__ == "__main__":
    table = {f"{name}_{step}": total_counts(profile(step)) | {"registers": max_registers(f"{name}_{step}.cu")}
             for name, profile in PROFILES.items() for step in (1, 2, 3)}
    FILE.write_text(json.dumps(table, indent=1) + "\n")
