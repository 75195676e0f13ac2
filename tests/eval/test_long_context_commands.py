"""The commands needle and nll, on a small random model; and the laboratory's presets."""
import json
from dataclasses import replace

import numpy as np
import pytest

import tinyscout
from tinyscout import reference
from tinyscout.cli import main
from tinyscout.config import ScoutConfig, TextConfig, layer_plan
from tinyscout.data.needles import Haystack
from tinyscout.eval.needle import greedy_correct, wilson_interval
from tinyscout.eval.nll import logits_in_windows, position_bins, sample_positions, token_nll
from tinyscout.inputs.tokenizer import train
from tinyscout.model import Model
from tinyscout.nn import scout
from tinyscout.nn.weights import named_arrays
from tinyscout.train.checkpoints import load_run, save_step, unflatten
from tinyscout.train.loop import init_training_weights
from tinyscout.train.recipe import N_SPECIAL, PRESETS, recipe_to_dict, with_special_ids

CONFIG = with_special_ids(ScoutConfig(TextConfig(
    dim=16, n_heads=2, n_kv_heads=1, head_dim=8, n_experts=1, hidden_dim=8, dense_dim=24, chunk_size=32,
    layers=layer_plan(4, moe_every=5), rope_scaling=None, attn_temperature_floor=16.0), None), 256 + N_SPECIAL)


@pytest.fixture(scope="module")
def model():
    return tinyscout.random_model(CONFIG, seed=3, tokenizer=train([], CONFIG.text.vocab_size))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """A run's directory with its recipe, the checkpoint in it, and texts to read."""
    run = tmp_path_factory.mktemp("run")
    tinyscout.save(model, run / "step-000001")
    recipe = replace(PRESETS["laboratory"][1], row_length=((1.0, 64),))
    (run / "recipe.json").write_text(json.dumps(recipe_to_dict(recipe)))
    (run / "novel.txt").write_text("".join(f"line {n} of the novel\n" for n in range(4000)))
    return run


@pytest.fixture
def run(saved, capsys):
    """A command on the saved model  ->  exit code, standard output, standard error."""
    def command(name, *words):
        code = main([name, "--model", str(saved / "step-000001"), "--text", str(saved / "novel.txt"), *map(str, words)])
        return code, *capsys.readouterr()

    return command


# needle

def test_needle(run, tmp_path):
    code, out, err = run("needle", "--contexts", "512,1k", "--haystacks", 2, "--out", tmp_path)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["context", "512", "1,024"]
    assert "8.00 x" in out                       # 512 tokens, of a training with 64
    report = json.loads((tmp_path / "needle.json").read_text())
    assert [row["context"] for row in report["rows"]] == [512, 1024]
    assert all(row["asked"] == sum(part[1] for part in row["depths"]) == 16 for row in report["rows"])
    assert report["train_length"] == 64
    pytest.importorskip("matplotlib")
    assert (tmp_path / "needle.png").stat().st_size > 5000


def test_the_same_seed_asks_the_same(run, tmp_path):
    """Whatever other contexts there are."""
    for name, words in {"a": "512", "b": "256,512", "c": "512 --seed 1"}.items():
        assert run("needle", "--contexts", *words.split(), "--out", tmp_path / name)[0] == 0
    a, b, c = (json.loads((tmp_path / name / "needle.json").read_text())["rows"][-1]["depths"] for name in "abc")
    assert a == b != c


def test_needles_grow_with_the_text(run, tmp_path):
    words = ["--contexts", "512,2k", "--haystacks", 1, "--density", 64, "--queries", 4,
             "--allow-straddle", "--control"]
    assert run("needle", *words, "--out", tmp_path)[0] == 0
    report = json.loads((tmp_path / "needle.json").read_text())
    assert [row["facts"] for row in report["rows"]] == [8, 32]
    assert report["settings"] == {"haystacks": 1, "facts": 8, "queries": 4, "density": 64, "allow_straddle": True,
                                  "control": True}


def test_an_answer_counts_if_each_of_its_tokens_comes_first(model, monkeypatch):
    """A model that predicts the text, but for the tokens around the first and the last of four answers, for the last
    token of the second and for the first of the third.
    """
    tokens = np.random.default_rng(0).integers(0, 200, 60)
    spans, bos_id = np.array([[20, 23], [30, 34], [40, 42], [50, 52]]), CONFIG.bos_id
    wrong = [19, 23, 33, 40, 49, 52]            # in `tokens`, and at the positions before them behind the first

    def predict(text, positions, *rest):
        assert text[0] == bos_id
        logits = np.zeros((len(positions), 300))
        logits[np.arange(len(positions)), text[positions + 1]] = 1
        logits[np.isin(positions, wrong)] = 0
        return logits

    monkeypatch.setattr("tinyscout.eval.needle.logits_at", predict)
    assert greedy_correct(Haystack(tokens, spans, np.zeros(4)), bos_id, model).tolist() == [True, False, False, True]


def test_the_temperature_is_changed_as_asked(run, tmp_path):
    reported = []
    for n, words in enumerate([[], ["--no-temperature"], ["--scale", "0.5", "--floor", "99"]]):
        assert run("needle", "--contexts", "256", "--haystacks", 1, *words, "--out", tmp_path / str(n))[0] == 0
        reported.append(json.loads((tmp_path / str(n) / "needle.json").read_text())["temperature"])
    assert [list(temperature.values()) for temperature in reported] == [
        [True, 0.1, 16.0], [False, 0.1, 16.0], [True, 0.5, 99.0]]


def test_wilsons_interval():
    """As tables have it, and sensible at the ends, where the plain formula says that nothing is uncertain."""
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


# nll

def test_nll(run, tmp_path):
    code, out, err = run("nll", "--context", 300, "--texts", 3, "--out", tmp_path)
    assert (code, err) == (0, "")
    report = json.loads((tmp_path / "nll.json").read_text())
    assert [(row["from"], row["to"]) for row in report["rows"]] == [(0, 64), (64, 128), (128, 256), (256, 300)]
    assert abs(report["rows"][0]["difference"]) < 1e-5           # the first window is the text itself
    assert all(row["nll_per_byte"] == pytest.approx(row["nll"]) for row in report["rows"])     # a token is a byte
    assert len(out.splitlines()) == 5
    pytest.importorskip("matplotlib")
    assert (tmp_path / "nll.png").stat().st_size > 5000


def test_windows_are_read_as_if_nothing_came_before(model, monkeypatch):
    monkeypatch.setattr("tinyscout.eval.nll.MAX_BATCH_TOKENS", 80)
    positions, window, bos_id = np.array([0, 5, 31, 32, 70, 90, 129]), 40, 7
    row = np.random.default_rng(0).integers(0, 200, 130)
    row[0] = bos_id
    result = logits_in_windows(row, positions, window, bos_id, model)
    for position, logits in zip(positions, result, strict=True):
        first = position // window * window
        alone = scout.forward([bos_id, *row[first + 1:position + 1]], (), model.weights, CONFIG)[-1]
        np.testing.assert_allclose(logits, alone, atol=1e-5)


def test_the_nll_of_tokens_is_the_loss(model):
    logits, targets = np.random.default_rng(0).normal(size=(9, 20)).astype(np.float32), np.arange(9)
    assert token_nll(model, logits, targets).mean() == pytest.approx(reference.cross_entropy(logits, targets), rel=1e-5)


def test_bins_double_and_are_sampled():
    bins = position_bins(64, 1000)
    assert bins == [(0, 64), (64, 128), (128, 256), (256, 512), (512, 1000)]
    positions = sample_positions(np.random.default_rng(0), bins, 70)
    assert [((positions >= low) & (positions < high)).sum() for low, high in bins] == [64, 64, 70, 70, 70]
    assert (np.diff(positions) > 0).all()


# what is wrong is said in one line

@pytest.mark.parametrize("words", [
    "needle --contexts 40", "needle --contexts 10T", "needle --contexts ,", "needle --facts 1000 --contexts 20k",
    "needle --facts 4 --queries 5", "needle --scale -1", "needle --scale x", "needle --no-temperature --scale 1",
    "needle --no-temperature --floor 9", "needle --floor 0", "needle --allow-straddle never", "needle --text nowhere",
    "needle --backend abacus", "nll --context 10", "nll --context 90k", "nll --window 0", "nll --texts 0",
    "nll --text nowhere", "needle --seed -1", "nll --seed -1"])
def test_bad_input_is_one_line_and_code_2(run, words):
    command, *rest = words.split()
    code, out, err = run(command, *rest)
    assert code == 2
    assert len(out.splitlines()) <= 1           # the head of a table
    assert err.startswith("tinyscout: ")
    assert len(err.splitlines()) == 1


def test_no_recipe_no_window(saved, model, tmp_path, capsys):
    tinyscout.save(model, tmp_path / "alone")
    words = ["--model", str(tmp_path / "alone"), "--text", str(saved / "novel.txt")]
    assert main(["nll", *words]) == 2
    assert "--window" in capsys.readouterr().err
    assert main(["needle", *words, "--contexts", "256", "--haystacks", "1"]) == 0
    assert " x " not in capsys.readouterr().out
    assert main(["nll", *words, "--train-length", "64", "--context", "200", "--texts", "1"]) == 0


# the laboratory

@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("laboratory")])
def test_a_preset_survives_the_disk(name, tmp_path):
    make, recipe = PRESETS[name]
    config, tokenizer = make(), train([], 256 + N_SPECIAL)
    weights = unflatten(config, init_training_weights(config, 0))
    save_step(tmp_path, recipe.steps, weights, config, tokenizer, {})
    again, arrays, _, _ = load_run(tmp_path / f"step-{recipe.steps:06}")
    assert again.text == config.text
    for path, w in named_arrays(weights):
        np.testing.assert_array_equal(arrays[path], w)
    tokens = np.arange(300) % 250
    loaded = tinyscout.load(tmp_path / f"step-{recipe.steps:06}")
    np.testing.assert_array_equal(loaded.logits(tokens), Model(config, weights, tokenizer, reference).logits(tokens))


def test_presets_differ_as_their_names_say():
    text = {name: make().text for name, (make, _) in PRESETS.items() if name.startswith("laboratory")}
    plans = {name: ["".join(("rope " * layer.rope, "chunk" * layer.chunked)).strip() for layer in c.layers]
             for name, c in text.items()}
    assert plans == {
        "laboratory": ["rope chunk"] * 3 + [""], "laboratory-rope": ["rope"] * 4,
        "laboratory-nope-unchunked": ["rope"] * 3 + [""], "laboratory-rope-global": ["rope chunk"] * 3 + ["rope"],
        "laboratory-qk-nope": ["rope chunk"] * 3 + [""]}
    assert {name for name, c in text.items() if c.qk_norm_nope} == {"laboratory-qk-nope"}
    assert len({replace(c, layers=text["laboratory"].layers, qk_norm_nope=False) for c in text.values()}) == 1
