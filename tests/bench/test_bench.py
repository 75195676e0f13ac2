"""The benchmark: what it writes is complete, and its engines compute the same."""
import importlib.util
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tinyscout.bench import engines, models, operations, tokenizer
from tinyscout.bench.machine import elementwise_best
from tinyscout.bench.sizes import SIZES, bytes_per_position, bytes_per_token, convert_weights
from tinyscout.cli import bench, main
from tinyscout.model import get_backend, random_model
from tinyscout.nn.weights import abstract_weights, init_weights

BACKENDS = ["numpy"] + ["c"] * bool(importlib.util.find_spec("tinyscout._c"))
LIMITS = {"read bytes per second": 1e9, "operations per second": 1e9}


def test_a_quick_run_writes_figures_and_a_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    words = ["bench", "--quick", "--compare", "none", "--groups", "float32", "--backends", *BACKENDS,
             "--out", str(tmp_path / "run.json"), "--plot", str(tmp_path / "run.png")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "prefill 32" in said
    assert "GB/s" in said
    report = json.loads((tmp_path / "run.json").read_text())
    assert {"cpu", "cores", "python", "numpy", "blas"} <= report["machine"].keys()
    assert Image.open(tmp_path / "run.png").size[0] > 300
    run = report["models"]
    assert [(row["name"], row["group"], row["what"]) for row in run["summary"]] == [
        (name, "float32", what) for what in ("prefill", "decode") for name in BACKENDS]
    assert all(len(sample["seconds"]) == 2 and min(sample["seconds"]) > 0 for sample in run["samples"])
    assert all(row["slowest"] <= row["median"] <= row["fastest"] for row in run["summary"])
    assert all(row["largest difference"] < 1e-4 * row["largest score"] for row in run["agreement"])
    assert {"rms_norm", "linear float32", "experts float32", "attention prefill", "attention decode"} <= {
        row["operation"] for row in report["operations"]["summary"]}


@pytest.mark.parametrize("group", ["bfloat16", "int8", "int4"])
def test_every_group_runs(group):
    backend = BACKENDS[-1]
    report = models.measure("small", (8,), (8,), 1, (group,), (backend,), ())
    if backend in engines.GROUPS[group]:
        assert report["groups"][group]["weight bytes per token"] > 0
        assert len(models.summary(report, LIMITS)) == 2


def test_external_engines_may_be_missing(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(engines, "import_engine", missing)
    report = models.measure("small", (8,), (8,), 1, ("float32",), ("numpy",))
    assert report["notes"] == [f"{name} is not available: No module named {name!r}"
                               for name in ("transformers", "llama.cpp")]
    rows = models.summary(report, LIMITS)
    assert len(rows) == 2
    assert not any(row["times"] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("external", ["transformers", "llama.cpp"])
def test_external_engines_compute_the_same(external, tmp_path):
    """llama.cpp keeps keys and values as float16 here, so it is further off than in test_gguf.py."""
    report = models.measure("small", (40,), (40,), 1, ("float32",), ("numpy",), (external,), gguf_dir=tmp_path)
    if report["notes"]:
        pytest.skip(report["notes"][0])
    assert [row["name"] for row in report["agreement"]] == [external] * 2
    allowed = 1e-4 if external == "transformers" else 2.0 ** -8
    assert all(row["largest difference"] < allowed * row["largest score"] for row in report["agreement"])
    assert not list(tmp_path.iterdir())         # its file is gone
    rows = models.summary(report, LIMITS)
    assert all((row["name"] == external) != (external in row.get("times", {})) for row in rows)


def test_bytes_per_token_are_what_a_token_reads():
    """All matrices but the experts that are not chosen and the rest of the embedding."""
    c = SIZES["mid"].text
    attention = c.dim * c.head_dim * (2 * c.n_heads + 2 * c.n_kv_heads)
    layer = attention + 2 * 3 * c.dim * c.hidden_dim + c.dim * c.n_experts + 2 * c.dim
    expected = len(c.layers) * layer + c.dim + c.dim * c.vocab_size + c.dim
    assert bytes_per_token(abstract_weights(SIZES["mid"]), SIZES["mid"]) == 4 * expected
    small = SIZES["small"]
    float32, bfloat16 = (bytes_per_token(convert_weights(init_weights(small), dtype), small)
                         for dtype in ("float32", "bfloat16"))
    assert float32 == 2 * bfloat16
    assert bytes_per_position(SIZES["mid"], "bfloat16") == 2 * 2 * 8 * 4 * 64


def test_figures_are_worked_out_from_the_samples():
    report = {"groups": {"float32": {"weight bytes per token": 100, "cache bytes per position": 2}}, "samples": [
        {"name": name, "group": "float32", "what": "decode", "at": 50, "tokens": 8, "seconds": seconds}
        for name, seconds in {"c": [1.0, 2.0, 4.0], "llama.cpp": [4.0, 8.0, 2.0]}.items()]}
    backend, external = models.summary(report, {"read bytes per second": 1600.0})
    assert (backend["median"], backend["slowest"], backend["fastest"]) == (4.0, 2.0, 8.0)
    assert backend["times"] == {"llama.cpp": 2.0}
    assert backend["of bandwidth"] == 4.0 * (100 + 2 * 50) / 1600.0
    assert "times" not in external


def test_what_operations_cost():
    """Bytes and operations as one counts them by hand, for a matrix and for attention."""
    s = operations.TINY
    found = {(case.name, case.at): case for case in operations.cases(s, ("float32", "int4"))}
    row = found["linear float32", f"1 x {s.D} x {s.F}"]
    assert row.nbytes == 4 * (s.D + s.D * s.F + s.F)
    assert row.flops == 2 * s.D * s.F
    packed = found["linear int4", f"1 x {s.D} x {s.F}"]
    assert packed.nbytes == 4 * (s.D + s.F) + s.D * s.F // 2 + s.D * s.F // 32 * 2
    assert packed.inputs[1].shape == (s.D, s.F)
    decode = found["attention decode", f"1 of {s.S} x {s.H} x {s.d}"]
    assert decode.flops == 4 * s.S * s.H * s.d
    assert decode.nbytes == 4 * (2 * s.H + 2 * s.S * s.K) * s.d
    prefill = found["attention prefill", f"{s.T} of {s.T} x {s.H} x {s.d}"]
    assert prefill.flops == 4 * s.T * (s.T + 1) / 2 * s.H * s.d
    one = found["experts float32", f"1 x {s.E} x {s.D} x {s.Fe}"]
    assert one.nbytes == 4 * (3 * s.D * s.Fe + 2 * s.D)


def test_no_operation_is_above_the_roof():
    """The peak is the fastest float32 rate of the run, here of the second sample; int8 is not float32."""
    samples = [{"name": name, "operation": operation, "at": "", "bytes": 1, "flops": flops, "seconds": [2.0, 1.0, 4.0]}
               for name, operation, flops in [("numpy", "linear float32", 1e9), ("c", "linear float32", 4e9),
                                              ("c", "linear int8", 8e9), ("c", "rms_norm", 0)]]
    assert operations.float32_peak(samples, LIMITS) == 4e9
    assert operations.float32_peak(samples[:1], LIMITS) == LIMITS["operations per second"]
    assert [row["of peak"] for row in operations.summary({"samples": samples}, LIMITS)] == [0.125, 0.5, 0.0, 0.0]


def test_operations_run_on_every_backend():
    report = operations.measure(operations.TINY, BACKENDS, 2, ("float32", "bfloat16"))
    rows = operations.summary(report, LIMITS)
    assert {row["name"] for row in rows} >= set(BACKENDS)
    assert all(0 < row["fastest"] <= row["median"] <= row["slowest"] for row in rows)


def test_numbered_versions_are_measured_too(monkeypatch):
    class Ops:
        linear = staticmethod(lambda x, w: x @ w)
        versions = staticmethod(lambda: {"linear": {"linear_1": np.dot}})

    monkeypatch.setattr(operations, "get_backend", lambda name: Ops)
    x = np.ones((2, 2), np.float32)
    case = operations.Case("linear float32", "", "linear", (x, x), 1, 1)
    assert list(operations.implementations(case, ["c"])) == ["c", "c linear_1"]


def test_tokenizer_is_measured_on_every_text(capsys):
    report = json.loads(json.dumps(tokenizer.measure(0.1, repeats=2, compare=False)))
    rows = {(row["what"], row["at"]): row for row in report["summary"]}
    assert set(rows) == {("train", "code and languages"),
                         *((what, text) for what in ("encode", "decode", "decode_bytes") for text in tokenizer.TEXTS)}
    assert all(0 < row["slowest"] <= row["median"] <= row["fastest"] for row in rows.values())
    assert all(row["same ids, and decoding restores the text"] for row in report["agreement"])
    tokenizer.show(report, Console())
    assert "long words" in capsys.readouterr().out


@pytest.mark.parametrize("make", tokenizer.TEXTS.values(), ids=tokenizer.TEXTS)
def test_texts_are_the_same_every_time_and_of_their_size(make):
    first, again = (make(100_000, np.random.default_rng(1)) for _ in range(2))
    assert first == again
    assert 99_990 <= len(first.encode()) <= 100_000


def test_of_two_measurements_the_better_counts():
    old, new = {"read": 1.0, "tried": {"scan": 3.0}}, {"read": 2.0, "tried": {"scan": 1.0}}
    assert elementwise_best(old, new) == {"read": 2.0, "tried": {"scan": 3.0}}


def test_decoding_goes_on_where_the_past_ends():
    """Tokens that are fed in pieces give the same logits as fed at once."""
    tokens = np.arange(20)
    engine = engines.TinyscoutEngine(random_model(SIZES["small"]))
    engine.reset("decode")
    engine.feed(tokens[:13])
    logits = [engine.feed(tokens[n:n + 1]) for n in range(13, 20)][-1]
    engine.reset("prefill")
    np.testing.assert_allclose(engine.feed(tokens), logits, atol=1e-5)
    assert engine.model.ops is get_backend("numpy")


@pytest.mark.parametrize(("words", "parts"), [
    ("", ["models", "operations"]), ("--operations", ["operations"]),
    ("--tokenizer --models", ["models", "tokenizer"])])
def test_parts_that_are_asked_for(words, parts):
    from tinyscout.cli import make_parser
    assert bench.selected_parts(make_parser().parse_args(["bench", *words.split()])) == parts


@pytest.mark.parametrize("words", ["--operations --plot x.png", "--gguf-dir nowhere", "--groups float64",
                                   "--prompt-tokens 9000 --models --compare none"])
def test_bad_words_are_refused_in_one_line(words, capsys):
    assert main(["bench", *words.split()]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_training_is_measured_beside_who_is_here():
    from tinyscout.bench import training
    result = training.measure("small", repeats=2, backends=BACKENDS, threads=1)
    assert set(BACKENDS) <= set(result["samples"])
    assert all(len(times) == 2 for times in result["samples"].values())
    first = result["losses"][BACKENDS[0]]
    assert all(abs(loss - first) < 1e-4 * first for loss in result["losses"].values())
    rows = training.summary(result)
    assert rows[0]["of the first"] == 1
    training.show({**result, "summary": rows}, Console(quiet=True))


def test_threads_are_set_for_a_process_of_its_own(monkeypatch):
    """BLAS reads the number of threads when it is loaded, so the same command runs again with it in the environment."""
    calls = []
    monkeypatch.setattr(bench.subprocess, "call", lambda command, env: calls.append((command, env)) or 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    words = ["bench", "--quick", "--threads", "2", "--prompt-tokens", "8", "16"]
    assert main(words) == 3
    (command, env), = calls
    assert command[1:] == ["-m", "tinyscout", *words]
    assert {env[name] for name in bench.THREAD_VARIABLES} == {"2"}
