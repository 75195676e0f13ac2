"""Training: it learns, it goes on where it was killed, and it says in one line what it cannot do."""
import contextlib
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import tinyscout
from tinyscout import reference
from tinyscout.cli import main
from tinyscout.config import ScoutConfig, TextConfig, VisionConfig, layer_plan, tiny_config
from tinyscout.data.corpus import Corpus
from tinyscout.model import Model
from tinyscout.nn.weights import init_weights, named_arrays, tree_map
from tinyscout.train import PRESETS, Recipe, train
from tinyscout.train.batches import train_tokenizer
from tinyscout.train.checkpoints import flatten, save_step, saved_steps, unflatten
from tinyscout.train.lora import init_lora, lora_gradients, merge_lora
from tinyscout.train.optimizer import lr_schedule, mean_gradients, optimizer_step
from tinyscout.train.recipe import N_SPECIAL, recipe_from_dict, recipe_to_dict, with_special_ids

VOCABULARY = 256 + N_SPECIAL
LINES = "def f(x):\n    return x + 1\n\n\nclass Twice:\n    def __call__(self, x):\n        return 2 * x\n\n\n" * 40
CORPUS = Corpus([("a.py", LINES)], [("b.py", LINES[:2000])])
RECIPE = Recipe(steps=6, text_tokens_per_step=192, row_length=((0.5, 64), (1.0, 96)), needles=((1.0, 2),), warmup=2)


def small_config(vision=False, **changes):
    """A model that is trained in a second."""
    text = TextConfig(**{
        "dim": 32, "n_heads": 2, "n_kv_heads": 1, "head_dim": 16, "n_experts": 4, "hidden_dim": 24, "dense_dim": 40,
        "layers": layer_plan(4), "rope_scaling": None, "chunk_size": 32, "attn_temperature_floor": 64.0, **changes})
    tower = VisionConfig(dim=16, n_heads=2, n_layers=1, hidden_dim=64, adapter_dim=16, tile_size=32, patch_size=8)
    return with_special_ids(ScoutConfig(text, tower if vision else None), VOCABULARY)


def untrained_model(seed=0):
    return Model(small_config(), init_weights(small_config(), seed), train_tokenizer(small_config(), None, RECIPE),
                 reference)


def load_arrays(directory):
    return {path: np.array(w) for path, w in named_arrays(tinyscout.load(directory).weights)}


def read_log(directory):
    with open(directory / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_learns(tmp_path):
    """Text that repeats itself is soon known by heart."""
    recipe = replace(RECIPE, steps=150, text_tokens_per_step=256, needles=(), warmup=10)
    last = train(tmp_path / "run", recipe, small_config(), CORPUS)
    log = read_log(tmp_path / "run")
    assert [int(row["step"]) for row in log] == list(range(1, 151))
    assert float(log[0]["text"]) == pytest.approx(np.log(VOCABULARY), rel=1e-3)     # knowing nothing
    assert float(log[-1]["text"]) < 1.0
    assert float(log[-1]["held_out"]) < 1.5
    assert (tmp_path / "run" / "log.png").stat().st_size > 0
    model = tinyscout.load(last)
    prompt = model.tokenizer.encode("<|begin_of_text|>def f(x):\n    ret", special=True)
    assert model.tokenizer.decode(list(model.generate(prompt, max_new_tokens=3, temperature=0))) == "urn"


def test_images_are_learned_too(tmp_path):
    recipe = replace(RECIPE, steps=2, dialogs=3, dialog_length=600, text_tokens_per_step=0,
                     needles=())
    train(tmp_path / "run", recipe, small_config(vision=True))
    assert float(read_log(tmp_path / "run")[0]["images"]) == pytest.approx(np.log(VOCABULARY), rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"lora": 2}, {"optimizer": "adamw"}, {"grad_accum_steps": 2}], ids=str)
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, changes, monkeypatch):
    """Stopped at any step: bit for bit the same weights, and a log without gaps."""
    recipe = replace(RECIPE, **changes)
    base_model = untrained_model(1) if recipe.lora else None
    expected = load_arrays(train(tmp_path / "whole", recipe, small_config(), CORPUS, base_model=base_model,
                                 save_every=2))
    from tinyscout.train import loop
    train_step = loop.train_step

    def interrupt_at_five(state, source, step, teacher=None):
        if step == 5 and not list((tmp_path / "cut").glob("again")):
            (tmp_path / "cut" / "again").touch()
            raise KeyboardInterrupt
        return train_step(state, source, step, teacher)

    monkeypatch.setattr(loop, "train_step", interrupt_at_five)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", recipe, small_config(), CORPUS, base_model=base_model, save_every=2)
    assert list(saved_steps(tmp_path / "cut")) == [2, 4]
    again = load_arrays(train(tmp_path / "cut", recipe, small_config(), CORPUS, base_model=base_model, save_every=2))
    for path, w in expected.items():
        np.testing.assert_array_equal(again[path], w, err_msg=path)
    assert [int(row["step"]) for row in read_log(tmp_path / "cut")] == list(range(1, 7))
    losses = [[row["text"] for row in read_log(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("wait", [0.3, 1.0])
def test_killed_at_any_moment(tmp_path, wait):
    """kill -9 while it trains and saves as often as it can: what is there can be loaded, and the run goes on."""
    script = f"""
import sys; sys.path.insert(0, {str(os.path.dirname(__file__))!r})
from test_train import *
train(sys.argv[1], replace(RECIPE, steps=400), small_config(), CORPUS, save_every=1)"""
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", script, str(run)], stderr=subprocess.DEVNULL)
    while not saved_steps(run):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    checkpoints = saved_steps(run)
    assert checkpoints
    for path in checkpoints.values():
        assert tinyscout.load(path).tokenizer.vocab_size == VOCABULARY
        assert (path / "optimizer.safetensors").is_file()
    done = max(checkpoints)
    recipe = recipe_from_dict(json.loads((run / "recipe.json").read_text()))
    from tinyscout.train.loop import restore_or_init
    assert restore_or_init(run, recipe, small_config(), CORPUS, None, reference)[2] == done


@pytest.mark.parametrize("allowed", range(24))
def test_a_checkpoint_comes_whole_or_not_at_all(tmp_path, monkeypatch, allowed):
    """Stopped at any renaming while the second is written: what has the name of a checkpoint is one."""
    train(tmp_path / "run", replace(RECIPE, steps=1), small_config(), CORPUS)
    calls, real = [], (os.rename, pathlib.Path.rename)

    def interrupt(rename):
        def wrapper(source, target):
            calls.append(source)
            if len(calls) > allowed:
                raise KeyboardInterrupt
            return rename(source, target)
        return wrapper

    monkeypatch.setattr(os, "rename", interrupt(real[0]))
    monkeypatch.setattr(pathlib.Path, "rename", interrupt(real[1]))
    [first] = saved_steps(tmp_path / "run").values()
    model = tinyscout.load(first)
    with contextlib.suppress(KeyboardInterrupt):
        save_step(tmp_path / "run", 2, model.weights, model.config, model.tokenizer, {})
    assert 1 in saved_steps(tmp_path / "run")
    for path in saved_steps(tmp_path / "run").values():
        assert load_arrays(path)
        assert tinyscout.load(path).tokenizer is not None


@pytest.mark.parametrize(("break_it", "says"), [
    (lambda run: {"recipe": replace(RECIPE, lr=1e-2)}, "was started with lr"),
    (lambda run: {"corpus": Corpus([("a", "x")], [("b", "y")])}, "the text is shorter than a row"),
    (lambda run: next(iter(saved_steps(run).values())).joinpath("optimizer.safetensors").write_bytes(b"no"), "damaged"),
    (lambda run: (run / "recipe.json").write_text("{"), "recipe.json"),
])
def test_a_run_that_cannot_go_on(tmp_path, break_it, says):
    run = tmp_path / "run"
    train(run, RECIPE, small_config(), CORPUS)
    changed = break_it(run)
    arguments = {"recipe": RECIPE, "config": small_config(), "corpus": CORPUS}
    with pytest.raises(ValueError, match=says):
        train(run, **{**arguments, **(changed if isinstance(changed, dict) else {})})


def test_a_loss_that_is_no_number(tmp_path):
    base_model = untrained_model()
    base_model.weights.text.norm[:] = np.inf
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="became NaN or infinite at step 1"):
        train(tmp_path / "run", RECIPE, small_config(), CORPUS, base_model=base_model)
    assert not saved_steps(tmp_path / "run")


@pytest.mark.parametrize(("arguments", "says"), [
    (["--text", "missing.txt"], "missing.txt"),
    (["--text", "empty"], "no text to learn from"),
    (["--lora", "4"], "pass it with --from"),
    (["--lr", "-1"], "above zero"),
    (["--distill-weight", "2", "0"], "between 0 and 1"),
    (["--from", "missing"], "not a directory"),
    (["--out", "full"], "not empty"),
    (["--out", "full/else.txt/run"], "Not a directory"),
    (["--out", "shut/run"], "shut"),
])
def test_one_line_for_bad_input(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "full", "shut"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "else.txt").write_text("text")
    (tmp_path / "shut").chmod(0o500)
    if says == "shut" and os.access("shut", os.W_OK):
        pytest.skip("this user may write anywhere")
    assert main(["train", "--steps", "1", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]


def test_the_command(tmp_path, monkeypatch, capsys):
    """Text of one's own, from nothing, then fine-tuned by adapters, then taught by the first."""
    from tinyscout.train import recipe as recipes
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.py").write_text(LINES)
    monkeypatch.setitem(recipes.PRESETS, "laboratory", (small_config, replace(RECIPE, steps=3)))
    monkeypatch.setitem(recipes.PRESETS, "finetune", (small_config, replace(RECIPE, steps=2)))
    assert main(["train", "--text", "texts"]) == 0
    first = tmp_path / "runs" / "laboratory" / "step-000003"
    assert str(first.relative_to(tmp_path)) in capsys.readouterr().out
    assert main(["train", "--text", "texts", "--preset", "finetune", "--from", str(first), "--lora", "2"]) == 0
    assert main(["train", "--text", "texts", "--teacher", str(first), "--distill-weight", "1", "0.5", "--out",
                 "student"]) == 0
    assert float(read_log(tmp_path / "student")[-1]["distill_loss"]) > 0
    assert main(["train", "--text", "texts", "--export", "model"]) == 0      # done already: nothing is trained
    assert tinyscout.load("model").weights.text.norm.dtype == "bfloat16"
    assert recipe_from_dict(json.loads((tmp_path / "model" / "recipe.json").read_text())).steps == 3
    assert PRESETS["laboratory"][1].steps == 3


# The parts


def test_the_lr_rises_and_falls():
    recipe = Recipe(steps=100, warmup=10, min_lr_ratio=0.1)
    lrs = [lr_schedule(recipe, step) for step in range(1, 101)]
    assert lrs[0] == pytest.approx(0.1)
    assert np.argmax(lrs) == 9
    assert lrs[-1] == pytest.approx(0.1, abs=1e-3)
    assert all(a > b for a, b in pairwise(lrs[9:]))


def test_a_cycle_is_a_cosine_of_its_own():
    """From its own height, without another warm-up; the first as if there were no second."""
    recipe = Recipe(steps=100, warmup=10, min_lr_ratio=0.1, cycles=((0.7, 1.0), (1.0, 0.5)))
    assert [lr_schedule(recipe, step) for step in range(1, 71)] == [
        lr_schedule(Recipe(steps=70, warmup=10, min_lr_ratio=0.1), step) for step in range(1, 71)]
    lrs = [lr_schedule(recipe, step) for step in range(71, 101)]
    assert lrs[0] == 0.5
    assert lrs[-1] == pytest.approx(0.05, abs=2e-3)
    assert all(a > b for a, b in pairwise(lrs))


def test_a_long_gradient_is_clipped():
    recipe = Recipe(optimizer="adamw", grad_clip=1.0, weight_decay=0.0)
    w, g = {"a": np.zeros(4, np.float32)}, {"a": np.full(4, 50, np.float32)}
    _, opt_state, norm = optimizer_step(w, g, {}, recipe, 1)
    assert norm == pytest.approx(100)
    np.testing.assert_allclose(opt_state["a"][0], 0.5 * (1 - recipe.betas[0]), rtol=1e-5)


def test_the_mean_of_gradients_where_some_are_missing():
    both = mean_gradients([{"a": np.array([2.0]), "b": np.array([4.0])}, {"a": np.array([4.0])}])
    assert both["a"] == 3
    assert both["b"] == 2


def test_adapters_have_the_gradient_of_what_they_are_merged_into():
    rng = np.random.default_rng(0)
    shapes = {"x.w_q": (5, 7), "x.experts.w_up": (3, 5, 7), "x.norm": (5,)}
    weights = {path: rng.normal(size=shape) for path, shape in shapes.items()}
    lora = init_lora(weights, 2, 0)
    for path, w in merge_lora(weights, lora).items():
        np.testing.assert_array_equal(w, weights[path])                     # at first nothing changes
    lora = {path: rng.normal(size=a.shape) for path, a in lora.items()}
    gradients = {path: rng.normal(size=w.shape) for path, w in weights.items()}     # of a linear loss
    result = lora_gradients(lora, gradients)
    assert result.keys() == lora.keys()
    for path in lora:
        direction, h = rng.normal(size=lora[path].shape), 1e-6
        ends = [merge_lora(weights, {**lora, path: lora[path] + s * direction}) for s in (h, -h)]
        above, below = (sum(np.sum(gradients[p] * w) for p, w in end.items()) for end in ends)
        assert np.sum(result[path] * direction) == pytest.approx((above - below) / (2 * h), rel=1e-6)


def test_the_tree_and_back():
    for config in (tiny_config(), tiny_config(vision=False, tie_embeddings=True, layers=layer_plan(1))):
        weights = init_weights(config, 3)
        again = unflatten(config, flatten(weights, config))
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(named_arrays(weights), named_arrays(again),
                                                                  strict=True))
        assert all(w.flags.c_contiguous for w in flatten(weights, config).values())


def test_a_recipe_and_back():
    for _, recipe in PRESETS.values():
        assert recipe_from_dict(json.loads(json.dumps(recipe_to_dict(recipe)))) == recipe
    with pytest.raises(ValueError, match="not a recipe"):
        recipe_from_dict({"pace": 1})


@pytest.mark.parametrize("changes", [
    {"optimizer": "sgd"}, {"steps": 0}, {"text_tokens_per_step": 0}, {"text_tokens_per_step": 100}, {"lr": 0.0},
    {"cycles": ((0.5, 1.0),)}], ids=str)
def test_recipes_that_teach_nothing(changes):
    with pytest.raises(ValueError, match=r"optimizer|steps|nothing to learn|too few|above zero|last cycle"):
        Recipe(**changes)


def test_tree_map_of_a_text_model():
    assert tree_map(lambda w: w, init_weights(tiny_config(vision=False))).vision is None
