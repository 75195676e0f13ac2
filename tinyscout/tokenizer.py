"""Text to token ids and back: Llama 4's tokenizer, read from its files or trained on your own text.

Text is cut into pieces by a pattern, a piece is spelled in bytes, and adjacent tokens are merged by rank.
Cutting needs Unicode and is here; merging is tinyscout/reference/bpe.py, or csrc/cpp where that is built.
"""
import codecs
import functools
import json
from collections import Counter
from importlib import import_module
from itertools import islice, pairwise
from operator import length_hint
from pathlib import Path

import numpy as np
import regex

from tinyscout import vocabulary
from tinyscout.progress import track
from tinyscout.reference import bpe as reference
from tinyscout.vocabulary import LLAMA4_PATTERN, SMALL_SPECIAL, special_names

try:
    fastest = import_module("tinyscout._bpe")
except ImportError:     # no compiler on this machine: the reference gives the same ids, slowly
    fastest = reference

ROLES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>"}


class Tokenizer:
    """A vocabulary and its merges.

    tokens    {bytes: id}, among them all 256 single bytes
    merges    [(left id, right id)] in order of rank; None where the id of a token is its rank, as in Meta's files:
              then any two tokens merge that together spell a third
    special   {"<|name|>": id}: never made from text, only by name
    pattern   the regular expression that cuts text into pieces
    whole     is a piece that is a token taken as it is, unmerged?  By default where there are no merges
    ops       who merges: the C++ extension, or tinyscout.reference.bpe
    Raises ValueError where these do not fit together.
    """

    def __init__(self, tokens, merges=None, special=(), pattern=LLAMA4_PATTERN, whole=None, ops=fastest):
        self.tokens, self.special, self.pattern = dict(tokens), dict(special), pattern
        self.whole = merges is None if whole is None else whole
        self.bytes_of = checked_ids(self.tokens, self.special)
        self.vocab_size = max(self.bytes_of) + 1
        rows = pairs_of_ranks(self.tokens) if merges is None else pairs_of_merges(merges, self.tokens, self.bytes_of)
        self.pairs = np.array(rows, np.int32).reshape(-1, 4)    # left id, right id, rank, id of the merged token
        self.split = splitter(pattern, ops)
        self._encode = ops.Encoder(self.pairs, [self.tokens[bytes([byte])] for byte in range(256)],
                                   self.tokens if self.whole else {}, self.split)
        self._decode = ops.Decoder(self.bytes_of)
        self._names = regex.compile(r"\L<names>", names=list(self.special))     # of two that match, the longer

    def encode(self, text, special=False):
        """The ids of a text, list of int.

        special   False: all of it is text, and "<|eot|>" is seven characters, whoever typed them;
                  True: the names of special tokens become those tokens
        Raises ValueError where the text holds half of a surrogate pair, which is no character.
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
        return [self.decode_bytes([id]) for id in ids]

    def decode_bytes(self, ids):
        """The bytes that ids spell.  A token may end in the middle of a character: this need not be UTF-8.

        Raises ValueError for an id that is not in the vocabulary.
        """
        try:
            return self._decode(ids)
        except KeyError as error:
            raise ValueError(f"token id {error.args[0]} is not in the vocabulary of {self.vocab_size}") from None

    def decode(self, ids, errors="replace"):
        """The text that ids spell.  Broken UTF-8 becomes U+FFFD, or a ValueError with errors="strict"."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def stream(self):
        """A Stream: text while the ids come, never half a character."""
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
            read = vocabulary.read_json if found.suffix == ".json" else vocabulary.read_model
            return cls(**read(data), ops=ops)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{found}: {error}") from error
        except (TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"{found}: not built like a tokenizer.json ({error!r})") from error

    def save(self, path):
        """Write tokenizer.json, for tinyscout and for transformers.

        path   a file that ends in .json; or a directory, made if need be, that gets a tokenizer_config.json too
        Raises OSError where writing fails: what was there before is then still there.
        """
        path = Path(path)
        if path.suffix == ".json" and not path.is_dir():
            return vocabulary.write_json(path, vocabulary.as_json(self))
        path.mkdir(parents=True, exist_ok=True)
        config = path / "tokenizer_config.json"
        try:
            kept = dict(json.loads(config.read_bytes())) if config.exists() else {}
        except (ValueError, TypeError):
            raise ValueError(f"{config} exists and is not JSON: nothing was saved") from None
        ours = {role: name for role, name in ROLES.items() if name in self.special}
        vocabulary.write_json(path / "tokenizer.json", vocabulary.as_json(self))
        vocabulary.write_json(config, {**kept, **ours, "tokenizer_class": "PreTrainedTokenizerFast",
                                       "clean_up_tokenization_spaces": False})


class Stream:
    """Decodes ids one by one, and holds back the bytes of a character that is not complete yet."""

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

    texts        iterable of str; the names of special tokens are text in them, like any other
    vocab_size   ids in all: 256 bytes, then merges, then special tokens.  It comes out smaller where the texts
                 have no pair left to merge
    special      names; by default the 16 of Llama 4's that a small model can use
    Exact, and the same every time: of equally frequent pairs the smallest ids win.
    Raises ValueError where vocab_size has no room for bytes and special tokens.  equation (bpe-learn)
    """
    special = special_names(SMALL_SPECIAL) if special is None else list(special)
    room = vocab_size - 256 - len(special)
    if room < 0:
        raise ValueError(f"a vocabulary of {vocab_size} has no room for 256 bytes and {len(special)} special tokens")
    if isinstance(texts, str):
        raise ValueError("train takes several texts: put a single one in a list")
    cut = splitter(pattern, ops)
    counts: Counter[str] = Counter()
    for text in track(texts, "reading", length_hint(texts)) if progress else texts:
        counts.update(cut(text))
    found = islice(ops.train_bpe([piece.encode() for piece in counts], list(counts.values())), room)
    merges = list(track(found, "learning merges", room) if progress else found)
    spelling = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        spelling.append(spelling[left] + spelling[right])
    names = {name: len(spelling) + n for n, name in enumerate(special)}
    return Tokenizer({token: id for id, token in enumerate(spelling)}, merges, names, pattern, ops=ops)


def splitter(pattern, ops=fastest):
    """A function from text to the list of its pieces, which joined are the text again.

    What the pattern does not match is a piece too.  Raises ValueError where it is no regular expression.
    """
    if pattern == LLAMA4_PATTERN and hasattr(ops, "Llama4Split"):
        return ops.Llama4Split(character_classes())
    compiled = vocabulary.checked_pattern(pattern)

    def split(text):
        edges = [0, *(edge for match in compiled.finditer(text) for edge in match.span()), len(text)]
        return [text[start:stop] for start, stop in pairwise(edges) if start < stop]

    return split


@functools.cache
def character_classes():
    """What LLAMA4_PATTERN asks of a character, one byte per code point, for csrc/cpp/split.h.

    0 none of these, 1 capital, 2 small letter, 3 letter without case, 4 mark, 5 number, 6 line break, 7 space
    """
    kinds = regex.compile(r"([\p{Lu}\p{Lt}]+)|(\p{Ll}+)|([\p{Lm}\p{Lo}]+)|(\p{M}+)|(\p{N}+)|([\r\n]+)|([^\S\r\n]+)")
    classes = bytearray(0x110000)
    for match in kinds.finditer("".join(map(chr, range(0x110000)))):
        classes[match.start():match.end()] = bytes([match.lastindex]) * len(match.group())
    return bytes(classes)


def pairs_of_ranks(tokens):
    """Every way to cut a token into two tokens merges back into it, with its id as rank: rows of four ids."""
    find = tokens.get
    return [(left, right, id, id) for token, id in tokens.items() for n in range(1, len(token))
            if (left := find(token[:n])) is not None and (right := find(token[n:])) is not None]


def pairs_of_merges(merges, tokens, bytes_of):
    """Merges ranked as they stand in the list: rows of left id, right id, rank, merged id.  ValueError if one fails."""
    try:
        table = {(left, right): (rank, tokens[bytes_of[left] + bytes_of[right]])
                 for rank, (left, right) in enumerate(merges)}      # a merge that stands twice counts the last time
    except KeyError:
        raise ValueError("a merge needs a token that the vocabulary lacks") from None
    return [(*pair, *value) for pair, value in table.items()]


def checked_ids(tokens, special):
    """{id: bytes} of all tokens.  Raises ValueError where ids clash or are no ids, or where a byte has no token."""
    bytes_of = {id: token for token, id in tokens.items()} | {id: name.encode() for name, id in special.items()}
    for id in bytes_of:
        if type(id) is not int or not 0 <= id < 2**31:
            raise ValueError(f"a token id is a whole number from 0 to 2147483647, not {id!r}")
    if len(bytes_of) != len(tokens) + len(special):
        raise ValueError("two tokens have the same id")
    if missing := [byte for byte in range(256) if bytes([byte]) not in tokens]:
        raise ValueError(f"no token for {len(missing)} of the 256 bytes, first 0x{missing[0]:02X}: "
                         "this vocabulary cannot spell every text")
    return bytes_of
