"""What must never be built: a long prompt costs memory for its tokens, not for its pairs of tokens."""
import tracemalloc

import numpy as np
import pytest

from tinyscout.reference import attention


@pytest.mark.parametrize("chunk", [None, 8, 700])
@pytest.mark.parametrize("past", [0, 500])
def test_attention_never_holds_all_pairs(monkeypatch, chunk, past):
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 1 << 14)
    T, H, d = 2000, 2, 4
    q, k = np.ones((1, T, H, d), np.float32), np.ones((1, past + T, H, d), np.float32)
    tracemalloc.start()
    attention.grouped_query_attention(q, k, k, True, chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    pairs = 4 * H * T * (past + T)                  # bytes of all scores in float32: 32 MB and more
    assert peak < pairs / 30
    assert peak < q.nbytes + 8 * (past + T) + 12 * 4 * attention.SCORES_AT_ONCE
