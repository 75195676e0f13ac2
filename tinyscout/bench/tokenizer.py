"""How fast the tokenizer is: encode and decode beside tiktoken, training beside tokenizers, one thread each.

Everybody has the same vocabulary and the same text.  The contenders take turns, and the first turn goes round, so that
a disturbance meets them all.  Texts are made here from the interpreter's own library and from a seed: nothing is
downloaded, and every machine with the same Python measures the same bytes.
"""
import os
import sysconfig
import time
import unicodedata
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from rich.table import Table

from tinyscout.inputs.tokenizer import LLAMA4_PATTERN, Tokenizer, train
from tinyscout.progress import track

OURS = "tinyscout"
VOCABULARY = 200_000        # as many as Llama 4 has, where the text yields so many
LEARNED_FROM = 20           # megabytes of code and of languages each that the vocabulary is learned from, at most
SCRIPTS = [                 # ranges of letters: small ones of Latin with accents, Greek, Cyrillic, Hebrew, Arabic ...
    (0x61, 0x7B), (0xDF, 0x100), (0x3B1, 0x3CA), (0x430, 0x450), (0x5D0, 0x5EB), (0x620, 0x64B), (0x904, 0x950),
    (0x985, 0x9BA), (0xE01, 0xE31), (0x10D0, 0x10F1), (0x3041, 0x3097), (0x4E00, 0x56FF), (0xAC00, 0xB400)]
WORDS = 20_000              # different ones in each script


def code(size, rng):
    """The interpreter's standard library, its files in a random order, again and again  ->  str of `size` bytes"""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    sources, have = [], 0
    for path in (paths[n] for n in rng.permutation(len(paths)) if "site-packages" not in paths[n].parts):
        try:
            sources.append(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):       # some test files are broken on purpose
            continue
        have += len(sources[-1].encode("utf-8", "ignore"))
        if have >= size:
            break
    return truncate_utf8("".join(sources) * (size // have + 1), size)


def languages(size, rng):
    """Invented words in thirteen scripts, as unevenly frequent as those of a real language  ->  str"""
    parts, have = [], 0
    frequency = 1 / np.arange(1, WORDS + 1)
    lexicons = [to_strings(rng.integers(*script, (WORDS, 10)), rng.integers(1, 11, WORDS)) for script in SCRIPTS]
    while have < size:
        words = lexicons[rng.integers(len(SCRIPTS))]
        chosen = rng.choice(WORDS, 2000, p=frequency / frequency.sum())
        ends = rng.choice([" ", " ", " ", " ", ", ", ". ", "\n", " 1984 "], len(chosen))
        parts.append("".join(words[n] + end for n, end in zip(chosen, ends, strict=True)))
        have += len(parts[-1].encode())
    return truncate_utf8("".join(parts), size)


def any_unicode(size, rng):
    """Every assigned character as often as any other: hardly a piece comes twice  ->  str"""
    assigned = [n for n in range(0x110000) if unicodedata.category(chr(n)) not in ("Cn", "Cs", "Co")]
    return truncate_utf8(from_codes(rng.choice(assigned, size // 3)), size)


def long_words(size, rng):
    """Random small letters, 8 to 500 in a word: no piece comes twice, and each takes many merges  ->  str"""
    letters = rng.integers(ord("a"), ord("z") + 1, size)
    ends = np.cumsum(rng.integers(9, 502, size // 9))
    letters[ends[ends < size]] = ord(" ")
    return from_codes(letters)


TEXTS = {"code": code, "languages": languages, "any Unicode": any_unicode, "long words": long_words}


def from_codes(codes):
    return np.asarray(codes, "<u4").tobytes().decode("utf-32-le")


def to_strings(codes, lengths):
    """Rows of code points (N, L) and how many of each count  ->  N words"""
    return [from_codes(row[:n]) for row, n in zip(codes, lengths, strict=True)]


def truncate_utf8(text, size):
    """The beginning of a text, `size` bytes of UTF-8, never half a character."""
    return text.encode("utf-8", "ignore")[:size].decode("utf-8", "ignore")


def measure(megabytes=100, repeats=3, with_peer=True):
    """Run the benchmark.

    megabytes of each text (10**6 bytes of UTF-8), repeats int, with_peer: beside tiktoken and tokenizers
    ->  a dict that json can write: who was there, every sample in seconds, and whether the ids were the same.
    Without a peer a note says so.  Raises ValueError for sizes that are not positive.
    """
    if not megabytes > 0 or repeats < 1:
        raise ValueError("megabytes and repeats must be positive")
    size = int(megabytes * 1e6)
    report: dict = {"megabytes": megabytes, "repeats": repeats, "peers": {}, "samples": [], "agreement": [],
                    "notes": []}
    peers = find_peers(report) if with_peer else {}
    contenders: dict = {}
    jobs = training(contenders, peers, min(size, int(LEARNED_FROM * 1e6)), report)
    for name, make in TEXTS.items():
        jobs += coding(contenders, name, make, size, report)
    for job in track(jobs, "Measuring"):
        job()
    report["summary"] = speeds(report["samples"])
    return report


def find_peers(report):
    """{name: module} of those that are installed, with their versions and what is missing put into the report."""
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}     # one thread, as we have
    peers = {}
    for name in "tiktoken", "tokenizers":
        try:
            peers[name] = import_module(name)
            report["peers"][name] = version(name)
        except ImportError as error:
            report["notes"].append(f"{name} is not here to compare with: {error}")
    return peers


def training(contenders, peers, size, report):
    """The jobs that learn a vocabulary, in turns, and give it to those who are to encode with it."""
    texts: list[str] = []
    learners = {OURS: lambda: train(texts, VOCABULARY, special=(), progress=False)}
    if "tokenizers" in peers:
        learners["tokenizers"] = lambda: train_theirs(peers["tokenizers"], texts)
    seconds: dict = {name: [] for name in learners}

    def begin():
        rng = np.random.default_rng(0)
        whole = code(size, rng) + languages(size, rng)
        texts.extend(whole[n:n + 1_000_000] for n in range(0, len(whole), 1_000_000))

    def turn(n):
        for name, learner in in_turn(learners, n):
            took, learned = timed(learner)
            seconds[name].append(took)
            if name == OURS:
                contenders[OURS] = learned

    def end():
        tokens = contenders[OURS].tokens
        report["vocabulary"] = len(tokens)
        contenders[OURS] = Tokenizer(tokens)        # by ranks, as tiktoken has them and Meta's file
        if "tiktoken" in peers:
            contenders["tiktoken"] = peers["tiktoken"].Encoding(
                "same", pat_str=LLAMA4_PATTERN, mergeable_ranks=tokens, special_tokens={})
        report["samples"] += [{"name": name, "what": "train", "at": "code and languages", "bytes": count(texts),
                               "seconds": taken} for name, taken in seconds.items()]
        texts.clear()

    return [begin, *(lambda n=n: turn(n) for n in range(report["repeats"])), end]


def train_theirs(tokenizers, texts):
    """Byte-level BPE with the same pattern and as many tokens, learned by tokenizers."""
    pre = tokenizers.pre_tokenizers
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = pre.Sequence([pre.Split(tokenizers.Regex(LLAMA4_PATTERN), "isolated"),
                                         pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False))
    return theirs


def coding(contenders, at, make, size, report):
    """The jobs of one text: everybody encodes it and decodes the ids, turn by turn."""
    text: list[str] = []
    samples: dict = {}
    same: list[bool] = []

    def begin():
        text.append(make(size, np.random.default_rng(1)))

    def turn(n):
        ids = None
        for name, contender in in_turn(contenders, n):
            took, found = timed(contender.encode if name == OURS else contender.encode_ordinary, text[0])
            samples.setdefault((name, "encode"), []).append(took)
            same.append(ids is None or found == ids)
            ids = found
        for name, contender in in_turn(contenders, n):
            for what in "decode", "decode_bytes":
                took, back = timed(getattr(contender, what), ids)
                samples.setdefault((name, what), []).append(took)
                same.append(back == (text[0] if what == "decode" else text[0].encode()))

    def end():
        report["samples"] += [{"name": name, "what": what, "at": at, "bytes": count(text), "seconds": seconds}
                              for (name, what), seconds in samples.items()]
        report["agreement"].append({"at": at, "same ids, and the text comes back": all(same)})
        text.clear()

    return [begin, *(lambda n=n: turn(n) for n in range(report["repeats"])), end]


def in_turn(contenders, n):
    """The contenders as a list of pairs, in round n: who began the last round ends this one."""
    pairs = list(contenders.items())
    return pairs[n % len(pairs):] + pairs[:n % len(pairs)]


def timed(work, *arguments):
    """Seconds that the work takes, and what it returns."""
    begun = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - begun, result


def count(texts):
    return sum(len(text.encode()) for text in texts)


def speeds(samples):
    """Megabytes of text a second: median, slowest, fastest; and how many times the peer's median."""
    rows = []
    for sample in samples:
        rates = [sample["bytes"] / 1e6 / seconds for seconds in sample["seconds"]]
        rows.append({"name": sample["name"], "what": sample["what"], "at": sample["at"], "median": median(rates),
                     "slowest": min(rates), "fastest": max(rates)})
    theirs = {(row["what"], row["at"]): row["median"] for row in rows if row["name"] != OURS}
    for row in rows:
        if row["name"] == OURS and (row["what"], row["at"]) in theirs:
            row["times peer"] = row["median"] / theirs[row["what"], row["at"]]
    return rows


def show(report, console):
    """The summary as a table on a rich console."""
    table = Table(title=f"{report['megabytes']} MB of each text, {report['vocabulary']:,} tokens, one thread")
    for heading in "what", "text", "who":
        table.add_column(heading)
    for heading in "MB/s", "slowest", "fastest", "times peer":
        table.add_column(heading, justify="right")
    for row in report["summary"]:
        times = f"{row['times peer']:.2f}" if "times peer" in row else ""
        table.add_row(row["what"], row["at"], row["name"],
                      *(f"{row[key]:.1f}" for key in ("median", "slowest", "fastest")), times)
    console.print(table)
    for row in report["agreement"]:
        if not row["same ids, and the text comes back"]:
            console.print(f"{row['at']}: the ids or the texts were not the same")
    for note in report["notes"]:
        console.print(note)
