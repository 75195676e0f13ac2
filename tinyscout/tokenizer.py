"""Text to token ids and back: Llama 4's tokenizer, read from its files or trained on your own text.

Text is cut into pieces by a pattern, a piece is spelled in bytes, and adjacent tokens are merged by rank.
Cutting needs Unicode and is here; merging is tinyscout/reference/bpe.py, or csrc/cpp where that is built.
"""
import base64
import binascii
import codecs
import functools
import json
import os
import tempfile
from collections import Counter
from contextlib import suppress
from itertools import islice
from operator import length_hint
from pathlib import Path

import numpy as np
import regex

from tinyscout.progress import track
from tinyscout.reference import bpe as reference

try:
    from tinyscout import _bpe as fastest
except ImportError:     # no compiler on this machine: the reference gives the same ids, slowly
    fastest = reference

ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
BIG, SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LLAMA4_PATTERN = "|".join([
    rf"[^\r\n\p{{L}}\p{{N}}]?{BIG}*{SMALL}+{ENDING}",   # a word, with the space or sign before it
    rf"[^\r\n\p{{L}}\p{{N}}]?{BIG}+{SMALL}*{ENDING}",   # a word in capitals
    r"\p{N}{1,3}",                                      # digits, three at a time
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",                      # punctuation, with line breaks after it
    r"\s*[\r\n]+",                                      # blank lines
    r"\s+(?!\S)",                                       # spaces, but the last one belongs to the next word
    r"\s+",
])
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"   # HF's ByteLevel has it

LLAMA4_NAMES = """
    begin_of_text end_of_text fim_prefix fim_middle fim_suffix header_start header_end eom eot step
    text_post_train[0:6] python_start python_end finetune_right_pad text_post_train[8:69]
    image_start image_end vision[0:2] tile_x_separator tile_y_separator vision[2:6] image vision[6:7] patch
    vision[7:1048] reasoning[0:8] reasoning_thinking_start reasoning_thinking_end [0:904]"""   # [..]: reserved
SMALL_SET = """
    begin_of_text end_of_text header_start header_end eom eot step python_start python_end finetune_right_pad
    image_start image_end tile_x_separator tile_y_separator image patch"""


def special_names(layout=LLAMA4_NAMES):
    """The names of special tokens in the order of their ids: all 2048 of Llama 4, unless another layout is given."""
    names = []
    for word in layout.split():
        group, _, span = word.partition("[")
        start, _, stop = span.rstrip("]").partition(":")
        stem = f"{group}_reserved_special_token" if group else "reserved_special_token"
        names += [f"<|{stem}_{n}|>" for n in range(int(start), int(stop))] if span else [f"<|{word}|>"]
    return names


class Tokenizer:
    """A vocabulary and its merges.

    tokens    {bytes: id}, among them all 256 single bytes
    merges    [(left id, right id)] in order of rank; None where the id of a token is its rank, as in Meta's files:
              then any two tokens merge that spell a third
    special   {"<|name|>": id}: never made from text, only by name
    pattern   what cuts text into pieces
    whole     is a piece that is a token taken as it is, without merging?
    ops       who merges: csrc/cpp or tinyscout.reference.bpe
    Raises ValueError where these do not fit together.
    """

    def __init__(self, tokens, merges=None, special=(), pattern=LLAMA4_PATTERN, whole=None, ops=fastest):
        self.tokens, self.special, self.pattern = dict(tokens), dict(special), pattern
        self.whole = merges is None if whole is None else whole
        self.bytes_of = {id: token for token, id in self.tokens.items()}
        self.bytes_of |= {id: name.encode() for name, id in self.special.items()}
        if len(self.bytes_of) != len(self.tokens) + len(self.special):
            raise ValueError("two tokens have the same id")
        for id in self.bytes_of:
            if type(id) is not int or not 0 <= id < 2**31:
                raise ValueError(f"a token id is a whole number from 0 to 2147483647, not {id!r}")
        missing = [byte for byte in range(256) if bytes([byte]) not in self.tokens]
        if missing:
            raise ValueError(f"no token for {len(missing)} of the 256 bytes, first 0x{missing[0]:02X}: "
                             "this vocabulary cannot spell every text")
        self.vocab_size = max(self.bytes_of) + 1
        self.pairs = _pairs_of_ranks(self.tokens) if merges is None else _pairs_of_merges(merges, self)
        self.split = splitter(pattern, ops)
        self._encode = ops.Encoder(self.pairs, [self.tokens[bytes([byte])] for byte in range(256)],
                                   self.tokens if self.whole else {}, self.split)
        self._names = regex.compile(r"\L<names>", names=list(self.special))     # the longest name wins

    def __len__(self):
        return self.vocab_size

    def encode(self, text, special=False):
        """The ids of a text, list of int.

        special   False: all of it is text, and "<|eot|>" is seven characters, whoever typed them;
                  True: names of special tokens become those tokens
        Raises ValueError where text holds half of a surrogate pair, which is no character.
        """
        if not isinstance(text, str):
            raise ValueError(f"encode takes text, not {type(text).__name__}")
        try:
            if not special or not self.special:
                return self._encode(text)
            ids, end = [], 0
            for name in self._names.finditer(text):
                ids += [*self._encode(text[end:name.start()]), self.special[name.group()]]
                end = name.end()
            return ids + self._encode(text[end:])
        except UnicodeEncodeError as error:
            raise ValueError(f"the text holds half of a surrogate pair, U+{ord(error.object[error.start]):04X}, "
                             "which is no character") from None

    def pieces(self, ids):
        """What each id spells, list of bytes.  Raises ValueError for an id that is not in the vocabulary."""
        try:
            return [self.bytes_of[id] for id in ids]
        except KeyError as error:
            raise ValueError(f"token id {error.args[0]} is not in the vocabulary of {self.vocab_size}") from None

    def decode_bytes(self, ids):
        """The bytes that ids spell.  A token may end in the middle of a character, so this need not be UTF-8."""
        return b"".join(self.pieces(ids))

    def decode(self, ids, errors="replace"):
        """The text that ids spell; broken UTF-8 becomes U+FFFD, or a ValueError with errors="strict"."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def stream(self):
        """A Stream: text as the ids come, never half a character."""
        return Stream(self)

    @classmethod
    def load(cls, path, ops=fastest):
        """Read a tokenizer.json, Meta's tokenizer.model, or a directory that holds one of them.

        Raises FileNotFoundError where there is none, ValueError with the file's name where it cannot be used.
        """
        path = Path(path)
        places = [path / name for name in ("tokenizer.json", "tokenizer.model", "original/tokenizer.model")]
        found = next((place for place in places if place.is_file()), None) if path.is_dir() else path
        if found is None:
            raise FileNotFoundError(f"{path}: no tokenizer.json and no tokenizer.model in this directory")
        data = found.read_bytes()
        try:
            return cls(**(_read_json(data) if found.suffix == ".json" else _read_model(data)), ops=ops)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{found}: {error or 'nested too deeply'}") from None
        except (TypeError, KeyError, AttributeError, IndexError):
            raise ValueError(f"{found}: not built like a tokenizer.json") from None

    def save(self, path):
        """Write tokenizer.json, for tinyscout and for transformers.

        path   a file that ends in .json; or a directory, made if need be, that also gets a tokenizer_config.json
        Raises OSError where writing fails: what was there before is then still there.
        """
        path = Path(path)
        if path.suffix == ".json" and not path.is_dir():
            return _write_json(path, _as_json(self))
        path.mkdir(parents=True, exist_ok=True)
        _write_json(path / "tokenizer.json", _as_json(self))
        config = path / "tokenizer_config.json"
        kept = json.loads(config.read_bytes()) if config.exists() else {}
        roles = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>"}
        _write_json(config, {**kept, "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
                             **{role: name for role, name in roles.items() if name in self.special}})


class Stream:
    """Decodes ids one by one and holds back the bytes of a character that is not complete yet."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id):
        """The text that this id completes, perhaps "".  Raises ValueError for an id outside the vocabulary."""
        return self._decoder.decode(self._tokenizer.decode_bytes([id]))

    def flush(self):
        """What is left at the end: "", or U+FFFD where the ids stopped inside a character."""
        return self._decoder.decode(b"", final=True)


def train(texts, vocab_size, special=None, pattern=LLAMA4_PATTERN, progress=True, ops=fastest):
    """Learn a byte-level vocabulary from texts.

    texts        iterable of str; special names in them are text like any other
    vocab_size   ids in all: 256 bytes, the merges, then the special tokens.  It comes out smaller where the text
                 has no pair left to merge
    special      names, by default the 16 of Llama 4's that a small model can use
    Exact, and the same every time: of equally frequent pairs the smallest ids win.  Raises ValueError where
    vocab_size has no room for bytes and special tokens.  equation (bpe-learn)
    """
    special = special_names(SMALL_SET) if special is None else list(special)
    room = vocab_size - 256 - len(special)
    if room < 0:
        raise ValueError(f"a vocabulary of {vocab_size} has no room for 256 bytes and {len(special)} special tokens")
    if isinstance(texts, str):
        raise ValueError("train takes several texts: put a single one in a list")
    cut, counts = splitter(pattern, ops), Counter()
    for text in track(texts, "reading", length_hint(texts)) if progress else texts:
        counts.update(cut(text))
    found = islice(ops.learn([piece.encode() for piece in counts], list(counts.values())), room)
    merges = list(track(found, "learning merges", room) if progress else found)
    spelling = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        spelling.append(spelling[left] + spelling[right])
    names = {name: len(spelling) + n for n, name in enumerate(special)}
    return Tokenizer({token: id for id, token in enumerate(spelling)}, merges, names, pattern, ops=ops)
