"""Text to token ids and back: Llama 4's tokenizer, read from its files or trained on your own text.

A pattern splits text into pieces (the pre-tokenizer), a piece is turned into bytes, and adjacent tokens are merged by
rank.  Splitting, which needs Unicode, is here; merging is in tinyscout/reference/bpe.py, or in csrc/cpp if built.
"""
import codecs
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import islice, pairwise
from operator import length_hint
from pathlib import Path
from typing import Any

import numpy as np
import regex

from tinyscout.inputs import tokenizer_files
from tinyscout.inputs.tokenizer_files import LLAMA4_PATTERN, SMALL_SPECIAL, special_names
from tinyscout.progress import track
from tinyscout.reference import bpe as reference

default_ops: Any
try:
    default_ops = import_module("tinyscout._bpe")
except ImportError:     # not compiled: the reference gives the same ids, slowly
    default_ops = reference

SPECIAL_TOKENS_MAP = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>"}


class Tokenizer:
    """A vocabulary and its merges.

    tokens: {bytes: id}, including all 256 single bytes.
    merges: [(left id, right id)] in order of rank; None if the id of a token is its rank, as in Meta's files:
    then any two tokens merge if they spell a third.
    special: {name: id}; these ids are never produced from text, only by name.
    pattern: the regular expression that splits text into pieces.
    ignore_merges: if True, a piece that is itself a token is not split and merged; default True if merges is None.
    ops: the module that merges: the C++ extension, or tinyscout.reference.bpe.
    Raises ValueError if these do not fit together.
    """

    def __init__(self, tokens: Mapping[bytes, int], merges: Sequence[Sequence[int]] | None = None,
                 special: Mapping[str, int] | None = None, pattern: str = LLAMA4_PATTERN,
                 ignore_merges: bool | None = None, ops: Any = default_ops):
        self.tokens, self.special, self.pattern = dict(tokens), dict(special or {}), pattern
        self.ignore_merges = merges is None if ignore_merges is None else ignore_merges
        self.id_to_bytes = invert_vocab(self.tokens, self.special)
        self.vocab_size = max(self.id_to_bytes) + 1
        rows = (merges_from_ranks(self.tokens) if merges is None
                else merges_from_list(merges, self.tokens, self.id_to_bytes))
        self.merge_table = np.array(rows, np.int32).reshape(-1, 4)    # left id, right id, rank, id of the merged token
        self.split = make_pre_tokenizer(pattern, ops)
        self._encode = ops.Encoder(self.merge_table, [self.tokens[bytes([byte])] for byte in range(256)],
                                   self.tokens if self.ignore_merges else {}, self.split)
        self._decode = ops.Decoder(self.id_to_bytes)
        self._names = regex.compile(r"\L<names>", names=list(self.special))     # of two matches, the longer

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Encode a text as a list of ids.

        special: if False, `<|eot|>` is text of seven characters; if True, names of special tokens become those tokens.
        Raises ValueError if the text contains half of a surrogate pair, which is not a character.
        """
        if not isinstance(text, str):
            raise ValueError(f"encode takes text, not {type(text).__name__}")
        try:
            if not special or not self.special:
                return self._encode(text)
            ids: list[int] = []
            end = 0
            for name in self._names.finditer(text):
                ids += [*self._encode(text[end:name.start()]), self.special[name.group()]]
                end = name.end()
            return ids + self._encode(text[end:])
        except UnicodeEncodeError as error:
            raise ValueError(f"the text contains half of a surrogate pair, U+{ord(error.object[error.start]):04X}, "
                             "which is not a character") from None

    def token_bytes(self, ids: Iterable[int]) -> list[bytes]:
        """Return the bytes of each id as a list.  Raises ValueError for an id that is not in the vocabulary."""
        return [self.decode_bytes([id]) for id in ids]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode ids to bytes.  A token may end in the middle of a character, so these need not be valid UTF-8.

        Raises ValueError for an id that is not in the vocabulary.
        """
        try:
            return self._decode(ids)
        except KeyError as error:
            raise ValueError(f"token id {error.args[0]} is not in the vocabulary of {self.vocab_size}") from None

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Decode ids to text.  Invalid UTF-8 becomes U+FFFD, or raises ValueError with errors="strict"."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def stream(self) -> "Stream":
        """Return a Stream, which decodes ids one by one and never returns half a character."""
        return Stream(self)

    @classmethod
    def load(cls, path: Path | str, ops: Any = default_ops) -> "Tokenizer":
        """Read a tokenizer.json, Meta's tokenizer.model, or a directory that holds one of them.

        Raises FileNotFoundError if there is none, ValueError with the file's name if it cannot be used.
        """
        path = Path(path)
        file = tokenizer_files.find_file(path) if path.is_dir() else path
        if file is None:
            raise FileNotFoundError(f"{path}: no tokenizer.json and no tokenizer.model in this directory")
        data = file.read_bytes()
        is_json = file.suffix == ".json"
        try:
            parse = tokenizer_files.parse_tokenizer_json if is_json else tokenizer_files.parse_tiktoken_model
            return cls(**parse(data), ops=ops)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: {error}") from error
        except (TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"{file}: not in the format of a tokenizer.json ({error!r})") from error

    def save(self, path: Path | str) -> None:
        """Write a tokenizer.json that tinyscout and transformers read.

        path: a file that ends in .json, or a directory, created if needed, that gets a tokenizer_config.json too.
        Raises OSError if writing fails; the file that could not be written is then unchanged.
        """
        path = Path(path)
        if path.suffix == ".json" and not path.is_dir():
            tokenizer_files.write_json(path, tokenizer_files.to_tokenizer_json(self))
            return
        path.mkdir(parents=True, exist_ok=True)
        config_path = path / "tokenizer_config.json"
        try:
            config = dict(json.loads(config_path.read_bytes())) if config_path.exists() else {}
        except (ValueError, TypeError):
            raise ValueError(f"{config_path} exists and is not JSON: nothing was saved") from None
        special = {role: name for role, name in SPECIAL_TOKENS_MAP.items() if name in self.special}
        tokenizer_files.write_json(path / "tokenizer.json", tokenizer_files.to_tokenizer_json(self))
        tokenizer_files.write_json(config_path, {**config, **special, "tokenizer_class": "PreTrainedTokenizerFast",
                                                 "clean_up_tokenization_spaces": False})


class Stream:
    """Decodes ids one by one, and holds back the bytes of an incomplete character."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """Return the text that this id completes, possibly "".  Raises ValueError for an id outside the vocabulary."""
        return self._decoder.decode(self._tokenizer.decode_bytes([id]))

    def flush(self) -> str:
        """Return the rest of the text: "", or U+FFFD if the ids ended inside a character."""
        return self._decoder.decode(b"", final=True)


def train(texts: Iterable[str], vocab_size: int, special: Iterable[str] | None = None,
          pattern: str = LLAMA4_PATTERN, progress: bool = True, ops: Any = default_ops) -> Tokenizer:
    """Train a byte-level vocabulary on texts.

    texts: iterable of str; names of special tokens in them are ordinary text.
    vocab_size: number of ids: 256 bytes, then merges, then special tokens; fewer if no pair is left to merge.
    special: names; by default the 16 of Llama 4's that a small model can use.
    Exact and deterministic: of equally frequent pairs, the one with the smallest ids is merged, equation (bpe-learn).
    Raises ValueError if vocab_size is too small for the bytes and the special tokens.
    """
    special = special_names(SMALL_SPECIAL) if special is None else list(special)
    max_merges = vocab_size - 256 - len(special)
    if max_merges < 0:
        raise ValueError(f"a vocabulary of {vocab_size} is too small for 256 bytes and {len(special)} special tokens")
    if isinstance(texts, str):
        raise ValueError("train takes several texts: put a single one in a list")
    split = make_pre_tokenizer(pattern, ops)
    counts: Counter[str] = Counter()
    for text in track(texts, "reading", length_hint(texts)) if progress else texts:
        counts.update(split(text))
    merge_stream = islice(ops.train_bpe([piece.encode() for piece in counts], list(counts.values())), max_merges)
    merges = list(track(merge_stream, "learning merges", max_merges) if progress else merge_stream)
    id_to_bytes = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        id_to_bytes.append(id_to_bytes[left] + id_to_bytes[right])
    special_ids = {name: len(id_to_bytes) + n for n, name in enumerate(special)}
    return Tokenizer({token: id for id, token in enumerate(id_to_bytes)}, merges, special_ids, pattern, ops=ops)


def make_pre_tokenizer(pattern: str, ops: Any = default_ops) -> Callable[[str], list[str]]:
    """Return a function from text to the list of its pieces, which concatenate to the text.

    Text between matches is a piece too.  Raises ValueError if the pattern is not a valid regular expression.
    """
    if pattern == LLAMA4_PATTERN and hasattr(ops, "Llama4Split"):
        return ops.Llama4Split(character_classes())
    compiled = tokenizer_files.compile_pattern(pattern)

    def split(text):
        edges = [0, *(edge for match in compiled.finditer(text) for edge in match.span()), len(text)]
        return [text[start:stop] for start, stop in pairwise(edges) if start < stop]

    return split


@functools.cache
def character_classes():
    """Character classes of LLAMA4_PATTERN, one byte per code point, for csrc/cpp/split.h.

    0 none of these, 1 capital, 2 small letter, 3 letter without case, 4 mark, 5 number, 6 line break, 7 space
    """
    groups = regex.compile(r"([\p{Lu}\p{Lt}]+)|(\p{Ll}+)|([\p{Lm}\p{Lo}]+)|(\p{M}+)|(\p{N}+)|([\r\n]+)|([^\S\r\n]+)")
    classes = bytearray(0x110000)
    for match in groups.finditer("".join(map(chr, range(0x110000)))):
        classes[match.start():match.end()] = bytes([match.lastindex]) * len(match.group())
    return bytes(classes)


def merges_from_ranks(tokens):
    """Merge table if ids are ranks: any two tokens that spell a third merge, ranked by its id: rows of four ids."""
    find = tokens.get
    return [(left, right, id, id) for token, id in tokens.items() for n in range(1, len(token))
            if (left := find(token[:n])) is not None and (right := find(token[n:])) is not None]


def merges_from_list(merges, tokens, id_to_bytes):
    """Merge table of a list in order of rank: rows of left id, right id, rank, merged id.  Raises ValueError."""
    try:
        table = {(left, right): (rank, tokens[id_to_bytes[left] + id_to_bytes[right]])
                 for rank, (left, right) in enumerate(merges)}      # of equal merges, the last one counts
    except KeyError:
        raise ValueError("a merge needs a token that the vocabulary lacks") from None
    return [(*pair, *value) for pair, value in table.items()]


def invert_vocab(tokens, special):
    """Return {id: bytes} of all tokens.  Raises ValueError for invalid or duplicate ids, or a byte without a token."""
    id_to_bytes = {id: token for token, id in tokens.items()} | {id: name.encode() for name, id in special.items()}
    for id in id_to_bytes:
        if type(id) is not int or not 0 <= id < 2**31:
            raise ValueError(f"a token id is a whole number from 0 to 2147483647, not {id!r}")
    if len(id_to_bytes) != len(tokens) + len(special):
        raise ValueError("two tokens have the same id")
    if missing := [byte for byte in range(256) if bytes([byte]) not in tokens]:
        raise ValueError(f"no token for {len(missing)} of the 256 bytes, first 0x{missing[0]:02X}: "
                         "this vocabulary cannot spell every text")
    return id_to_bytes
