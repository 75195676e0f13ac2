"""
One layer at full size
======================

A layer of Scout at its real width, 2.2 billion random weights in four bits, on the machine that built this page: the
time per token, the bytes that are read, and the roofline for both.
"""
import os
from dataclasses import replace
from itertools import cycle

import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np

from tinyscout.bench.machine import best_time, measure_roofline
from tinyscout.config import SCOUT, ScoutConfig
from tinyscout.kernels import c
from tinyscout.nn.cache import Cache
from tinyscout.nn.text import text_model
from tinyscout.nn.weights import build, named_arrays
from tinyscout.reference import Quantized, dequantize, linear, take

t = replace(SCOUT.text, layers=SCOUT.text.layers[:1], vocab_size=16)
if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 6e9:
    print("Less than 6 GB of memory: every width is an eighth of Scout's.")
    t = replace(t, dim=640, n_heads=5, n_kv_heads=1, hidden_dim=1024)
rng = np.random.default_rng(0)

# %%
# The integers and scales are drawn in the format of a file; the weights never exist in a larger one.


def leaf(path, shape):
    *E, I, O = (1, *shape)[-max(2, len(shape)):]
    if min(I, O) <= 16:                                                     # norms and router: not quantized
        return (np.ones(shape) if I == 1 else rng.standard_normal(shape) * I ** -0.5).astype(np.float32)
    values = np.frombuffer(rng.bytes(int(np.prod(shape)) // 2), np.uint8).reshape(*E, O // 16, I // 8, 16, 4)
    return Quantized(values, np.full((*E, O // 16, I // 32, 16), I ** -0.5 / 4.6, ml_dtypes.bfloat16))


w = build(ScoutConfig(t, None, bos_id=0, stop_ids=(1,), pad_id=2), leaf).text
read = sum(a.nbytes / (t.n_experts if ".experts." in path else 1) for path, a in named_arrays(w.blocks[0]))
cache, machine, n = Cache(t), measure_roofline(), len(SCOUT.text.layers)
tokens = cycle(rng.standard_normal((64, 1, 1, t.dim), dtype=np.float32))        # each chooses its expert
seconds, bandwidth = best_time(lambda: text_model(next(tokens), w, t, cache, c), 1), machine["read bytes per second"]
print(f"a token takes {1e3 * seconds:.2f} ms and reads {read / 1e6:.0f} MB: {read / seconds / 1e9:.1f} GB per second, "
      f"while reading alone reaches {bandwidth / 1e9:.1f}")
print(f"{n} such layers: {1 / (n * seconds):.1f} tokens/s, {bandwidth / (n * read):.1f} at the bandwidth limit")

# %%
# Under the roof
# --------------
# One matrix and batches of 1 to 256 rows.  With few rows, the rate follows the slope, where memory is the limit; with
# many, it reaches the flat part, the best rate measured in float32.  Four bits start further right, and products of
# bytes have a different roof.

experts = [take(w.blocks[0].feed_forward.experts.w_gate, e) for e in range(16)]     # together larger than any cache
plain, (I, O), peak = [dequantize(experts[0])], experts[0].shape, machine["operations per second"] / 1e9
plt.figure(figsize=(7.5, 3.6), num="Speed of one matrix product, under the roof of the machine")
for name, f, matrices in ("int4, C", c.linear, experts), ("float32, C", c.linear, plain), ("float32, NumPy", linear,
                                                                                           plain):
    rows, turn = {N: np.ones((N, I), np.float32) for N in (1, 2, 4, 8, 16, 64, 256)}, cycle(matrices)
    rate = [2e-9 * N * I * O / best_time(lambda x=x, f=f, turn=turn: f(x, next(turn)), 0.1) for N, x in rows.items()]
    plt.loglog([2 * N * I * O / (matrices[0].nbytes + 4 * N * (I + O)) for N in rows], rate, "o-", label=name)
    peak = max(peak, *rate) if matrices is plain else peak
plt.plot([0.3, peak / bandwidth * 1e9, 400], [0.3 * bandwidth / 1e9, peak, peak], color="0.5")
plt.gca().set(xlabel="operations per byte", ylabel="GFLOP/s")
plt.legend()
plt.show()
