"""Facts planted in long text, and asked for: how far back does a model find one line?

    #!kq=739        a fact: a key and a value, both random
    #?kq=739        the question further on; the answer is what follows the equals sign

All works on token ids, whatever the tokenizer: a line is encoded once, in two parts, so that its answer begins with a
token of its own.
"""
from itertools import product
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np

KEYS = ["".join(pair) for pair in product(ascii_lowercase, repeat=2)]
VALUES = 1000
SAME = 0.2              # of the pairs that fall into one chunk so many stay: there no far look is needed


class EncodedLines(NamedTuple):
    """The parts of all lines as token ids: a fact is facts[key] and values[value], its question asks[key] and those."""

    facts: list[np.ndarray]
    asks: list[np.ndarray]
    values: list[np.ndarray]
    longest: int            # tokens of the longest line


class Planted(NamedTuple):
    """A row of text with needles in it."""

    tokens: np.ndarray      # (T,) as the row was
    answer: np.ndarray      # (T,) bool: the tokens of the answers, which are to be learned
    hidden: np.ndarray      # (T,) bool: all others of the needles.  Nothing before them tells what they are


class Haystack(NamedTuple):
    """A long text with facts in it and questions at its end, each with its answer."""

    tokens: np.ndarray      # (length,) as the filler was
    spans: np.ndarray       # (queries, 2) int64: an answer is tokens[start:stop], given all before it
    depths: np.ndarray      # (queries,) float64: where the fact that is asked for begins, 0 first .. 1 last


def encode_lines(tokenizer):
    """All lines as ids, ready to be planted: Lines.  Key and value are plain text to the tokenizer."""
    def encode(text):
        return np.array(tokenizer.encode(text), np.int64)

    facts, asks = ([encode(f"#{mark}{key}=") for key in KEYS] for mark in "!?")
    values = [encode(f"{value:03}\n") for value in range(VALUES)]
    return EncodedLines(facts, asks, values, max(map(len, [*facts, *asks])) + max(map(len, values)))


def plant(rng, row, lines, pairs, chunk, straddle=False, keep=0):
    """Overwrites places in a row of text with facts and, further on, the questions about them.

    row       (T,) token ids; it is not changed
    lines     Lines;  pairs  how many facts at most, each with its question
    chunk     tokens that the local layers see together.  Of the pairs that fall into one chunk only a fifth stays,
              but one pair stays in any case
    straddle  may a line cross the edge of a chunk, where no local layer can read it?  Edges are counted from the
              beginning of the row
    keep      how many tokens at the beginning stay: 1 where the row starts with <|begin_of_text|>
    Returns Planted.  Raises ValueError where the row or a chunk has no room for a line.
    """
    tokens, answer, hidden = row.copy(), np.zeros(len(row), bool), np.zeros(len(row), bool)
    places = free_slots(rng, len(row), chunk, lines.longest, straddle)
    places = places[places >= keep]
    if len(places) < 2:
        raise ValueError(f"a row of {len(row)} tokens has no room for a fact and a question of {lines.longest} each")
    n = min(pairs, len(places) // 2, len(KEYS))
    ends = np.sort(rng.choice(places, (n, 2), replace=False), axis=1)       # where a fact begins, where its question
    far = ends[:, 0] // chunk != ends[:, 1] // chunk
    kept = ends[far | (rng.random(n) < SAME)]
    if not len(kept) and places[0] // chunk != places[-1] // chunk:
        edge = chunk * int(rng.integers(places[0] // chunk + 1, places[-1] // chunk + 1))
        kept = np.array([[rng.choice(places[places < edge]), rng.choice(places[places >= edge])]])
    elif not len(kept):
        kept = ends[:1]
    keys, values = rng.choice(len(KEYS), len(kept), replace=False), rng.integers(VALUES, size=len(kept))
    for (fact, ask), key, value in zip(kept.tolist(), keys, values, strict=True):
        start, stop = _write(tokens, fact, lines.facts[key], lines.values[value])
        hidden[fact:stop] = True
        start, stop = _write(tokens, ask, lines.asks[key], lines.values[value])
        hidden[ask:start] = answer[start:stop] = True
    return Planted(tokens, answer, hidden)


def haystack(rng, filler, length, lines, facts, queries, chunk, depth=None, straddle=False, leak=False,
             begin=None):
    """A long text for the test: facts all over it, and at its end questions about some of them.

    filler    (n,) token ids of real text, taken from a random place on and round and round until it is long enough
    lines     Lines;  facts, queries  how many, queries <= facts
    chunk, straddle     as for plant
    depth     None: one fact stands in each of `facts` equal parts of the text, and they are asked for in random
              order; or (queries,) numbers in 0..1, where the facts asked for stand, as nearly as the chunks allow
    leak      the control: the text answers with other values than its facts have.  A model that gives these answers
              has not read them in the facts
    begin     id of the first of the tokens, mostly that of <|begin_of_text|>; None for none in particular
    Returns a Haystack.  Raises ValueError where there is no room, or where the numbers do not fit together.
    """
    if not 1 <= queries <= facts <= len(KEYS):
        raise ValueError(f"there must be 1 to {len(KEYS)} facts and 1 to {facts} queries, not {facts} and {queries}")
    if not len(filler):
        raise ValueError("there is no text to hide a fact in")
    places = free_slots(rng, length, chunk, lines.longest, straddle)
    places = places[places >= (begin is not None)]
    if len(places) < facts + queries:
        raise ValueError(f"{length} tokens have room for {len(places)} lines, not for {facts + queries}")
    room, asks = places[:-queries], places[-queries:]
    asked, others = _spread(rng, len(room), facts, queries, depth)
    tokens = _cycle_filler(rng, filler, length)
    if begin is not None:
        tokens[0] = begin
    keys, values = rng.choice(len(KEYS), facts, replace=False), rng.integers(VALUES, size=facts)
    for place, key, value in zip(room[[*asked, *others]].tolist(), keys, values, strict=True):
        _write(tokens, place, lines.facts[key], lines.values[value])
    said = (values + rng.integers(1, VALUES, facts)) % VALUES if leak else values
    spans = [_write(tokens, place, lines.asks[key], lines.values[value])
             for place, key, value in zip(asks.tolist(), keys, said, strict=False)]
    return Haystack(tokens, np.array(spans), room[asked] / max(1, room[-1]))


def free_slots(rng, length, chunk, size, straddle):
    """Where lines of `size` tokens may begin without touching each other, in order: (n,) int64.

    Every chunk has a row of them, moved at random within it, so that a line may begin anywhere.  Where they may
    straddle, all is moved once more, and the edges fall anywhere.
    """
    if size > chunk:
        raise ValueError(f"a chunk of {chunk} tokens has no room for a line of {size}")
    per_chunk = max(1, chunk // size - 1)
    first = -int(rng.integers(chunk)) if straddle else 0
    edges = np.arange(first, length, chunk)
    starts = edges + rng.integers(0, chunk - per_chunk * size + 1, len(edges))
    starts = (starts[:, None] + size * np.arange(per_chunk)).ravel()
    return starts[(starts >= 0) & (starts + size <= length)]


def _spread(rng, room, facts, queries, depth):
    """Which of `room` places the facts get: those asked for in the order of the questions, and the others."""
    edges = np.linspace(0, room, facts + 1).astype(np.int64)
    spread = rng.integers(edges[:-1], edges[1:])
    if depth is None:
        order = rng.permutation(spread)
        return order[:queries], order[queries:]
    depth = np.asarray(depth, np.float64)
    if depth.shape != (queries,) or not ((depth >= 0) & (depth <= 1)).all():
        raise ValueError(f"depth is a number in 0..1 for each of the {queries} queries")
    free, asked = np.ones(room, bool), []
    for place in np.rint(depth * (room - 1)).astype(np.int64):
        places = np.flatnonzero(free)
        asked.append(places[np.abs(places - place).argmin()])       # two at one depth stand side by side
        free[asked[-1]] = False
    others = rng.choice(np.flatnonzero(free), facts - queries, replace=False)
    return np.array(asked), others


def _cycle_filler(rng, filler, length):
    """`length` tokens of the filler from a random one on; its end is followed by its beginning."""
    start = int(rng.integers(len(filler)))
    return np.resize(np.concatenate([filler[start:], filler[:start]]), length)


def _write(tokens, place, head, value):
    """Puts a line at a place.  Returns where its value starts and stops."""
    start = place + len(head)
    tokens[place:start] = head
    tokens[start:start + len(value)] = value
    return start, start + len(value)
