"""A conversation becomes token ids, and its pictures become tiles beside them.

A message is a dict, in the form that transformers made common:
    {"role": "user", "content": "What is this?"}
    {"role": "user", "content": [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "What is this?"}]}
    {"role": "user", "content": [{"type": "video", "frames": ["1.png", "2.png"], "max_tiles": 1}]}
    {"role": "assistant", "content": "[weather(city='Turin')]", "end": "eom"}     a tool is called
    {"role": "tool", "content": "sunny"}                                          the tool answers
An image, and each frame of a video, is whatever open_picture takes; a film is no more than its frames in a row.
The format itself is docs/chat.md.
"""
from typing import Any, NamedTuple

from tinyscout.inputs.image import IMAGE_END, IMAGE_START, PATCH, split_into_tiles, tile_layout

ROLES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "ipython", "ipython": "ipython"}
BEGIN, HEADER_START, HEADER_END = "<|begin_of_text|>", "<|header_start|>", "<|header_end|>"
EOT, EOM = "<|eot|>", "<|eom|>"     # the turn is over; the message is over, but a tool is still to speak
END_OF_TEXT = "<|end_of_text|>"     # what a base model says instead
ENDS = {"eot": EOT, "eom": EOM}
CONFIG_FIELDS = {BEGIN: "bos_id", PATCH: "patch_id", IMAGE_START: "image_start_id", IMAGE_END: "image_end_id"}


class Prompt(NamedTuple):
    """What the model is given."""

    tokens: list[int]       # T ids; every <|patch|> among them is a place for one row of the encoder's output
    images: list[Any]       # one array per picture, in order: (tiles, 3, h, w) float32


def encode_chat(messages, tokenizer, config, reply=True):
    """A whole conversation as a Prompt.

    messages   list of dicts, see the top of the file;  config  a ScoutConfig
    reply      open an assistant message at the end, for the model to fill
    Text is encoded as plain text, so nobody can write a header into a message.  Nothing is trimmed.
    Raises ValueError for an empty or malformed conversation, and for a tokenizer that does not fit the config;
    OSError or ValueError for a picture that cannot be opened.
    """
    prompt = encode_turn(messages, None, tokenizer, config, reply)
    return Prompt([special_token_id(BEGIN, tokenizer, config), *prompt.tokens], prompt.images)


def encode_turn(messages, last, tokenizer, config, reply=True):
    """Only what is new, for a conversation whose past is already in the cache.

    messages   the new ones, mostly one of the user
    last       the last token of the model's reply, which a generator yields and does not feed to the model any more;
               None where the cache holds the past to its end
    The past is never encoded again: the ids that the model sampled need not be those that encoding its text gives.
    Raises as encode_chat does.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("a conversation is a list of at least one message")
    prompt = Prompt([] if last is None else _close(last, tokenizer, config), [])
    for n, message in enumerate(messages):
        _add_message(prompt, message, f"message {n}", tokenizer, config)
    if reply:
        prompt.tokens.extend(_header("assistant", tokenizer, config))
    return prompt


def encode_prompt(text, pictures, tokenizer, config):
    """A plain completion, without roles: the pictures first, then the text to continue.

    pictures   list of anything that open_picture takes, mostly empty
    Raises ValueError where there is neither text nor picture; otherwise as encode_chat does.
    """
    if not isinstance(text, str):
        raise ValueError(f"a prompt is a text, not {type(text).__name__}")
    if not text and not pictures:
        raise ValueError("the prompt is empty: give it a text or a picture")
    prompt = Prompt([special_token_id(BEGIN, tokenizer, config)], [])
    for picture in pictures:
        _add_picture(prompt, picture, None, tokenizer, config)
    prompt.tokens.extend(tokenizer.encode(text, special=False))
    return prompt


def image_tokens(rows, cols, tokenizer, config):
    """The ids that stand for a picture of rows × cols tiles: tile_layout, looked up.  Equation (tile-tokens)."""
    names = tile_layout(rows, cols, config.vision)
    ids = {name: special_token_id(name, tokenizer, config) for name in set(names)}
    return [ids[name] for name in names]


def special_token_id(name, tokenizer, config):
    """The id of a special token, by name.

    Raises ValueError where the tokenizer lacks it, or where the config says that it is another: a model whose
    patches stand at ids that it does not know as patches would answer fluently about a picture it never saw.
    """
    if name not in tokenizer.special:
        raise ValueError(f"the tokenizer has no special token {name}, which this prompt needs")
    found, expected = tokenizer.special[name], getattr(config, CONFIG_FIELDS.get(name, ""), None)
    if expected is not None and found != expected:
        raise ValueError(f"{name} is {found} in the tokenizer and {expected} in the config ({CONFIG_FIELDS[name]})")
    return found


def _add_message(prompt, message, where, tokenizer, config):
    """header, content, end; appended to the prompt's own lists."""
    role, parts, end = _check(message, where)
    prompt.tokens.extend(_header(ROLES[role], tokenizer, config))
    for part in parts:
        if part["type"] == "text":
            prompt.tokens.extend(tokenizer.encode(part["text"], special=False))
            continue
        for picture in [part["image"]] if part["type"] == "image" else part["frames"]:
            _add_picture(prompt, picture, part.get("max_tiles"), tokenizer, config)
    prompt.tokens.append(special_token_id(end, tokenizer, config))


def _close(last, tokenizer, config):
    """The end of the model's reply.  One that was cut short, or ended the whole text, is ended as a turn."""
    eot = special_token_id(EOT, tokenizer, config)
    if last in (eot, tokenizer.special.get(EOM)):
        return [last]
    return [eot] if last == tokenizer.special.get(END_OF_TEXT) else [int(last), eot]


def _header(role, tokenizer, config):
    """Who speaks.  The pieces are encoded one by one: a message that starts with a line break keeps it."""
    return [special_token_id(HEADER_START, tokenizer, config), *tokenizer.encode(role, special=False),
            special_token_id(HEADER_END, tokenizer, config), *tokenizer.encode("\n\n", special=False)]


def _add_picture(prompt, picture, max_tiles, tokenizer, config):
    if config.vision is None:
        raise ValueError("this model reads text only: its config has no vision")
    pixels, rows, cols = split_into_tiles(picture, config.vision, max_tiles)
    prompt.tokens.extend(image_tokens(rows, cols, tokenizer, config))
    prompt.images.append(pixels)


def _end(name):
    if name not in list(ENDS):
        raise ValueError(f"a message ends with 'eot' or 'eom', not {name!r}")
    return ENDS[name]


def _check(message, where):
    """A message as (role, parts, name of the end token).  What is not understood is refused, never dropped."""
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise ValueError(f'{where} is not a dict with "role" and "content"')
    role, content = message["role"], message["content"]
    if role not in list(ROLES):
        raise ValueError(f"{where}: no role {role!r}; there are {', '.join(ROLES)}")
    if unknown := message.keys() - {"role", "content", "end"}:
        raise ValueError(f"{where}: cannot encode {', '.join(sorted(map(repr, unknown)))}; "
                         'write a tool call into the content, with "end": "eom"')
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{where}: the content is a text or a list of parts, not {type(content).__name__}")
    for part in parts:
        _check_part(part, where)
    if role in ("system", "user") and not any(part.get("text", "a picture") for part in parts):
        raise ValueError(f"{where}: the {role} says nothing")
    return role, parts, _end(message.get("end", "eom" if ROLES[role] == "ipython" else "eot"))


def _check_part(part, where):
    kind, most = (part.get("type"), part.get("max_tiles", 1)) if isinstance(part, dict) else (None, None)
    if kind in ("image", "video") and not (isinstance(most, int) and most >= 1):
        raise ValueError(f"{where}: max_tiles is a whole number from 1, not {most!r}")
    if kind == "text" and isinstance(part.get("text"), str):
        return
    if kind == "image" and part.get("image") is not None:
        return
    if kind == "video" and isinstance(part.get("frames"), list | tuple) and part["frames"]:
        return
    raise ValueError(f'{where}: a part is {{"type": "text", "text": str}}, {{"type": "image", "image": picture}} or '
                     f'{{"type": "video", "frames": [picture, ...]}}, not {part!r:.80}')
