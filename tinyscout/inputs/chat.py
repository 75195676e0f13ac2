"""Encode a conversation: text as token ids, images as tiles.

A message is a dict, in the form that transformers made common::

    {"role": "user", "content": "What is this?"}
    {"role": "user", "content": [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "What is this?"}]}
    {"role": "user", "content": [{"type": "video", "frames": ["1.png", "2.png"], "max_tiles": 1}]}
    {"role": "assistant", "content": "[weather(city='Turin')]", "end": "eom"}     a tool is called
    {"role": "tool", "content": "sunny"}                                          the tool answers

An image, and each frame of a video, is anything that open_image takes; a video is encoded as its frames in order.
docs/chat.md describes the format of the prompt.
"""
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyscout.config import ScoutConfig, VisionConfig
from tinyscout.inputs.image import IMAGE_END, IMAGE_START, PATCH, ImageSource, split_into_tiles, tile_layout
from tinyscout.inputs.tokenizer import Tokenizer

ROLES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "ipython", "ipython": "ipython"}
BEGIN, HEADER_START, HEADER_END = "<|begin_of_text|>", "<|header_start|>", "<|header_end|>"
EOT, EOM = "<|eot|>", "<|eom|>"     # end of turn; end of message, if a tool's answer follows
END_OF_TEXT = "<|end_of_text|>"     # what a base model generates instead
END_TOKENS = {"eot": EOT, "eom": EOM}
CONFIG_FIELDS = {BEGIN: "bos_id", PATCH: "patch_id", IMAGE_START: "image_start_id", IMAGE_END: "image_end_id"}

Message = dict[str, Any]


class Prompt(NamedTuple):
    """Input of the model."""

    tokens: list[int]           # T ids; each <|patch|> among them is replaced by one row of the encoder's output
    images: list[np.ndarray]    # one array per image, in order: (tiles, 3, h, w) float32


def encode_chat(messages: Sequence[Message], tokenizer: Tokenizer, config: ScoutConfig,
                add_generation_prompt: bool = True) -> Prompt:
    """Encode a whole conversation as a Prompt.

    messages: list of dicts, see the top of the module.
    add_generation_prompt: open an assistant message at the end, for the model to fill.
    Text is encoded as plain text, so a message cannot contain a header.  Nothing is trimmed.
    Raises ValueError for an empty or malformed conversation, and for a tokenizer that does not fit the config;
    OSError or ValueError for an image that cannot be opened.
    """
    prompt = encode_turn(messages, None, tokenizer, config, add_generation_prompt)
    return Prompt([special_token_id(BEGIN, tokenizer, config), *prompt.tokens], prompt.images)


def encode_turn(messages: Sequence[Message], last_token: int | None, tokenizer: Tokenizer, config: ScoutConfig,
                add_generation_prompt: bool = True) -> Prompt:
    """Encode only the new messages of a conversation whose past is already in the cache.

    messages: the new ones, usually one of the user.
    last_token: the last token of the model's reply, which a generator yields but does not feed to the model;
    None if the cache already holds all of the past.
    The past is not encoded again: the text of a reply may encode to other ids.  Raises as encode_chat does.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("a conversation is a list of at least one message")
    prompt = Prompt([] if last_token is None else _close_reply(last_token, tokenizer, config), [])
    for n, message in enumerate(messages):
        _add_message(prompt, message, f"message {n}", tokenizer, config)
    if add_generation_prompt:
        prompt.tokens.extend(_encode_header("assistant", tokenizer, config))
    return prompt


def encode_prompt(text: str, images: Sequence[ImageSource], tokenizer: Tokenizer, config: ScoutConfig) -> Prompt:
    """Encode a plain completion without roles: the images first, then the text to continue.

    images: list of anything that open_image takes, usually empty.
    Raises ValueError if there is neither text nor image; otherwise as encode_chat does.
    """
    if not isinstance(text, str):
        raise ValueError(f"a prompt is a text, not {type(text).__name__}")
    if not text and not images:
        raise ValueError("the prompt is empty: give it a text or an image")
    prompt = Prompt([special_token_id(BEGIN, tokenizer, config)], [])
    for image in images:
        _add_image(prompt, image, None, tokenizer, config)
    prompt.tokens.extend(tokenizer.encode(text, special=False))
    return prompt


def image_tokens(rows: int, cols: int, tokenizer: Tokenizer, config: ScoutConfig) -> list[int]:
    """Return the ids of tile_layout, for an image of rows × cols tiles.  Equation (tile-tokens)."""
    names = tile_layout(rows, cols, _require_vision(config))
    ids = {name: special_token_id(name, tokenizer, config) for name in set(names)}
    return [ids[name] for name in names]


def special_token_id(name: str, tokenizer: Tokenizer, config: ScoutConfig) -> int:
    """Return the id of a special token, by name.

    Raises ValueError if the tokenizer lacks it, or if the config gives it another id: a model that does not recognise
    the patch tokens of its prompt would answer fluently about an image that it never saw.
    """
    if name not in tokenizer.special:
        raise ValueError(f"the tokenizer lacks the special token {name}, which this prompt needs")
    found, expected = tokenizer.special[name], getattr(config, CONFIG_FIELDS.get(name, ""), None)
    if expected is not None and found != expected:
        raise ValueError(f"{name} is {found} in the tokenizer and {expected} in the config ({CONFIG_FIELDS[name]})")
    return found


def _add_message(prompt, message, label, tokenizer, config):
    """Append header, content and end of a message to the prompt's lists."""
    role, parts, end_token = _parse_message(message, label)
    prompt.tokens.extend(_encode_header(ROLES[role], tokenizer, config))
    for part in parts:
        if part["type"] == "text":
            prompt.tokens.extend(tokenizer.encode(part["text"], special=False))
            continue
        for image in [part["image"]] if part["type"] == "image" else part["frames"]:
            _add_image(prompt, image, part.get("max_tiles"), tokenizer, config)
    prompt.tokens.append(special_token_id(end_token, tokenizer, config))


def _close_reply(last_token, tokenizer, config):
    """Return the tokens that close the model's reply; one that ends without EOT or EOM is closed by EOT."""
    eot = special_token_id(EOT, tokenizer, config)
    if last_token in (eot, tokenizer.special.get(EOM)):
        return [last_token]
    return [eot] if last_token == tokenizer.special.get(END_OF_TEXT) else [int(last_token), eot]


def _encode_header(role, tokenizer, config):
    """The role header.  Its parts are encoded separately, so that a message that starts with a newline keeps it."""
    return [special_token_id(HEADER_START, tokenizer, config), *tokenizer.encode(role, special=False),
            special_token_id(HEADER_END, tokenizer, config), *tokenizer.encode("\n\n", special=False)]


def _add_image(prompt, image, max_tiles, tokenizer, config):
    pixels, rows, cols = split_into_tiles(image, _require_vision(config), max_tiles)
    prompt.tokens.extend(image_tokens(rows, cols, tokenizer, config))
    prompt.images.append(pixels)


def _require_vision(config) -> VisionConfig:
    if config.vision is None:
        raise ValueError("this model reads text only: its config has no vision")
    return config.vision


def _parse_message(message, label):
    """Return a message as (role, parts, name of the end token).  Unknown content is an error, never dropped."""
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise ValueError(f'{label} is not a dict with "role" and "content"')
    role, content = message["role"], message["content"]
    if role not in list(ROLES):
        raise ValueError(f"{label}: unknown role {role!r}: choose from {', '.join(ROLES)}")
    if unknown := message.keys() - {"role", "content", "end"}:
        raise ValueError(f"{label}: cannot encode {', '.join(sorted(map(repr, unknown)))}; "
                         'write a tool call into the content, with "end": "eom"')
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{label}: the content is a text or a list of parts, not {type(content).__name__}")
    for part in parts:
        _check_part(part, label)
    if role in ("system", "user") and not any(part.get("text", "an image") for part in parts):
        raise ValueError(f"{label}: the {role} message is empty")
    end = message.get("end", "eom" if ROLES[role] == "ipython" else "eot")
    if end not in list(END_TOKENS):
        raise ValueError(f"a message ends with 'eot' or 'eom', not {end!r}")
    return role, parts, END_TOKENS[end]


def _check_part(part, label):
    kind, max_tiles = (part.get("type"), part.get("max_tiles", 1)) if isinstance(part, dict) else (None, None)
    if kind in ("image", "video") and not (isinstance(max_tiles, int) and max_tiles >= 1):
        raise ValueError(f"{label}: max_tiles is a whole number from 1, not {max_tiles!r}")
    if kind == "text" and isinstance(part.get("text"), str):
        return
    if kind == "image" and part.get("image") is not None:
        return
    if kind == "video" and isinstance(part.get("frames"), list | tuple) and part["frames"]:
        return
    raise ValueError(f'{label}: a part is {{"type": "text", "text": str}}, {{"type": "image", "image": image}} or '
                     f'{{"type": "video", "frames": [image, ...]}}, not {part!r:.80}')
