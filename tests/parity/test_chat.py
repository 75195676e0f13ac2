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
PICTURE = np.zeros((56, 56, 3), np.uint8)


class Bytes:
    """A byte is its own id; the special tokens have ids above."""

    special = {f"<|{name}|>": 300 + n for n, name in enumerate(
        ["header_start", "header_end", "eot", "eom", "image", "tile_x_separator", "tile_y_separator"])} | {
        "<|patch|>": CONFIG.patch_id, "<|image_start|>": CONFIG.image_start_id, "<|image_end|>": CONFIG.image_end_id,
        "<|begin_of_text|>": CONFIG.bos_id}

    def encode(self, text, special=False):
        return list(text.encode())


def ours(messages, reply=True):
    names = {n: name for name, n in Bytes.special.items()}
    tokens = encode_chat(messages, Bytes(), CONFIG, reply).tokens
    text = b"".join(names[n].encode() if n in names else bytes([n]) for n in tokens).decode()
    return text.replace("".join(tile_layout(1, 1, CONFIG.vision)), "<|image|>")


def rendered(messages, reply=True):
    (text,), _ = render_jinja_template([messages], chat_template=chat_template, bos_token="<|begin_of_text|>",
                                       add_generation_prompt=reply)
    return text


def said(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize("reply", [True, False])
@pytest.mark.parametrize("messages", [
    [said("user", "Hi")],
    [said("system", "You are a helpful assistant"), said("user", "Answer who are you in the form of jeopardy?")],
    [said("user", "  Hi \n"), said("assistant", " Ho\n\n"), said("user", "naïve café 你好")],
    [said("user", [{"type": "image", "image": PICTURE}, {"type": "text", "text": "What is this?"}])],
    [said("user", [{"type": "text", "text": "From "}, {"type": "image", "image": PICTURE},
                   {"type": "text", "text": " to "}, {"type": "image", "image": PICTURE}]), said("assistant", "Yes.")],
])
def test_the_same_text(messages, reply):
    assert ours(messages, reply) == rendered(messages, reply)


def test_known_difference_the_template_trims_the_system_message():
    messages = [said("system", " Be kind.\n"), said("user", "Hi")]
    assert ours(messages).replace(" Be kind.\n", "Be kind.") == rendered(messages)


def test_known_difference_the_template_ends_tools_with_eot_and_quotes_them():
    messages = [said("user", "Rain?"), said("tool", "no")]
    assert ours(messages).replace("no<|eom|>", '"no"<|eot|>') == rendered(messages)
