"""The chat format against transformers' own template, rendered live, and with it the differences that we know of."""
import numpy as np
import pytest

from tinyscout.config import tiny_config
from tinyscout.inputs.chat import encode_chat
from tinyscout.inputs.image import tile_layout

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")

from transformers.models.llama4.processing_llama4 import chat_template  # noqa: E402
from transformers.utils.chat_template_utils import render_jinja_template  # noqa: E402

CONFIG = tiny_config()
IMAGE = np.zeros((56, 56, 3), np.uint8)


class Bytes:
    """A byte is its own id; the special tokens have ids above."""

    special = {f"<|{name}|>": 300 + n for n, name in enumerate(
        ["header_start", "header_end", "eot", "eom", "image", "tile_x_separator", "tile_y_separator"])} | {
        "<|patch|>": CONFIG.patch_id, "<|image_start|>": CONFIG.image_start_id, "<|image_end|>": CONFIG.image_end_id,
        "<|begin_of_text|>": CONFIG.bos_id}

    def encode(self, text, special=False):
        return list(text.encode())


def render(messages, add_generation_prompt=True):
    """What tinyscout encodes, as text."""
    names = {n: name for name, n in Bytes.special.items()}
    tokens = encode_chat(messages, Bytes(), CONFIG, add_generation_prompt).tokens
    text = b"".join(names[n].encode() if n in names else bytes([n]) for n in tokens).decode()
    return text.replace("".join(tile_layout(1, 1, CONFIG.vision)), "<|image|>")


def render_with_template(messages, add_generation_prompt=True):
    """What transformers' template makes of the messages."""
    (text,), _ = render_jinja_template([messages], chat_template=chat_template, bos_token="<|begin_of_text|>",
                                       add_generation_prompt=add_generation_prompt)
    return text


def message(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("messages", [
    [message("user", "Hi")],
    [message("system", "You are a helpful assistant"), message("user", "Answer who are you in the form of jeopardy?")],
    [message("user", "  Hi \n"), message("assistant", " Ho\n\n"), message("user", "naïve café 你好")],
    [message("user", [{"type": "image", "image": IMAGE}, {"type": "text", "text": "What is this?"}])],
    [message("user", [{"type": "text", "text": "From "}, {"type": "image", "image": IMAGE},
                      {"type": "text", "text": " to "}, {"type": "image", "image": IMAGE}]),
     message("assistant", "Yes.")],
])
def test_the_same_text(messages, add_generation_prompt):
    text = render(messages, add_generation_prompt)
    assert text == render_with_template(messages, add_generation_prompt)


def test_known_difference_the_template_trims_the_system_message():
    messages = [message("system", " Be kind.\n"), message("user", "Hi")]
    assert render(messages).replace(" Be kind.\n", "Be kind.") == render_with_template(messages)


def test_known_difference_the_template_ends_tools_with_eot_and_quotes_them():
    messages = [message("user", "Rain?"), message("tool", "no")]
    assert render(messages).replace("no<|eom|>", '"no"<|eot|>') == render_with_template(messages)
