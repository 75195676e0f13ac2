"""
One layer at full size
======================

A layer of Scout as wide as it really is, 2.2 billion random weights in four bits, on the machine that made this page:
the time of a token, the bytes it reads, and the roof above both.
"""
import os
from dataclasses import replace
from time import perf_counter

import matplotlib.pyplot as plt
import ml_dtypes
import numpy as np

from tinyscout.cache import Cache
from tinyscout.config import SCOUT, ScoutConfig
from tinyscout.kernels import c
from tinyscout.machine import best, limits
from tinyscout.reference import Quantized, dequantize, linear
from tinyscout.text import text_model
from tinyscout.weights import build, named

t = replace(SCOUT.text, layers=SCOUT.text.layers[:1], vocab_size=16)
if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 6e9:
    print("Less than 6 GB of memory: every width is an eighth of Scout's.")
    t = replace(t, dim=640, n_heads=5, n_kv_heads=1, hidden_dim=1024)
rng = np.random.default_rng(0)

# %%
# The integers and scales are drawn as they would stand in a file; no larger weights exist at any time.


def leaf(path, shape):
    *E, I, O = (1, *shape)[-max(2, len(shape)):]
    if min(I, O) <= 16:                                                     # norms and the router stay plain
        return (np.ones(shape) if I == 1 else rng.standard_normal(shape) * I ** -0.5).astype(np.float32)
    values = np.frombuffer(rng.bytes(int(np.prod(shape)) // 2), np.uint8).reshape(*E, O // 16, I // 8, 16, 4)
    return Quantized(values, np.full((*E, O // 16, I // 32, 16), I ** -0.5 / 4.6, ml_dtypes.bfloat16))


w = build(ScoutConfig(t, None, bos_id=0, stop_ids=(1,), pad_id=2), leaf).text
read = sum(a.nbytes / (t.n_experts if ".experts." in path else 1) for path, a in named(w.blocks[0]))
cache, machine, times = Cache(t), limits(), []
for x in rng.standard_normal((64, 1, 1, t.dim), dtype=np.float32):          # 64 tokens, each to its own expert
    began = perf_counter()
    text_model(x, w, t, cache, c)
    times.append(perf_counter() - began)
seconds, bandwidth, n = np.median(times), machine["read bytes per second"], len(SCOUT.text.layers)
print(f"a token takes {1e3 * seconds:.2f} ms and reads {read / 1e6:.0f} MB: {read / seconds / 1e9:.1f} GB a second, "
      f"where plain reading reaches {bandwidth / 1e9:.1f}")
print(f"{n} such layers: {1 / (n * seconds):.1f} tokens a second, {bandwidth / (n * read):.1f} if only reading took time")

# %%
# Under the roof
# --------------
# One matrix and 1 to 256 rows at once.  Few rows slide along the slope, where the memory decides; many meet the flat
# part, which is what BLAS reaches in float32.  Four bits start further right, and products of bytes have a higher roof.

few = w.blocks[0].feed_forward.shared.w_gate
plain, (I, O), roof = dequantize(few), few.shape, np.geomspace(0.3, 400)
plt.figure(figsize=(7.5, 3.6))
plt.loglog(roof, np.minimum(bandwidth * roof, machine["operations per second"]) / 1e9, color="0.5")
for name, ops, matrix in ("int4, C", c.linear, few), ("float32, C", c.linear, plain), ("float32, NumPy", linear, plain):
    rows = {N: rng.standard_normal((N, I), dtype=np.float32) for N in (1, 2, 4, 8, 16, 64, 256)}
    rate = [2 * N * I * O / best(lambda x=x, f=ops, m=matrix: f(x, m), 0.1) / 1e9 for N, x in rows.items()]
    plt.plot([2 * N * I * O / (matrix.nbytes + 4 * N * (I + O)) for N in rows], rate, "o-", label=name)
plt.gca().set(xlabel="operations per byte", ylabel="GFLOP/s")
plt.legend()
plt.show()
