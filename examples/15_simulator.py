"""
A GPU from the inside
=====================

A CUDA kernel, compiled by NVIDIA's compiler and executed in NumPy: which lanes are active, and how much memory moves.
"""
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tinyscout.kernels import nvrtc
from tinyscout.simulator import Profile, run


def count_lines(text, *arguments, threads=32):
    """Run the kernel k of a source text in one block  ->  {line: its counts}"""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "k.cu")
        path.write_text('extern "C" __global__ void k(' + text)
        profile = Profile()
        run(nvrtc.compile_ptx(path), "k", (1,), (threads,), 0, arguments, profile=profile)
    return {int(location.rpartition(":")[2]): counts for location, counts in profile.lines.items()}


# %%
# Idle lanes
# ----------
# The loops of the 32 threads differ in length.  A warp continues until its last lane is done; the others wait.

LOOP = """int *out, const int *rounds) {
    int x = threadIdx.x, n = rounds[threadIdx.x];
    #pragma unroll 1
    for (int i = 0; i < n; i++)
        x = 3 * x + 1;
    out[threadIdx.x] = x; }"""

# sphinx_gallery_capture_repr_block = ()
figure, axis = plt.subplots(figsize=(7.5, 3), num="Active lanes in three loops of a warp")
lengths = {"all 16": np.full(32, 16), "from 1 to 32": np.arange(1, 33),
           "one of 32, the others 1": np.r_[32, [1] * 31]}
for n, rounds in enumerate(lengths.values()):
    counts = count_lines(LOOP, np.zeros(32, np.int32), rounds.astype(np.int32))[5]
    axis.barh(n, counts.lanes / counts.instructions, color=plt.get_cmap("viridis")(0.2 + 0.3 * n))
axis.set(yticks=range(3), yticklabels=lengths, xlim=(0, 32), xlabel="active lanes in the loop, of 32")
axis.invert_yaxis()
plt.show()

# %%
# Access patterns
# ---------------
# Global memory moves 32 bytes at a time, however few of them are needed: the further apart 32 reads are, the more they
# cost.  Shared memory has 32 banks, and two different words of one bank are read one after the other: the cost is the
# greatest common divisor of the distance and 32.

GLOBAL = "const float *x, float *out, int step) {\n float y = x[threadIdx.x * step];\n out[threadIdx.x] = y; }"
SHARED = ("float *out, int step) {\n __shared__ float tile[1120];\n"
          " for (int i = threadIdx.x; i < 1120; i += 32) tile[i] = i;\n __syncwarp();\n"
          " float y = tile[threadIdx.x * step];\n out[threadIdx.x] = y; }")
x, out, steps = np.zeros(32 * 35, np.float32), np.zeros(32, np.float32), range(1, 36)
figure, (global_axis, shared_axis) = plt.subplots(1, 2, figsize=(9, 3), num="The cost of the distance between lanes")
global_axis.bar(steps, [count_lines(GLOBAL, x, out, np.int32(step))[2].sectors for step in steps], color="#3b7dd8")
shared_axis.bar(steps, [count_lines(SHARED, out, np.int32(step))[5].wavefronts for step in steps], color="#d8873b")
global_axis.set(xlabel="elements from one lane to the next", ylabel="sectors of 32 bytes", title="global memory")
shared_axis.set(xlabel="elements from one lane to the next", ylabel="passes over the banks", title="shared memory")
plt.show()
