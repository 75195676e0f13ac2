"""The model in this package: it opens without a path, it is small, and it knows a fixed sample of what it learned."""
import numpy as np
import pytest

import tinyscout
from tinyscout.data.dialogs import ask, to_message
from tinyscout.data.needles import encode_lines, make_haystack
from tinyscout.eval.exam import bits_per_byte, evaluate_questions
from tinyscout.eval.needle import greedy_correct
from tinyscout.inputs.chat import BEGIN, encode_chat
from tinyscout.model import BUNDLED_MODEL

KNOWN = {       # of 40 questions each: what it got right when it was made, less what rounding may turn
    "shape": 36, "colour": 36, "count": 33, "position": 36, "relation": 27, "same": 36,
    "more": 36, "changed": 36, "number": 35, "chart": 36, "word": 36, "caption": 34,
}


@pytest.fixture(scope="module")
def model():
    return tinyscout.load(dtype="float32")


def test_it_fits_into_a_wheel():
    assert sum(path.stat().st_size for path in BUNDLED_MODEL.iterdir()) < 12_000_000


def test_it_is_a_scout_in_small(model):
    text = model.config.text
    assert (text.n_experts, text.top_k) == (16, 1)
    assert [layer.rope for layer in text.layers] == [True, True, True, False]
    assert all(layer.moe for layer in text.layers)
    assert text.qk_norm
    assert text.attn_temperature
    assert model.config.vision is not None


def test_it_completes_code(model):
    code = "<|begin_of_text|>import numpy as np\n\n\nclass Point:\n    def __init__(self"
    prompt = model.tokenizer.encode(code, special=True)
    completion = model.tokenizer.decode(list(model.generate(prompt, max_new_tokens=3, temperature=0)))
    assert completion.startswith(",")


def test_unread_code_costs_less_than_xz_asks(model):
    text = ('def mean(values):\n    """The arithmetic mean."""\n    if not values:\n'
            '        raise ValueError("no values")\n    return sum(values) / len(values)\n')
    assert bits_per_byte(model, [("mean.py", text)]) < 3


def test_it_answers_about_images(model):
    for score in evaluate_questions(model, n_questions=40, seed=1):
        assert score.correct >= KNOWN[score.task], score


def test_it_finds_facts_far_beyond_its_training(model):
    """Sixteen in texts of 8,192 tokens, where rows of 512 were the longest that it saw."""
    lines, filler = encode_lines(model.tokenizer), np.tile(model.tokenizer.encode("total = 0\nfor x in row:\n"), 900)
    correct = 0
    for seed in (0, 1):
        haystack = make_haystack(np.random.default_rng(seed), filler, 8191, lines, n_facts=8, n_queries=8,
                                 chunk_size=model.config.text.chunk_size)
        correct += greedy_correct(haystack, model.tokenizer.special[BEGIN], model).sum()
    assert correct >= 14


def test_a_reply_is_short_and_ends(model):
    question = ask(np.random.default_rng(3), "count", held_out=True)
    prompt = encode_chat([to_message(question)], model.tokenizer, model.config)
    ids = list(model.generate(prompt.tokens, prompt.images, max_new_tokens=10, temperature=0))
    assert ids[-1] in model.config.stop_ids
    assert model.tokenizer.decode(ids[:-1]).isdecimal()
