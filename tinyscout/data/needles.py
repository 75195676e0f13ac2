"""Facts planted in long text, and queries for them: how far back does a model find one line?

    #!kq=739        a fact: a key and a value, both random
    #?kq=739        the query, later in the text; the answer is the number after the equals sign

Everything works on token ids, with any tokenizer: a line is encoded once, in two parts, so that its answer begins with
a separate token.
"""
from itertools import product
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np

KEYS = ["".join(pair) for pair in product(ascii_lowercase, repeat=2)]
N_VALUES = 1000
SAME_CHUNK_PROB = 0.2       # probability to keep a pair within one chunk, which can be solved without a global layer


class EncodedLines(NamedTuple):
    """The parts of all lines as token ids: a fact is facts[key] + values[value], its query queries[key] + the same."""

    facts: list[np.ndarray]
    queries: list[np.ndarray]
    values: list[np.ndarray]
    max_length: int             # tokens of the longest line


class Planted(NamedTuple):
    """A row of text with needles in it."""

    tokens: np.ndarray          # (T,) of the row's dtype
    answer_mask: np.ndarray     # (T,) bool: the tokens of the answers, which are the targets
    noise_mask: np.ndarray      # (T,) bool: the other tokens of the needles, unpredictable and excluded from the loss


class Haystack(NamedTuple):
    """A long text with facts in it and queries at its end, each with its answer."""

    tokens: np.ndarray      # (length,) of the filler's dtype
    spans: np.ndarray       # (queries, 2) int64: an answer is tokens[start:stop], given all tokens before it
    depths: np.ndarray      # (queries,) float64: position of the fact that is asked for, 0 first .. 1 last


def encode_lines(tokenizer):
    """Encode all lines as token ids: EncodedLines.  Keys and values are plain text for the tokenizer."""
    def encode(text):
        return np.array(tokenizer.encode(text), np.int64)

    facts, queries = ([encode(f"#{mark}{key}=") for key in KEYS] for mark in "!?")
    values = [encode(f"{value:03}\n") for value in range(N_VALUES)]
    return EncodedLines(facts, queries, values, max(map(len, [*facts, *queries])) + max(map(len, values)))


def plant(rng, row, lines, max_pairs, chunk_size, allow_straddle=False, keep_first=0):
    """Overwrite slots in a row of text with facts and, later in the row, with the queries for them.

    row         (T,) token ids; it is not changed
    lines       EncodedLines;  max_pairs  maximum number of facts, each with its query
    chunk_size  chunk size of the local layers.  Only a fifth of the pairs within one chunk are kept, but always at
                least one pair
    allow_straddle  True: a line may cross the edge of a chunk, so that no local layer can read all of it.  Edges are
                counted from the beginning of the row
    keep_first  number of tokens at the beginning that are kept: 1 if the row starts with <|begin_of_text|>
    Returns Planted.  Raises ValueError if the row or a chunk is too short for a line.
    """
    tokens, answer_mask, noise_mask = row.copy(), np.zeros(len(row), bool), np.zeros(len(row), bool)
    slots = free_slots(rng, len(row), chunk_size, lines.max_length, allow_straddle)
    slots = slots[slots >= keep_first]
    if len(slots) < 2:
        raise ValueError(f"a row of {len(row)} tokens is too short for a fact and a query of {lines.max_length} each")
    pairs = _choose_pairs(rng, slots, min(max_pairs, len(slots) // 2, len(KEYS)), chunk_size)
    keys, values = rng.choice(len(KEYS), len(pairs), replace=False), rng.integers(N_VALUES, size=len(pairs))
    for (fact, query), key, value in zip(pairs.tolist(), keys, values, strict=True):
        start, stop = _write_line(tokens, fact, lines.facts[key], lines.values[value])
        noise_mask[fact:stop] = True
        start, stop = _write_line(tokens, query, lines.queries[key], lines.values[value])
        noise_mask[query:start] = answer_mask[start:stop] = True
    return Planted(tokens, answer_mask, noise_mask)


def _choose_pairs(rng, slots, n, chunk_size):
    """Choose 1 to n pairs of slots, for a fact and its query: (pairs, 2) int64."""
    pairs = np.sort(rng.choice(slots, (n, 2), replace=False), axis=1)
    is_far = pairs[:, 0] // chunk_size != pairs[:, 1] // chunk_size
    selected = pairs[is_far | (rng.random(n) < SAME_CHUNK_PROB)]
    if len(selected):
        return selected
    first_chunk, last_chunk = slots[0] // chunk_size, slots[-1] // chunk_size
    if first_chunk == last_chunk:
        return pairs[:1]
    edge = chunk_size * int(rng.integers(first_chunk + 1, last_chunk + 1))
    return np.array([[rng.choice(slots[slots < edge]), rng.choice(slots[slots >= edge])]])


def make_haystack(rng, filler, length, lines, *, n_facts, n_queries, chunk_size, depths=None, allow_straddle=False,
                  control=False, bos_id=None):
    """Make a long text for the test: facts throughout, and queries for some of them at the end.

    filler      (n,) token ids of real text, read from a random token on and repeated until it is long enough
    lines       EncodedLines;  n_facts, n_queries  number of each, n_queries <= n_facts
    chunk_size, allow_straddle  as for `plant`
    depths      None: one fact in each of `n_facts` equal parts of the text, asked for in random order; or (queries,)
                numbers in 0..1: the positions of the facts that are asked for, as closely as the chunks allow
    control     True: the answers in the text contradict its facts.  A model that gives these answers did not take them
                from the facts
    bos_id      id that replaces the first token, usually that of <|begin_of_text|>; None to replace nothing
    Returns a Haystack.  Raises ValueError if the text is too short, or if the numbers are inconsistent.
    """
    if not 1 <= n_queries <= n_facts <= len(KEYS):
        raise ValueError(f"there must be 1 to {len(KEYS)} facts and 1 to {n_facts} queries, not {n_facts} and "
                         f"{n_queries}")
    if not len(filler):
        raise ValueError("the filler text is empty")
    slots = free_slots(rng, length, chunk_size, lines.max_length, allow_straddle)
    slots = slots[slots >= (bos_id is not None)]
    if len(slots) < n_facts + n_queries:
        raise ValueError(f"{length} tokens have room for {len(slots)} lines only, but {n_facts + n_queries} are needed")
    fact_slots, query_slots = slots[:-n_queries], slots[-n_queries:]
    asked, others = _assign_slots(rng, len(fact_slots), n_facts, n_queries, depths)
    tokens = _cycle_filler(rng, filler, length)
    if bos_id is not None:
        tokens[0] = bos_id
    keys, values = rng.choice(len(KEYS), n_facts, replace=False), rng.integers(N_VALUES, size=n_facts)
    for slot, key, value in zip(fact_slots[[*asked, *others]].tolist(), keys, values, strict=True):
        _write_line(tokens, slot, lines.facts[key], lines.values[value])
    answers = (values + rng.integers(1, N_VALUES, n_facts)) % N_VALUES if control else values
    spans = [_write_line(tokens, slot, lines.queries[key], lines.values[value])
             for slot, key, value in zip(query_slots.tolist(), keys, answers, strict=False)]
    return Haystack(tokens, np.array(spans), fact_slots[asked] / max(1, fact_slots[-1]))


def free_slots(rng, length, chunk_size, line_length, allow_straddle):
    """Positions, in order, at which lines of `line_length` tokens can begin without overlapping: (n,) int64.

    Every chunk has a row of slots, shifted at random within it, so that a line can begin anywhere.  If lines may
    straddle, all slots are shifted once more, so that the edges of chunks can fall anywhere.
    """
    if line_length > chunk_size:
        raise ValueError(f"a chunk of {chunk_size} tokens is too short for a line of {line_length}")
    per_chunk = max(1, chunk_size // line_length - 1)
    first = -int(rng.integers(chunk_size)) if allow_straddle else 0
    edges = np.arange(first, length, chunk_size)
    starts = edges + rng.integers(0, chunk_size - per_chunk * line_length + 1, len(edges))
    starts = (starts[:, None] + line_length * np.arange(per_chunk)).ravel()
    return starts[(starts >= 0) & (starts + line_length <= length)]


def _assign_slots(rng, n_slots, n_facts, n_queries, depths):
    """Assign slots to the facts: those of the facts asked for, in the order of the queries, and those of the others."""
    edges = np.linspace(0, n_slots, n_facts + 1).astype(np.int64)
    spread = rng.integers(edges[:-1], edges[1:])
    if depths is None:
        order = rng.permutation(spread)
        return order[:n_queries], order[n_queries:]
    depths = np.asarray(depths, np.float64)
    if depths.shape != (n_queries,) or not ((depths >= 0) & (depths <= 1)).all():
        raise ValueError(f"depths must be {n_queries} numbers in 0..1, one for each query")
    is_free, asked = np.ones(n_slots, bool), []
    for wanted in np.rint(depths * (n_slots - 1)).astype(np.int64):
        free = np.flatnonzero(is_free)
        asked.append(free[np.abs(free - wanted).argmin()])      # two facts at the same depth get neighbouring slots
        is_free[asked[-1]] = False
    others = rng.choice(np.flatnonzero(is_free), n_facts - n_queries, replace=False)
    return np.array(asked), others


def _cycle_filler(rng, filler, length):
    """`length` tokens of the filler from a random token on; after its end, it starts again."""
    start = int(rng.integers(len(filler)))
    return np.resize(np.concatenate([filler[start:], filler[:start]]), length)


def _write_line(tokens, slot, head, value):
    """Write a line into a slot  ->  start and stop of its value"""
    start = slot + len(head)
    tokens[slot:start] = head
    tokens[start:start + len(value)] = value
    return start, start + len(value)
