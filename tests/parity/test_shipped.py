"""The model in this package through transformers: the same logits and greedy tokens, on code and on images."""
import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra `parity`)")
pytest.importorskip("transformers", reason="transformers is not installed (extra `parity`)")
import tinyscout
from tinyscout.data.dialogs import ask, to_message
from tinyscout.inputs.chat import encode_chat, encode_prompt
from tinyscout.model import BUNDLED_MODEL

from . import oracle


@pytest.fixture(scope="module")
def models():
    return oracle.read(BUNDLED_MODEL), tinyscout.load(dtype="float32")


def prompts(model):
    code = "class Circle:\n    def __init__(self, radius):\n        self.radius = radius\n\n    def area(self):\n"
    yield encode_prompt(code, [], model.tokenizer, model.config)
    yield encode_prompt(code * 8, [], model.tokenizer, model.config)        # beyond the first chunk
    for n, task in enumerate(["colour", "same"]):
        question = ask(np.random.default_rng(n), task, held_out=True)
        yield encode_chat([to_message(question)], model.tokenizer, model.config)


@pytest.mark.parametrize("n", range(4))
def test_the_same_logits_and_tokens(models, n):
    hf_model, model = models
    prompt = list(prompts(model))[n]
    tiles = np.concatenate(prompt.images) if prompt.images else None
    expected = oracle.logits(hf_model, prompt.tokens, tiles)
    np.testing.assert_allclose(model.logits(prompt.tokens, prompt.images), expected, rtol=0, atol=1e-4)
    tokens = list(model.generate(prompt.tokens, prompt.images, max_new_tokens=16, temperature=0))
    assert tokens == oracle.greedy(hf_model, prompt.tokens, 16, tiles)
