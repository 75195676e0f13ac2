"""What must never be built: a long prompt costs memory for its tokens, not for its pairs of tokens."""
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tinyscout.config import tiny_config
from tinyscout.model import random_model
from tinyscout.nn.cache import Cache
from tinyscout.reference import attention


@pytest.mark.parametrize("chunk", [None, 8, 700])
@pytest.mark.parametrize("past", [0, 500])
def test_attention_never_holds_all_pairs(monkeypatch, chunk, past):
    monkeypatch.setattr(attention, "MAX_SCORES_PER_BLOCK", 1 << 14)
    T, H, d = 2000, 2, 4
    q, k = np.ones((1, T, H, d), np.float32), np.ones((1, past + T, H, d), np.float32)
    tracemalloc.start()
    attention.grouped_query_attention(q, k, k, True, chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pairs = 4 * H * T * (past + T)                  # bytes of all scores in float32: 32 MB and more
    assert peak < pairs / 30
    assert peak < q.nbytes + 8 * (past + T) + 12 * 4 * attention.MAX_SCORES_PER_BLOCK


LONG = """
import numpy as np
from tinyscout.kernels import c

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

def run(T):
    q = np.ones((1, T, 1, 16), np.float32)
    return c.grouped_query_attention(q, q, q, True, 8192), q.nbytes

run(9000)                       # the libraries, the threads and their scratch memory are there now
before = peak()
out, nbytes = run(100_000)
print(peak() - before, nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux says how much memory was used at most")
def test_a_long_prompt_through_a_chunked_layer_takes_its_own_size_and_no_more():
    pytest.importorskip("tinyscout.kernels.c", reason="the C extension is not built")
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    grown, nbytes = map(int, done.stdout.split())
    assert grown < 2 * nbytes + 4_000_000           # what came in, what came out, and nothing of tokens times keys


def test_decoding_allocates_nothing_that_grows():
    c = pytest.importorskip("tinyscout.kernels.c", reason="the C extension is not built")
    config = tiny_config(vision=False)
    model, cache = random_model(config, c), Cache(config.text)
    model.logits(np.arange(40), cache=cache)
    for token in range(4):                          # the global layers' buffers have doubled now
        model.logits([token], cache=cache)
    tracemalloc.start()
    model.logits([5], cache=cache)
    before = tracemalloc.get_traced_memory()[0]
    for token in range(30):
        model.logits([token], cache=cache)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4096 + cache.layers[0].nbytes  # a chunked layer may just have begun a chunk
