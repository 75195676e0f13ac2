"""The benchmark: what it writes is complete, and its contenders compute the same."""
import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from tinyscout import bench
from tinyscout.cli import main

BACKENDS = ["numpy"] + ["c"] * bool(importlib.util.find_spec("tinyscout._c"))


def test_a_quick_run_writes_figures_and_a_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["bench", "--quick", "--peer", "none", "--backends", *BACKENDS,
             "--out", str(tmp_path / "run.json"), "--plot", str(tmp_path / "run.png")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "prefill 32" in said
    assert "GB/s" in said
    report = json.loads((tmp_path / "run.json").read_text())
    assert [(row["name"], row["what"]) for row in report["summary"]] == [
        (name, what) for what in ("prefill", "decode") for name in BACKENDS]
    assert all(len(sample["seconds"]) == 2 and min(sample["seconds"]) > 0 for sample in report["samples"])
    assert all(row["slowest"] <= row["median"] <= row["fastest"] for row in report["summary"])
    assert all(row["largest difference"] < 1e-4 * row["largest score"] for row in report["agreement"])
    assert {"cpu", "cores", "python", "numpy", "blas"} <= report["machine"].keys()
    assert Image.open(tmp_path / "run.png").size[0] > 300


def test_the_peer_may_be_missing(monkeypatch):
    def missing():
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(bench, "peer_modules", missing)
    monkeypatch.setattr(bench, "limits", lambda: {"read bytes per second": 1e9})
    report = bench.measure("small", (8,), (8,), 1, ("numpy",))
    assert report["notes"] == ["transformers is not here to compare with: No module named 'torch'"]
    assert len(report["summary"]) == 2
    assert not any("times peer" in row for row in report["summary"])


@pytest.mark.slow
def test_transformers_computes_the_same(monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("regex")
    monkeypatch.setattr(bench, "limits", lambda: {"read bytes per second": 1e9})
    report = bench.measure("small", (40,), (40,), 1, ("numpy",))
    if report["notes"]:
        pytest.skip(report["notes"][0])
    assert [row["name"] for row in report["agreement"]] == ["transformers"] * 2
    assert all(row["largest difference"] < 1e-4 * row["largest score"] for row in report["agreement"])


def test_bytes_per_token_are_what_a_token_reads():
    """All matrices but the experts that are not chosen and the rest of the embedding, in float32."""
    c = bench.SIZES["mid"].text
    attention = c.dim * c.head_dim * (2 * c.n_heads + 2 * c.n_kv_heads)
    layer = attention + 2 * 3 * c.dim * c.hidden_dim + c.dim * c.n_experts + 2 * c.dim
    expected = 4 * (len(c.layers) * layer + c.dim + c.dim * c.vocab_size + c.dim)
    assert bench.describe(bench.SIZES["mid"])["weight bytes per token"] == expected


def test_the_past_is_handed_on():
    """Decoding behind another's keys and values is decoding behind one's own."""
    (ours,) = bench.set_up(bench.SIZES["small"], {"numpy": bench.backend_ops("numpy")}, None, 1, 0).values()
    ours.begin()
    ours.read(np.arange(20))
    past = ours.cache
    expected = ours.read(np.array([7]))
    past.length = 20
    ours.begin(past)
    np.testing.assert_array_equal(ours.read(np.array([7])), expected)
