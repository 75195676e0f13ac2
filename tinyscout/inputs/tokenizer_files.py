"""Tokenizer files: read Meta's tokenizer.model, read and write HF's tokenizer.json.

A parser returns the arguments of tinyscout.inputs.tokenizer.Tokenizer; unsupported content raises a ValueError.
"""
import base64
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import regex

FILE_NAMES = ("tokenizer.json", "tokenizer.model", "original/tokenizer.model")      # the first that exists is read

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LLAMA4_PATTERN = "|".join([
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTION}",    # a word, with the space or sign before it
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTION}",    # a word in capitals
    r"\p{N}{1,3}",                                              # digits, three at a time
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",                              # punctuation, with the line breaks after it
    r"\s*[\r\n]+",                                              # blank lines
    r"\s+(?!\S)",                                               # spaces; the last one belongs to the next word
    r"\s+",
])
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"   # HF's ByteLevel has it
NO_SPLIT = r"(?s:.+)"

# Llama 4's special tokens in the order of their ids; a range in brackets is a series of reserved names.
LLAMA4_SPECIAL = """
    begin_of_text end_of_text fim_prefix fim_middle fim_suffix header_start header_end eom eot step
    text_post_train[0:6] python_start python_end finetune_right_pad text_post_train[8:69]
    image_start image_end vision[0:2] tile_x_separator tile_y_separator vision[2:6] image vision[6:7] patch
    vision[7:1048] reasoning[0:8] reasoning_thinking_start reasoning_thinking_end [0:904]"""
SMALL_SPECIAL = """
    begin_of_text end_of_text header_start header_end eom eot step python_start python_end finetune_right_pad
    image_start image_end tile_x_separator tile_y_separator image patch"""

# HF writes bytes as visible characters: printable ones unchanged, the others shifted to U+0100 and above.
_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_SHIFTED = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_TO_UNICODE = [chr(byte if byte in _PRINTABLE else 0x100 + _SHIFTED.index(byte)) for byte in range(256)]
UNICODE_TO_BYTE = {character: byte for byte, character in enumerate(BYTE_TO_UNICODE)}


def find_file(directory: Path) -> Path | None:
    """Return the path of the tokenizer's file in a directory, or None."""
    return next((path for path in (directory / name for name in FILE_NAMES) if path.is_file()), None)


def special_names(layout: str = LLAMA4_SPECIAL) -> list[str]:
    """Return the names of special tokens in the order of their ids: by default all 2048 of Llama 4."""
    names = []
    for word in layout.split():
        group, _, span = word.partition("[")
        start, _, stop = span.rstrip("]").partition(":")
        stem = f"{group}_reserved_special_token" if group else "reserved_special_token"
        names += [f"<|{stem}_{n}|>" for n in range(int(start), int(stop))] if span else [f"<|{word}|>"]
    return names


def parse_tiktoken_model(data: bytes) -> dict[str, Any]:
    """Parse Meta's tokenizer.model: one token per line, base64 and rank.  Special tokens follow the last rank."""
    tokens: dict[bytes, int] = {}
    for n, line in enumerate(data.splitlines(), 1):
        try:
            token, rank = line.split()
            tokens[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError:
            raise ValueError(f"line {n} is not a token in base64 and its rank, as in Meta's tokenizer.model") from None
        if len(tokens) != n:
            raise ValueError(f"line {n} repeats a token")
    return {"tokens": tokens, "special": {name: len(tokens) + n for n, name in enumerate(special_names())}}


def parse_tokenizer_json(data: bytes) -> dict[str, Any]:
    """Parse HF's tokenizer.json: byte-level BPE only.  The post-processor is ignored: chat.py adds the same tokens."""
    content = json.loads(data.decode("utf-8"))
    model = content["model"]
    if (kind := model.get("type", "BPE")) != "BPE":
        raise ValueError(f"model type {kind!r} is not supported, only 'BPE'")
    for option in "dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback":
        if model.get(option):
            raise ValueError(f"the model's option {option} is not supported")
    if normalizer := content.get("normalizer"):
        raise ValueError(f"normalizer {normalizer['type']} is not supported")
    special = {}
    for added in content.get("added_tokens") or []:
        if flags := [flag for flag in ("lstrip", "rstrip", "single_word") if added.get(flag)]:
            raise ValueError(f"added token {added['content']!r}: {flags[0]} is not supported")
        special[added["content"]] = added["id"]
    tokens = {_to_bytes(token): id for token, id in model["vocab"].items() if token not in special}
    merges = []
    for n, merge in enumerate(model["merges"], 1):
        left, right = map(_to_bytes, merge.split(" ") if isinstance(merge, str) else merge)
        if not {left, right, left + right} <= tokens.keys():
            raise ValueError(f"merge {n} needs a token that the vocabulary lacks")
        merges.append((tokens[left], tokens[right]))
    return {"tokens": tokens, "merges": merges, "special": special,
            "pattern": _parse_pattern(content.get("pre_tokenizer")), "ignore_merges": bool(model.get("ignore_merges"))}


def to_tokenizer_json(tokenizer) -> dict[str, Any]:
    """Convert a Tokenizer to the content of a tokenizer.json, with merges in order of rank."""
    text = {id: "".join(BYTE_TO_UNICODE[byte] for byte in token) for token, id in tokenizer.tokens.items()}
    merge_rows = sorted(tokenizer.merge_table.tolist(), key=lambda row: (row[2], row[0], row[1]))
    vocab = {text[id]: id for id in sorted(text)}
    special = dict(sorted(tokenizer.special.items(), key=lambda item: item[1]))
    if list(special.values()) != list(range(len(vocab), len(vocab) + len(special))):
        vocab |= special        # HF numbers added tokens after the vocabulary unless they are part of it
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": tokenizer.pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": id, "content": name, **flags} for name, id in special.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": tokenizer.ignore_merges,
            "vocab": vocab, "merges": [[text[left], text[right]] for left, right, _, _ in merge_rows]},
    }


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: into a temporary file next to `path`, which then replaces it.  Raises OSError."""
    tmp_path = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with tmp_path.open("w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp_path, path)
    except OSError as error:
        raise OSError(error.errno, f"not saved: {error.strerror}", str(path)) from None
    finally:
        with suppress(OSError):
            tmp_path.unlink()


def _to_bytes(text):
    try:
        return bytes([UNICODE_TO_BYTE[character] for character in text])
    except KeyError:
        raise ValueError(f"token {text!r} is not written in the byte-level alphabet") from None


def _parse_pattern(pre_tokenizer):
    """Return the regular expression that a pre_tokenizer splits with.  Raises ValueError for any other kind."""
    is_sequence = pre_tokenizer and pre_tokenizer["type"] == "Sequence"
    steps = pre_tokenizer["pretokenizers"] if is_sequence else [pre_tokenizer or {"type": "null"}]
    defaults = {"use_regex": True, "add_prefix_space": True, "invert": False}
    match [defaults | step for step in steps]:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}]:
            return GPT2_PATTERN if use_regex else NO_SPLIT
        case [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
              {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]:
            return pattern
    names = " + ".join(str(step["type"]) for step in steps)
    raise ValueError(f"pre-tokenizer {names} is not supported with these settings: it must be a Split with a Regex, "
                     "isolated, and a ByteLevel that neither splits nor adds a space")


def compile_pattern(pattern: str):
    """Compile a regular expression.  Raises ValueError if it is invalid."""
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"the split pattern is not a regular expression: {error}") from None
