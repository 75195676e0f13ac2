"""Benchmark of the tokenizer, with one thread: encode and decode against tiktoken, training against tokenizers.

All engines have the same vocabulary and the same text.  They take turns, and every round begins with another one, so
that a disturbance affects them all.  Texts are made from the interpreter's standard library and from a seed: nothing
is downloaded, and every machine with the same Python measures the same bytes.
"""
import os
import sysconfig
import time
import unicodedata
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from rich.table import Table

from tinyscout.inputs.tokenizer import LLAMA4_PATTERN, Tokenizer, train
from tinyscout.progress import track

TINYSCOUT = "tinyscout"
VOCAB_SIZE = 200_000        # as large as Llama 4's; less if the text does not yield enough tokens
MAX_TRAIN_MEGABYTES = 20    # of code and of languages each, to train the vocabulary
SCRIPTS = [                 # ranges of letters: lowercase Latin, also with accents, Greek, Cyrillic, Hebrew, Arabic ...
    (0x61, 0x7B), (0xDF, 0x100), (0x3B1, 0x3CA), (0x430, 0x450), (0x5D0, 0x5EB), (0x620, 0x64B), (0x904, 0x950),
    (0x985, 0x9BA), (0xE01, 0xE31), (0x10D0, 0x10F1), (0x3041, 0x3097), (0x4E00, 0x56FF), (0xAC00, 0xB400)]
WORDS = 20_000              # different words in each script


def make_code(size, rng):
    """The files of the standard library in random order, repeated as needed  ->  str of `size` bytes"""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    sources, nbytes = [], 0
    for path in (paths[n] for n in rng.permutation(len(paths)) if "site-packages" not in paths[n].parts):
        try:
            sources.append(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):       # some test files are broken on purpose
            continue
        nbytes += len(sources[-1].encode("utf-8", "ignore"))
        if nbytes >= size:
            break
    return truncate_utf8("".join(sources) * (size // nbytes + 1), size)


def make_languages(size, rng):
    """Invented words in thirteen scripts, with the uneven frequencies of a real language  ->  str"""
    parts, nbytes = [], 0
    frequency = 1 / np.arange(1, WORDS + 1)
    lexicons = [to_strings(rng.integers(*script, (WORDS, 10)), rng.integers(1, 11, WORDS)) for script in SCRIPTS]
    while nbytes < size:
        words = lexicons[rng.integers(len(SCRIPTS))]
        chosen = rng.choice(WORDS, 2000, p=frequency / frequency.sum())
        ends = rng.choice([" ", " ", " ", " ", ", ", ". ", "\n", " 1984 "], len(chosen))
        parts.append("".join(words[n] + end for n, end in zip(chosen, ends, strict=True)))
        nbytes += len(parts[-1].encode())
    return truncate_utf8("".join(parts), size)


def make_any_unicode(size, rng):
    """Every assigned character with equal probability, so that hardly any piece occurs twice  ->  str"""
    assigned = [n for n in range(0x110000) if unicodedata.category(chr(n)) not in ("Cn", "Cs", "Co")]
    return truncate_utf8(from_codes(rng.choice(assigned, size // 3)), size)


def make_long_words(size, rng):
    """Random lowercase letters, 8 to 500 per word, so that no piece occurs twice and each takes many merges  ->  str"""
    letters = rng.integers(ord("a"), ord("z") + 1, size)
    ends = np.cumsum(rng.integers(9, 502, size // 9))
    letters[ends[ends < size]] = ord(" ")
    return from_codes(letters)


TEXTS: dict[str, Callable[[int, np.random.Generator], str]] = {
    "code": make_code, "languages": make_languages, "any Unicode": make_any_unicode, "long words": make_long_words}


def from_codes(codes):
    return np.asarray(codes, "<u4").tobytes().decode("utf-32-le")


def to_strings(codes, lengths):
    """Rows of code points (N, L), and the length of each word (N,)  ->  N words"""
    return [from_codes(row[:n]) for row, n in zip(codes, lengths, strict=True)]


def truncate_utf8(text, size):
    """Cut a text to at most `size` bytes of UTF-8, without splitting a character."""
    return text.encode("utf-8", "ignore")[:size].decode("utf-8", "ignore")


def measure(megabytes: float = 100, repeats: int = 3, compare: bool = True) -> dict:
    """Run the benchmark.

    megabytes of each text (10**6 bytes of UTF-8), compare: also measure tiktoken and tokenizers
    ->  a dict that json can write: the engines, every sample in seconds, and whether the ids were the same.
    Notes list the engines that are not installed.  Raises ValueError for sizes that are not positive.
    """
    if not megabytes > 0 or repeats < 1:
        raise ValueError("megabytes and repeats must be positive")
    size = int(megabytes * 1e6)
    report: dict = {"megabytes": megabytes, "repeats": repeats, "peers": {}, "samples": [], "agreement": [],
                    "notes": []}
    modules = import_engines(report) if compare else {}
    total = repeats * (1 + ("tokenizers" in modules) + 3 * len(TEXTS) * (1 + ("tiktoken" in modules)))
    for _ in track(run_all(modules, size, report), "Measuring", total):
        pass
    report["summary"] = speeds(report["samples"])
    return report


def import_engines(report: dict) -> dict:
    """{external engine: module} of the installed ones.  Versions and missing engines are added to the report."""
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}     # one thread, like tinyscout
    modules = {}
    for name in "tiktoken", "tokenizers":
        try:
            modules[name] = import_module(name)
            report["peers"][name] = version(name)
        except ImportError as error:
            report["notes"].append(f"{name} is not available: {error}")
    return modules


def run_all(modules: dict, size: int, report: dict) -> Iterator[None]:
    """Measure training and then every text.  Fill the report, and yield after each sample."""
    vocabulary = yield from run_training(modules, min(size, int(MAX_TRAIN_MEGABYTES * 1e6)), report)
    engines = {TINYSCOUT: Tokenizer(vocabulary)}            # merges by rank, as in tiktoken and in Meta's file
    if "tiktoken" in modules:
        engines["tiktoken"] = modules["tiktoken"].Encoding(
            "same", pat_str=LLAMA4_PATTERN, mergeable_ranks=vocabulary, special_tokens={})
    for name, make_text in TEXTS.items():
        yield from run_text(engines, name, make_text(size, np.random.default_rng(1)), report)


def run_training(modules, size, report):
    """Measure the speed of training a vocabulary.  Yield after each sample  ->  tinyscout's {bytes: id}"""
    rng = np.random.default_rng(0)
    corpus = make_code(size, rng) + make_languages(size, rng)
    texts = [corpus[n:n + 1_000_000] for n in range(0, len(corpus), 1_000_000)]
    trainers: dict[str, Callable] = {TINYSCOUT: lambda: train(texts, VOCAB_SIZE, special=(), progress=False)}
    if "tokenizers" in modules:
        trainers["tokenizers"] = lambda: train_tokenizers(modules["tokenizers"], texts)
    samples: dict[str, list[float]] = {name: [] for name in trainers}
    for n in range(report["repeats"]):
        for name, trainer in rotate(trainers, n):
            seconds, tokenizer = time_call(trainer)
            samples[name].append(seconds)
            if name == TINYSCOUT:
                vocabulary = tokenizer.tokens
            yield
    report["vocabulary"] = len(vocabulary)
    report["samples"] += [{"name": name, "what": "train", "at": "code and languages",
                           "bytes": sum(len(text.encode()) for text in texts), "seconds": seconds}
                          for name, seconds in samples.items()]
    return vocabulary


def train_tokenizers(tokenizers, texts):
    """Train byte-level BPE with tokenizers, with the same pattern and number of tokens."""
    pre = tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre.Sequence([pre.Split(tokenizers.Regex(LLAMA4_PATTERN), "isolated"),
                                            pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def run_text(engines: dict, text_name: str, text: str, report: dict) -> Iterator[None]:
    """Measure the speed of encoding a text and decoding its ids, in rounds.  Yield after each sample."""
    samples: dict[tuple[str, str], list[float]] = {}
    is_same = True
    for n in range(report["repeats"]):
        ids = None
        for name, engine in rotate(engines, n):
            seconds, new_ids = time_call(engine.encode if name == TINYSCOUT else engine.encode_ordinary, text)
            samples.setdefault((name, "encode"), []).append(seconds)
            is_same = is_same and (ids is None or new_ids == ids)
            ids = new_ids
            yield
        for name, engine in rotate(engines, n):
            for method, expected in ("decode", text), ("decode_bytes", text.encode()):
                seconds, decoded = time_call(getattr(engine, method), ids)
                samples.setdefault((name, method), []).append(seconds)
                is_same = is_same and decoded == expected
                yield
    report["samples"] += [{"name": name, "what": method, "at": text_name, "bytes": len(text.encode()),
                           "seconds": seconds} for (name, method), seconds in samples.items()]
    report["agreement"].append({"at": text_name, "same ids, and decoding restores the text": is_same})


def rotate(engines: dict, n: int) -> list[tuple]:
    """The engines in the order of round n, which begins with engine n modulo their number."""
    pairs = list(engines.items())
    return pairs[n % len(pairs):] + pairs[:n % len(pairs)]


def time_call(function, *arguments):
    """Seconds of a call, and its result."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def speeds(samples: list[dict]) -> list[dict]:
    """Megabytes of text per second: median, slowest and fastest, and the ratio to the external engine's median."""
    rows = []
    for sample in samples:
        rates = [sample["bytes"] / 1e6 / seconds for seconds in sample["seconds"]]
        rows.append({"name": sample["name"], "what": sample["what"], "at": sample["at"], "median": median(rates),
                     "slowest": min(rates), "fastest": max(rates)})
    medians = {(row["what"], row["at"]): row["median"] for row in rows if row["name"] != TINYSCOUT}
    for row in rows:
        if row["name"] == TINYSCOUT and (row["what"], row["at"]) in medians:
            row["times peer"] = row["median"] / medians[row["what"], row["at"]]
    return rows


def show(report: dict, console) -> None:
    """Print the summary as a table."""
    table = Table(title=f"{report['megabytes']} MB of each text, {report['vocabulary']:,} tokens, one thread")
    for heading in "what", "text", "engine":
        table.add_column(heading)
    for heading in "MB/s", "slowest", "fastest", "ratio":
        table.add_column(heading, justify="right")
    for row in report["summary"]:
        times = f"{row['times peer']:.2f}" if "times peer" in row else ""
        table.add_row(row["what"], row["at"], row["name"],
                      *(f"{row[key]:.1f}" for key in ("median", "slowest", "fastest")), times)
    console.print(table)
    for row in report["agreement"]:
        if not row["same ids, and decoding restores the text"]:
            console.print(f"{row['at']}: the engines disagree on the ids, or decoding does not restore the text")
    for note in report["notes"]:
        console.print(note)
