"""The tokenizer against tiktoken, tokenizers and transformers: the same ids, and the same merges learned."""
import base64
import os
import sysconfig
import unicodedata
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyscout import tokenizer as module
from tinyscout.laws.bpe import crowded
from tinyscout.reference import bpe as reference
from tinyscout.tokenizer import Tokenizer, train
from tinyscout.vocabulary import GPT2_PATTERN, LLAMA4_PATTERN

STDLIB = [path.read_text(encoding="utf-8") for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))]
EXTRA = "naïve Ελληνικά русский العربية 中文字符 日本語 한국어 हिन्दी 🦙🏽 ½ ٣ 12345 DON'T it's\n\n\t\r\n"
CHANGED_LATELY = "\u0295"        # a letter that changed from small to caseless in Unicode 17


def known_to_all(character):
    """Each library has its own version of Unicode, and they differ on what was unassigned until lately."""
    return unicodedata.category(character) != "Cn" and character not in CHANGED_LATELY


characters = st.characters(exclude_categories=["Cs", "Cn"]).filter(known_to_all)
text = st.one_of(
    st.text(characters), crowded,
    st.lists(st.sampled_from([*EXTRA.split(" "), " ", "  ", "\n"])).map("".join),
    st.builds(str.__mul__, characters, st.integers(0, 300)))


@pytest.fixture(scope="module")
def trained():
    return train([*STDLIB[::3], EXTRA * 20], 3000, progress=False)


@pytest.fixture(scope="module")
def ranked(trained):
    return Tokenizer(trained.tokens, special=trained.special)


@pytest.fixture(scope="module")
def tiktoken_of():
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    return lambda ours: tiktoken.Encoding("ours", pat_str=ours.pattern, mergeable_ranks=ours.tokens,
                                          special_tokens=ours.special)


@pytest.fixture(scope="module")
def tokenizers():
    return pytest.importorskip("tokenizers", reason="tokenizers is not installed")


def test_pattern_is_o200k(monkeypatch):
    """tiktoken publishes the pattern; its vocabulary, which would be downloaded, is not asked for."""
    public = pytest.importorskip("tiktoken_ext.openai_public", reason="tiktoken is not installed")
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda *_, **__: {})
    assert public.o200k_base()["pat_str"] == LLAMA4_PATTERN


def test_stdlib_like_tiktoken(ranked, tiktoken_of):
    theirs = tiktoken_of(ranked)
    for source in STDLIB:
        assert ranked.encode(source) == theirs.encode_ordinary(source)


def test_reference_like_tiktoken(ranked, tiktoken_of):
    slow = Tokenizer(ranked.tokens, ops=reference)
    source = "".join(STDLIB[::20])
    assert slow.encode(source) == tiktoken_of(ranked).encode_ordinary(source)


def test_unicode_like_tiktoken(ranked, tiktoken_of):
    theirs = tiktoken_of(ranked)

    @settings(max_examples=1500, deadline=None, derandomize=True, database=None)
    @given(text)
    def agree(sample):
        assert ranked.encode(sample) == theirs.encode_ordinary(sample)
    agree()


def test_every_character_like_tiktoken(ranked, tiktoken_of):
    """Alone and between letters: each of the hundred thousand assigned characters is cut as tiktoken cuts it."""
    theirs = tiktoken_of(ranked)
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs") and known_to_all(c)]
    for n in range(0, len(assigned), 4096):
        sample = "".join(f" {c}aA{c}Aa'{c}\n!!{c}{c}1" for c in assigned[n:n + 4096])
        assert ranked.encode(sample) == theirs.encode_ordinary(sample)


def test_long_runs_like_tiktoken(trained, tiktoken_of):
    texts = [before + character * 10_000 + after for character in " aA\n\r\t1'!/\u0301中\u00a0"
             for before in ("", "x") for after in ("", "x", "\n")]
    ranked = Tokenizer(train([*STDLIB[:20], *texts[::3]], 2000, progress=False).tokens)
    theirs = tiktoken_of(ranked)
    for sample in texts:
        assert ranked.encode(sample) == theirs.encode_ordinary(sample), repr(sample[:3])


def test_special_like_tiktoken(ranked, tiktoken_of):
    theirs = tiktoken_of(ranked)
    sample = "  <|eot|>\n <|image|><|patch|>x <|no|> <|eot|"
    assert ranked.encode(sample, special=True) == theirs.encode(sample, allowed_special="all")
    assert ranked.encode(sample) == theirs.encode(sample, disallowed_special=())
    assert ranked.decode(ranked.encode(sample, special=True)) == sample


def test_model_file_like_tiktoken(ranked, tiktoken_of, tmp_path):
    """Meta's format, read by us and by tiktoken's own reader."""
    load = pytest.importorskip("tiktoken.load", reason="tiktoken is not installed")
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % id for token, id in ranked.tokens.items()))
    assert Tokenizer.load(path).tokens == load.load_tiktoken_bpe(str(path))


@pytest.mark.parametrize("kind", ["merges", "ranks"])
def test_saved_file_in_tokenizers(trained, ranked, tokenizers, tmp_path, kind):
    ours = trained if kind == "merges" else ranked
    ours.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.get_vocab_size() == ours.vocab_size
    for source in STDLIB[::4]:
        assert ours.encode(source) == theirs.encode(source, add_special_tokens=False).ids
    assert theirs.decode(ours.encode(EXTRA)) == EXTRA

    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(text)
    def agree(sample):
        sample = f"<|eot|>{sample}<|patch|>{sample}"
        assert ours.encode(sample, special=True) == theirs.encode(sample, add_special_tokens=False).ids
    agree()


def test_saved_directory_in_transformers(trained, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    trained.save(tmp_path)
    sample = "<|begin_of_text|>" + EXTRA + STDLIB[0] + "<|eot|>"
    for theirs in (transformers.AutoTokenizer.from_pretrained(tmp_path),
                   transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))):
        assert theirs.encode(sample, add_special_tokens=False) == trained.encode(sample, special=True)
        assert theirs.decode(trained.encode(sample, special=True)) == sample
        assert len(theirs) == trained.vocab_size
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    plain = theirs.encode("a<|eot|>", add_special_tokens=False, split_special_tokens=True)
    assert plain == trained.encode("a<|eot|>")
    assert (theirs.bos_token, theirs.eos_token) == ("<|begin_of_text|>", "<|eot|>")
    assert theirs.pad_token_id == trained.special["<|finetune_right_pad|>"]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("pattern", [GPT2_PATTERN, LLAMA4_PATTERN])
def test_file_trained_by_tokenizers(tokenizers, tmp_path, pattern, whole):
    """Their ids start with the special tokens, their bytes stand in another order; then we write it, they read it."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=whole))
    pre = tokenizers.pre_tokenizers
    theirs.pre_tokenizer = pre.ByteLevel(add_prefix_space=False) if pattern == GPT2_PATTERN else pre.Sequence(
        [pre.Split(tokenizers.Regex(pattern), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<|eot|>", "<|eot|>x"], initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False)
    theirs.train_from_iterator(STDLIB[::9], trainer)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.load(tmp_path)
    ours.save(tmp_path / "again.json")
    again = tokenizers.Tokenizer.from_file(str(tmp_path / "again.json"))
    assert ours.pattern == pattern
    assert ours.vocab_size == theirs.get_vocab_size() == 1500
    for source in [*STDLIB[::6], EXTRA, "<|eot|>x <|eot|>y"]:
        expected = theirs.encode(source, add_special_tokens=False).ids
        assert ours.encode(source, special=True) == expected
        assert again.encode(source, add_special_tokens=False).ids == expected


@pytest.mark.parametrize("merger", list(dict.fromkeys([reference, module.fastest])), ids=lambda m: m.__name__)
def test_learning_like_tokenizers(tokenizers, merger):
    """Words of printing ASCII: there the byte order of their alphabet is ours, so equal counts are broken alike."""
    words = [word for source in STDLIB[::8] for word in source.split() if word.isascii() and word.isprintable()]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    alphabet = [chr(byte) for byte in range(33, 127)]
    theirs.train_from_iterator([" ".join(words)], tokenizers.trainers.BpeTrainer(
        vocab_size=94 + 1000, initial_alphabet=alphabet, show_progress=False))
    counts = Counter(word.encode() for word in words)
    learned = islice(merger.train_bpe(list(counts), list(counts.values())), 1000)
    vocabulary = theirs.get_vocab()
    expected = sorted(vocabulary, key=vocabulary.get)[94:]
    spelling = [bytes([byte]) for byte in range(256)]
    for left, right in learned:
        spelling.append(spelling[left] + spelling[right])
    assert [token.decode() for token in spelling[256:]] == expected


def test_metas_own_file():
    """Needs Llama 4's tokenizer.model or tokenizer.json, which have Meta's licence and are no part of this project."""
    path = os.environ.get("TINYSCOUT_LLAMA4_TOKENIZER")
    if not path:
        pytest.skip("TINYSCOUT_LLAMA4_TOKENIZER does not name Llama 4's tokenizer")
    ours = Tokenizer.load(path)
    assert ours.vocab_size == 202_048
    assert [ours.special[f"<|{name}|>"] for name in ("begin_of_text", "eot", "patch")] == [200_000, 200_008, 200_092]
    for sample, ids in {
        "Hello world": [19873, 3817], "Hello, world! 12345678": [19873, 24, 3817, 13, 220, 7235, 19596, 4293],
        "user": [1556], "system": [15651], "assistant": [140680], "ipython": [607, 6934], "\n\n": [368],
        "Roses are red,": [62, 19441, 583, 4242, 24], "I'LL don't WE'RE": [53, 19, 10962, 5863, 39986, 19, 1109],
        "naïve café 你好\uff0c世界 🦙": [1499, 164301, 49652, 52131, 4219, 586, 14287, 9522, 112, 247],
    }.items():
        assert ours.encode(sample) == ids
        assert ours.decode(ids) == sample
