"""The exam: counts against their definition, answers against free replies, and the command."""
import json
import math

import numpy as np
import pytest

import tinyscout
from tinyscout.cli import main
from tinyscout.config import ScoutConfig, TextConfig, VisionConfig, layer_plan
from tinyscout.data.dialogs import TASKS, ask, to_message
from tinyscout.eval import exam
from tinyscout.eval.ngram_baseline import ORDER, NgramModel, compressor_bits_per_byte
from tinyscout.inputs.chat import encode_chat
from tinyscout.inputs.tokenizer import train
from tinyscout.train.recipe import N_SPECIAL, with_special_ids

LINES = "def f(x):\n    return x + 1\n"


@pytest.fixture(scope="module")
def model():
    """Random weights and a tokenizer of bytes."""
    text = TextConfig(dim=32, n_heads=2, n_kv_heads=1, head_dim=16, n_experts=4, hidden_dim=24, layers=layer_plan(4),
                      rope_scaling=None, chunk_size=32, attn_temperature_floor=64.0)
    eye = VisionConfig(dim=16, n_heads=2, n_layers=1, hidden_dim=64, adapter_dim=16, tile_size=32, patch_size=8,
                       max_tiles=1)
    return tinyscout.random_model(with_special_ids(ScoutConfig(text, eye), 256 + N_SPECIAL), tokenizer=train([], 256 + N_SPECIAL))


def by_definition(seen, text):
    """Witten and Bell's smoothing, one byte at a time, from the shortest context to the longest."""
    bits = 0.0
    padded = bytes(ORDER - 1) + text
    for at in range(ORDER - 1, len(padded)):
        chance = 1 / 256
        for order in range(1, ORDER + 1):
            context = padded[at - order + 1:at]
            ends = [seen[i + len(context)] for i in range(len(seen) - len(context)) if seen.startswith(context, i)]
            if ends:
                kinds = len(set(ends))
                chance = (ends.count(padded[at]) + kinds * chance) / (len(ends) + kinds)
        bits -= math.log2(chance)
    return bits / len(text)


@pytest.mark.parametrize("text", [b"the cat sat on the mat", b"zzz", b"\xff\x00 mat", b"t"])
def test_counts_are_their_definition(text):
    seen = b"the cat sat; the hat sat; that cat has a mat"
    assert NgramModel(seen).bits_per_byte(text) == pytest.approx(by_definition(seen, text), rel=1e-12)


def test_what_was_counted_costs_less():
    seen = LINES.encode() * 20
    assert NgramModel(seen).bits_per_byte(LINES.encode()) < 0.5 < 3 < NgramModel(b"0123456789" * 20).bits_per_byte(LINES.encode())


def test_compressors():
    assert all(bits < 1 for bits in compressor_bits_per_byte(b"a" * 10_000).values())
    assert compressor_bits_per_byte(np.random.default_rng(0).bytes(10_000))["gzip"] == pytest.approx(8, rel=0.01)


def test_bits_of_a_byte(model):
    """Windows of a text, one token at a time through the public interface."""
    text = LINES * 3
    begin = model.tokenizer.special["<|begin_of_text|>"]
    ids, total = model.tokenizer.encode(text), 0.0
    for n in range(0, len(ids), 19):
        window = ids[n:n + 19]
        scores = model.logits([begin, *window[:-1]]).astype(np.float64)
        total += sum(np.log(np.exp(row - row.max()).sum()) - (row[id] - row.max())
                     for row, id in zip(scores, window, strict=True))
    assert exam.bits_per_byte(model, [("a", text)], length=20) == pytest.approx(total / math.log(2) / len(text),
                                                                                rel=1e-5)
    assert exam.bits_per_byte(model, [("a", text)], length=20, most=1) > 0


def test_right_is_what_a_greedy_reply_says(model):
    """Where the right answer is to say nothing, it is right if the reply's first token ends the turn."""
    asked = [ask(np.random.default_rng(n), task, held_out=True, size=32) for n, task in enumerate(TASKS[:4])]

    def reply(question):
        prompt = encode_chat([to_message(question)], model.tokenizer, model.config)
        return next(iter(model.generate(prompt.tokens, prompt.images, max_new_tokens=1, temperature=0)))

    stop = model.tokenizer.special["<|eot|>"]
    said = [reply(question) for question in asked]
    ends = [question._replace(answer="") for question in asked]         # then only the end of the turn is to be said
    assert exam.count_correct(model, ends) == sum(id == stop for id in said)
    captions = [ask(np.random.default_rng(n), "caption", held_out=True, size=32) for n in range(3)]
    assert exam.count_correct(model,
                              captions) == 0              # however many of its tokens are wrong, it is one answer
    marks = exam.evaluate_questions(model, n_questions=5, tasks=("colour", "same"))
    assert [mark.task for mark in marks] == ["colour", "same"]
    assert all(0 <= mark.correct <= 5 == mark.asked and 0 < mark.chance <= 0.5 for mark in marks)


def test_the_command(model, tmp_path, capsys):
    tinyscout.model.save(model, tmp_path / "model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.py").write_text(LINES * 50)
    words = ["exam", "--model", str(tmp_path / "model"), "--each", "2", "--text", str(tmp_path / "mine"),
             "--json", str(tmp_path / "exam.json")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "counts of 5 bytes" in said
    assert "chance" in said
    report = json.loads((tmp_path / "exam.json").read_text())
    assert {mark["task"] for mark in report["questions"]} == set(TASKS)
    assert 5 < report["text"]["the model"] < 20


def test_the_demo(model, tmp_path, capsys):
    tinyscout.model.save(model, tmp_path / "model")
    words = ["demo", "--model", str(tmp_path / "model"), "--tasks", "shape", "same", "--save", str(tmp_path / "seen")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.count("▀") >= 3 * 16 * 32                   # one picture and a pair
    assert "def __repr__(self):" in said
    names = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert names == ["1-shape-1.png", "2-same-1.png", "2-same-2.png"]


def test_a_model_without_eyes_is_shown_nothing(tmp_path, capsys):
    config = with_special_ids(ScoutConfig(TextConfig(dim=32, n_heads=2, n_kv_heads=1, head_dim=16, n_experts=4, hidden_dim=24,
                                             layers=layer_plan(1), rope_scaling=None), None), 256 + N_SPECIAL)
    blind = tinyscout.random_model(config, tokenizer=train([], 256 + N_SPECIAL))
    tinyscout.model.save(blind, tmp_path)
    assert main(["demo", "--model", str(tmp_path)]) == 2
    assert "reads text only" in capsys.readouterr().err
