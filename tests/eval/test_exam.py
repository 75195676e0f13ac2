"""The evaluation: counts against their definition, answers against free replies, and the command."""
import json
import math

import numpy as np
import pytest

import tinyscout
from tinyscout.cli import main
from tinyscout.config import ScoutConfig, TextConfig, VisionConfig, layer_plan
from tinyscout.data.dialogs import TASKS, ask, to_message
from tinyscout.eval.exam import bits_per_byte, count_correct, evaluate_questions
from tinyscout.eval.ngram_baseline import MAX_ORDER, NgramModel, compressor_bits_per_byte
from tinyscout.inputs.chat import encode_chat
from tinyscout.inputs.tokenizer import train
from tinyscout.train.recipe import N_SPECIAL, with_special_ids

LINES = "def f(x):\n    return x + 1\n"


@pytest.fixture(scope="module")
def model():
    """Random weights and a tokenizer of bytes."""
    text = TextConfig(dim=32, n_heads=2, n_kv_heads=1, head_dim=16, n_experts=4, hidden_dim=24, layers=layer_plan(4),
                      rope_scaling=None, chunk_size=32, attn_temperature_floor=64.0)
    vision = VisionConfig(dim=16, n_heads=2, n_layers=1, hidden_dim=64, adapter_dim=16, tile_size=32, patch_size=8,
                          max_tiles=1)
    config = with_special_ids(ScoutConfig(text, vision), 256 + N_SPECIAL)
    return tinyscout.random_model(config, tokenizer=train([], 256 + N_SPECIAL))


def witten_bell(seen, text):
    """Witten and Bell's smoothing, one byte at a time, from the shortest context to the longest."""
    bits = 0.0
    padded = bytes(MAX_ORDER - 1) + text
    for at in range(MAX_ORDER - 1, len(padded)):
        prob = 1 / 256
        for order in range(1, MAX_ORDER + 1):
            context = padded[at - order + 1:at]
            ends = [seen[i + len(context)] for i in range(len(seen) - len(context)) if seen.startswith(context, i)]
            if ends:
                kinds = len(set(ends))
                prob = (ends.count(padded[at]) + kinds * prob) / (len(ends) + kinds)
        bits -= math.log2(prob)
    return bits / len(text)


@pytest.mark.parametrize("text", [b"the cat sat on the mat", b"zzz", b"\xff\x00 mat", b"t"])
def test_counts_are_their_definition(text):
    seen = b"the cat sat; the hat sat; that cat has a mat"
    assert NgramModel(seen).bits_per_byte(text) == pytest.approx(witten_bell(seen, text), rel=1e-12)


def test_what_was_counted_costs_less():
    text = LINES.encode()
    assert NgramModel(text * 20).bits_per_byte(text) < 0.5
    assert NgramModel(b"0123456789" * 20).bits_per_byte(text) > 3


def test_compressors():
    assert all(bits < 1 for bits in compressor_bits_per_byte(b"a" * 10_000).values())
    assert compressor_bits_per_byte(np.random.default_rng(0).bytes(10_000))["gzip"] == pytest.approx(8, rel=0.01)


def test_bits_per_byte(model):
    """Windows of a text, one token at a time through the public interface."""
    text = LINES * 3
    bos_id = model.tokenizer.special["<|begin_of_text|>"]
    ids, nats = model.tokenizer.encode(text), 0.0
    for n in range(0, len(ids), 19):
        window = ids[n:n + 19]
        logits = model.logits([bos_id, *window[:-1]]).astype(np.float64)
        nats += sum(np.log(np.exp(row - row.max()).sum()) - (row[id] - row.max())
                    for row, id in zip(logits, window, strict=True))
    assert bits_per_byte(model, [("a", text)], length=20) == pytest.approx(nats / math.log(2) / len(text), rel=1e-5)
    assert bits_per_byte(model, [("a", text)], length=20, max_windows=1) > 0


def test_correct_is_what_a_greedy_reply_says(model):
    """If the correct answer is to say nothing, a reply is correct if its first token ends the turn."""
    questions = [ask(np.random.default_rng(n), task, held_out=True, size=32) for n, task in enumerate(TASKS[:4])]

    def reply(question):
        prompt = encode_chat([to_message(question)], model.tokenizer, model.config)
        return next(iter(model.generate(prompt.tokens, prompt.images, max_new_tokens=1, temperature=0)))

    stop_id = model.tokenizer.special["<|eot|>"]
    replies = [reply(question) for question in questions]
    silent = [question._replace(answer="") for question in questions]       # then only the end of the turn is asked for
    assert count_correct(model, silent) == sum(id == stop_id for id in replies)
    captions = [ask(np.random.default_rng(n), "caption", held_out=True, size=32) for n in range(3)]
    assert count_correct(model, captions) == 0          # however many of its tokens are wrong, it is one answer
    scores = evaluate_questions(model, n_questions=5, tasks=("colour", "same"))
    assert [score.task for score in scores] == ["colour", "same"]
    assert all(0 <= score.correct <= 5 == score.asked and 0 < score.chance <= 0.5 for score in scores)


def test_the_command(model, tmp_path, capsys):
    tinyscout.model.save(model, tmp_path / "model")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.py").write_text(LINES * 50)
    words = ["eval", "--model", str(tmp_path / "model"), "--questions", "2", "--text", str(tmp_path / "texts"),
             "--json", str(tmp_path / "eval.json")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "counts of 5 bytes" in out
    assert "chance" in out
    report = json.loads((tmp_path / "eval.json").read_text())
    assert {score["task"] for score in report["questions"]} == set(TASKS)
    assert 5 < report["text"]["the model"] < 20


def test_the_demo(model, tmp_path, capsys):
    tinyscout.model.save(model, tmp_path / "model")
    words = ["demo", "--model", str(tmp_path / "model"), "--tasks", "shape", "same", "--save", str(tmp_path / "seen")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.count("▀") >= 3 * 16 * 32                    # one image and a pair
    assert "def __repr__(self):" in out
    names = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert names == ["1-shape-1.png", "2-same-1.png", "2-same-2.png"]


def test_a_text_model_is_shown_nothing(tmp_path, capsys):
    text = TextConfig(dim=32, n_heads=2, n_kv_heads=1, head_dim=16, n_experts=4, hidden_dim=24, layers=layer_plan(1),
                      rope_scaling=None)
    config = with_special_ids(ScoutConfig(text, None), 256 + N_SPECIAL)
    text_only = tinyscout.random_model(config, tokenizer=train([], 256 + N_SPECIAL))
    tinyscout.model.save(text_only, tmp_path)
    assert main(["demo", "--model", str(tmp_path)]) == 2
    assert "reads text only" in capsys.readouterr().err
