"""The tokenizer: its laws on every implementation, numbers worked by hand, its files, and every way they can be bad."""
import base64
import errno
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings

from tinyscout.inputs import tokenizer as module
from tinyscout.inputs import tokenizer_files
from tinyscout.inputs.tokenizer import Tokenizer, make_pre_tokenizer, special_names, train
from tinyscout.inputs.tokenizer_files import GPT2_PATTERN, LLAMA4_PATTERN
from tinyscout.laws.bpe import LAWS
from tinyscout.reference import bpe as reference

MERGERS = [pytest.param(reference, id="python")]
if module.default_ops is not reference:
    MERGERS.append(pytest.param(module.default_ops, id="c++"))
all_mergers = pytest.mark.parametrize("merger", MERGERS)
CORPUS = ["the cat sat on the mat, and the rat sat on the cat. "] * 3 + ["A naïve man who sells café 你好世界 🦙 12345"]
BYTES = {bytes([byte]): byte for byte in range(256)}


@pytest.fixture(scope="module")
def trained():
    return train(CORPUS, 320, progress=False)


@all_mergers
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(merger, law, examples):
    @settings(max_examples=2 * examples, deadline=None, derandomize=True, database=None)
    @given(LAWS[law])
    def holds(drawn):
        law(merger, *drawn)
    holds()


@all_mergers
def test_merging_by_hand(merger):
    pairs = {(1, 2): (0, 3), (3, 3): (1, 4), (2, 1): (2, 5)}
    assert merger.byte_pair_merge([1, 2, 1, 2, 1], pairs) == [4, 1]
    assert merger.byte_pair_merge([2, 1, 2], pairs) == [2, 3]        # rank 0 wins against the pair further left
    assert merger.byte_pair_merge([7, 7, 7], {(7, 7): (0, 8)}) == [8, 7]
    assert merger.byte_pair_merge([], pairs) == []


@all_mergers
def test_learning_by_hand(merger):
    """banana 3 times, bandana 2: a n 10, n a 8, b a 5; then b an and an a, 5 each, and the smaller ids go first."""
    learned = list(merger.train_bpe([b"banana", b"bandana"], [3, 2]))
    a, b, d, n = b"abdn"
    assert learned == [(a, n), (b, 256), (256, a), (257, 258), (d, 258), (257, 260)]
    assert all(type(id) is int for pair in learned for id in pair)
    assert list(merger.train_bpe([], [])) == []


@all_mergers
@pytest.mark.parametrize("character", list(" aA\n\r\t1'!/\u0301中\u00a0\u017f"))
def test_long_runs_are_not_quadratic(merger, character):
    """100 thousand of one character, in a vocabulary that has runs of it.  Quadratic would be hours."""
    run = (character * 8).encode()
    tokenizer = Tokenizer(BYTES | {run[:n]: 300 + n for n in range(2, len(run) + 1)}, ops=merger)
    text = character * 100_000
    start = time.perf_counter()
    ids = tokenizer.encode(text)
    assert time.perf_counter() - start < 10
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text.encode())


@pytest.mark.parametrize(("text", "pieces"), [
    ("Hello, world! 12345678", ["Hello", ",", " world", "!", " ", "123", "456", "78"]),
    ("I'LL don't WE'RE", ["I'LL", " don't", " WE'RE"]),
    ("   two\n\n  lines \n", ["  ", " two", "\n\n", " ", " lines", " \n"]),
    ("HTTPServer", ["HTTPServer"]),
    ("中文ABC", ["中文", "ABC"]),
    ("it'\u017f", ["it'\u017f"]),        # the old long s
    ("!!/\n/ a/b", ["!!/\n/", " a", "/b"]),
    ("..\u0301a", ["..\u0301", "a"]),               # a mark goes with punctuation
    ("", []),
])
@all_mergers
def test_split(merger, text, pieces):
    assert make_pre_tokenizer(LLAMA4_PATTERN, merger)(text) == pieces


def test_split_keeps_what_the_pattern_does_not_match():
    assert make_pre_tokenizer("(b)|x*")("abba") == ["a", "b", "b", "a"]


def test_special_tokens_of_llama_4():
    names = special_names()
    assert len(names) == len(set(names)) == 2048
    known = {0: "begin_of_text", 1: "end_of_text", 7: "eom", 8: "eot", 9: "step",
             15: "text_post_train_reserved_special_token_5", 18: "finetune_right_pad",
             19: "text_post_train_reserved_special_token_8", 79: "text_post_train_reserved_special_token_68",
             80: "image_start", 81: "image_end", 84: "tile_x_separator", 85: "tile_y_separator", 90: "image",
             92: "patch", 1133: "vision_reserved_special_token_1047", 1143: "reasoning_thinking_end",
             1144: "reserved_special_token_0", 2047: "reserved_special_token_903"}
    assert {n: names[n] for n in known} == {n: f"<|{name}|>" for n, name in known.items()}


def test_special_tokens_only_where_asked(trained):
    eot = trained.special["<|eot|>"]
    assert eot not in trained.encode("a<|eot|>b")
    assert trained.encode("a<|eot|>b", special=True) == [ord("a"), eot, ord("b")]
    assert trained.decode([eot]) == "<|eot|>"


def test_vocabulary_of_training(trained):
    assert trained.vocab_size == 320
    assert list(trained.special.values()) == list(range(304, 320))
    assert [trained.decode([id]) for id in (256, 257, 258)] == ["at", "he", "the"]      # the frequent come first
    small = train(["ab"], 1000, special=["<|x|>"], progress=False)
    assert (small.vocab_size, small.special) == (258, {"<|x|>": 257})
    with pytest.raises(ValueError, match="too small for 256 bytes and 16 special tokens"):
        train(CORPUS, 271)
    with pytest.raises(ValueError, match="put a single one in a list"):
        train("text", 400)


def test_ids_that_are_none(trained):
    for id in (-1, 320, 10**12):
        with pytest.raises(ValueError, match=f"token id {id} is not in the vocabulary of 320"):
            trained.decode([65, id])


def test_empty(trained):
    assert trained.encode("") == trained.encode("", special=True) == []
    assert trained.decode([]) == ""


@all_mergers
@pytest.mark.parametrize("text", ["a\ud83e", "\udc80", "ok " * 50 + "\ud83e\ud83e"])
def test_half_a_surrogate_pair(merger, text):
    with pytest.raises(ValueError, match=r"half of a surrogate pair, U\+(D83E|DC80), which is not a character"):
        Tokenizer(BYTES, ops=merger).encode(text)
    with pytest.raises(ValueError, match="bytes"):
        Tokenizer(BYTES, ops=merger).encode(b"text")


def test_stream_holds_back_half_a_character():
    stream = Tokenizer(BYTES).stream()
    assert [stream.push(byte) for byte in "é🦙".encode()] == ["", "é", "", "", "", "🦙"]
    assert (stream.push(0xC3), stream.flush(), stream.flush()) == ("", "\ufffd", "")


@pytest.mark.parametrize(("arguments", "message"), [
    ({"tokens": {b"a": 0}}, "no token for 255 of the 256 bytes, first 0x00"),
    ({"tokens": BYTES | {b"ab": 3}}, "same id"),
    ({"tokens": BYTES, "special": {"<|x|>": 3}}, "same id"),
    ({"tokens": BYTES | {b"ab": -1}}, "whole number from 0"),
    ({"tokens": BYTES | {b"ab": 2**31}}, "whole number from 0"),
    ({"tokens": BYTES | {b"ab": 256.0}}, "whole number from 0"),
    ({"tokens": BYTES, "merges": [(97, 98)]}, "a merge needs a token that the vocabulary lacks"),
    ({"tokens": BYTES, "merges": [(97, 999)]}, "a merge needs a token that the vocabulary lacks"),
    ({"tokens": BYTES, "pattern": "(a"}, "not a regular expression"),
])
def test_constructor_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer(**arguments)


# Files

def are_equal(a, b):
    return (a.tokens, a.special, a.pattern, a.ignore_merges) == (b.tokens, b.special, b.pattern, b.ignore_merges) and (
        sorted(a.merge_table[:, [0, 1, 3]].tolist()) == sorted(b.merge_table[:, [0, 1, 3]].tolist()))


def tiktoken_file(tokens):
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in tokens.items())


def test_save_and_load(trained, tmp_path):
    trained.save(tmp_path / "alone.json")
    trained.save(tmp_path / "model")
    assert are_equal(Tokenizer.load(tmp_path / "alone.json"), trained)
    assert are_equal(Tokenizer.load(tmp_path / "model"), trained)
    assert sorted(os.listdir(tmp_path / "model")) == ["tokenizer.json", "tokenizer_config.json"]
    config = json.loads((tmp_path / "model/tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|eot|>"


def test_save_keeps_what_else_the_config_says(trained, tmp_path):
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"chat_template": "custom", "eos_token": "old"}')
    trained.save(tmp_path)
    saved = json.loads(config.read_text())
    assert (saved["chat_template"], saved["eos_token"]) == ("custom", "<|eot|>")
    config.write_text("{")
    before = (tmp_path / "tokenizer.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON: nothing was saved"):
        Tokenizer(BYTES).save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == before


@pytest.mark.parametrize("moment", ["dump", "fsync", "replace"])
def test_full_disk_loses_nothing(trained, tmp_path, monkeypatch, moment):
    path = tmp_path / "tokenizer.json"
    trained.save(path)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(tokenizer_files.json if moment == "dump" else os, moment, fail)
    with pytest.raises(OSError, match="not saved: No space left on device") as caught:
        Tokenizer(BYTES).save(path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["tokenizer.json"]


def test_metas_file(trained, tmp_path):
    """ranks in any order of lines; special tokens behind; found in a directory, and in its original/."""
    shuffled = {token: 303 - id for token, id in trained.tokens.items()}
    (tmp_path / "original").mkdir()
    (tmp_path / "original/tokenizer.model").write_bytes(tiktoken_file(shuffled))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.tokens == shuffled
    assert loaded.ignore_merges
    assert loaded.vocab_size == 304 + 2048
    assert loaded.special["<|patch|>"] == 304 + 92
    assert are_equal(Tokenizer.load(tmp_path / "original/tokenizer.model"), loaded)
    loaded.save(tmp_path)
    assert are_equal(Tokenizer.load(tmp_path), loaded)
    trained.save(tmp_path)
    assert are_equal(Tokenizer.load(tmp_path), trained)      # tokenizer.json comes first


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.json and no tokenizer.model in this directory"):
        Tokenizer.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Tokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(("content", "message"), [
    (b"\x0a\x0e\x0a\x05<unk>", "line 1 is not a token in base64 and its rank"),       # SentencePiece
    (b"YQ== 0\nYg==\n", "line 2 is not a token"),
    (b"YQ== 0\nY!== 1\n", "line 2 is not a token"),
    (b"YQ== 0\nYg== one\n", "line 2 is not a token"),
    (b"YQ== 0\nYQ== 1\n", "line 2 repeats a token"),
    (b"", "no token for 256 of the 256 bytes"),
    (tiktoken_file(BYTES)[:-9], "no token for 1 of the 256 bytes, first 0xFF"),
    (tiktoken_file(BYTES)[:-2] + b"\n", "same id"),                                       # cut off inside a number
])
def test_bad_tiktoken_file(tmp_path, content, message):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Tokenizer.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def edit_json(path, *keys, value):
    """The bytes of a good file with one value in it changed."""
    content = json.loads(path.read_text())
    parent = content
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(("edit", "message"), [
    (b"\xff{}", "can't decode byte 0xff"),
    (b"", "Expecting value"),
    (b"[]", "not in the format of a tokenizer.json"),
    (b"{}", "not in the format of a tokenizer.json"),
    (b"[" * 100_000, "tokenizer.json: "),
    (("model", "type", "Unigram"), "model type 'Unigram' is not supported, only 'BPE'"),
    (("model", "byte_fallback", True), "byte_fallback is not supported"),
    (("model", "vocab", {}), "no token for 256|vocabulary lacks"),
    (("model", "vocab", []), "not in the format"),
    (("model", "vocab", {"▁the": 0}), "token '▁the' is not written in the byte-level alphabet"),
    (("model", "merges", [["q", "x"]]), "merge 1 needs a token that the vocabulary lacks"),
    (("model", "merges", ["q"]), "not enough values|not in the format"),
    (("model", "merges", None), "not in the format"),
    (("normalizer", {"type": "NFC"}), "normalizer NFC is not supported"),
    (("pre_tokenizer", None), "pre-tokenizer null is not supported"),
    (("pre_tokenizer", {"type": "Metaspace"}), "pre-tokenizer Metaspace is not supported"),
    (("pre_tokenizer", {"type": "ByteLevel"}), "pre-tokenizer ByteLevel is not supported"),
    (("pre_tokenizer", "pretokenizers", 0, "behavior", "Removed"), r"pre-tokenizer Split \+ ByteLevel is not"),
    (("pre_tokenizer", "pretokenizers", 0, "pattern", {"Regex": "(a"}), "not a regular expression"),
    (("added_tokens", 0, "lstrip", True), "'<|begin_of_text|>': lstrip is not supported"),
    (("added_tokens", 0, "id", 65), "same id"),
    (("added_tokens", 0, "id", "65"), "whole number"),
])
def test_bad_tokenizer_json(trained, tmp_path, edit, message):
    path = tmp_path / "tokenizer.json"
    trained.save(path)
    path.write_bytes(edit if isinstance(edit, bytes) else edit_json(path, *edit[:-1], value=edit[-1]))
    with pytest.raises(ValueError, match=message) as caught:
        Tokenizer.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_plain_byte_level_is_gpt2(trained, tmp_path):
    path = tmp_path / "tokenizer.json"
    trained.save(path)
    path.write_bytes(edit_json(path, "pre_tokenizer", value={"type": "ByteLevel", "add_prefix_space": False}))
    assert Tokenizer.load(path).pattern == GPT2_PATTERN


def test_more_pieces_than_the_cache_holds(trained):
    """What was seen is remembered, up to a limit, and forgetting changes nothing."""
    slow = Tokenizer(trained.tokens, trained.merge_table[:, :2].tolist(), trained.special, ops=reference)
    text = "".join(f" {chr(0x4E00 + n % 331)}{chr(0x5000 + n // 331)}" for n in range(150_000))
    assert trained.encode(text) == slow.encode(text)
    assert trained.encode(text[:999]) == slow.encode(text[:999])


@all_mergers
def test_pieces_of_every_length(trained, merger):
    """Alone, in front of more text, met again, and beside their twins with zeros behind: none is taken for another."""
    spaced = Tokenizer(trained.tokens, trained.merge_table[:, :2].tolist(), pattern=r"[a-z\0]+| +", ops=merger)
    words = [("thecatonamat" * 8)[:n] + "\0" * zeros for n in range(1, 70) for zeros in (0, 1, 2)]
    for text in [*words, *words, " ".join(words), " ".join(words[::-1])]:
        expected = [id for piece in re.findall(r"[a-z\0]+| +", text) for id in merge_by_hand(piece, trained)]
        assert spaced.encode(text) == expected
    trained.encode("a")
    for text in words:          # the pattern of Llama 4 ends a word at a zero
        assert trained.encode(text) == [*merge_by_hand(text.rstrip("\0"), trained), *[0] * text.count("\0")]


def merge_by_hand(piece, tokenizer):
    pairs = {(left, right): (rank, merged) for left, right, rank, merged in tokenizer.merge_table.tolist()}
    return reference.byte_pair_merge([tokenizer.tokens[bytes([byte])] for byte in piece.encode()], pairs)


@all_mergers
def test_decoding(merger):
    """Ids with gaps, tokens of every length, and every kind of whole number in every kind of row."""
    tokens = BYTES | {bytes(range(65, 65 + n)): 2**31 - 1 - 1000 * n for n in range(2, 60)} | {b"zz": 256, b"yy": 512}
    tokenizer = Tokenizer(tokens, ops=merger)
    ids = list(tokens.values())
    expected = b"".join(tokens)
    for row in ids, tuple(ids), iter(ids), np.array(ids), list(np.array(ids)), dict.fromkeys(ids):
        assert tokenizer.decode_bytes(row) == expected
    assert tokenizer.decode_bytes(ids[::-1] * 50) == b"".join([*tokens][::-1]) * 50
    assert tokenizer.token_bytes(ids) == list(tokens)
    for id in (-1, 257, 2**31 - 1, 2**31, 2**64, -2**64, "a", None, 0.5):
        with pytest.raises(ValueError, match="is not in the vocabulary"):
            tokenizer.decode([65, id, 66])


def test_many_threads(trained):
    """Threads share a tokenizer, and the one that does not get the cache works without."""
    texts = [" ".join(CORPUS[n % 4][n % 50:] for n in range(start, start + 200)) for start in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(trained.encode, texts)) == [trained.encode(text) for text in texts]


def test_without_the_extension(trained):
    """No compiler, no extension: the same ids from Python alone."""
    program = ("import sys; sys.modules['tinyscout._bpe'] = None\n"
               "from tinyscout.inputs.tokenizer import default_ops, train\n"
               f"print(default_ops.__name__, train({CORPUS!r}, 320, progress=False).encode({CORPUS[3]!r}))")
    command = [sys.executable, "-X", "utf8", "-c", program]
    out = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert out.stdout == f"tinyscout.reference.bpe {trained.encode(CORPUS[3])}\n"
