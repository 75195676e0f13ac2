"""Byte-pair encoding in plain Python: learning the merges from text, and applying them to text.

Everything here works on *pieces*, short byte strings such as b" world".  tinyscout/inputs/tokenizer.py splits
text into pieces; merges never cross the boundary of a piece.
"""
import itertools
from collections import defaultdict
from functools import lru_cache
from heapq import heapify, heappop, heappush

CACHED_PIECES = 1 << 16


def byte_pair_merge(ids, pairs):
    """Merge the adjacent pair of lowest rank, the leftmost of equals, until no adjacent pair has a rank.

    ids: token ids, initially one for each byte.
    pairs: {(left id, right id): (rank, id of the merged token)}.

    Returns the remaining ids, equation (bpe).  O(n log n): every merge makes at most two new pairs, and a heap yields
    the next pair, so that a million equal letters take seconds instead of days.
    """
    end = len(ids)
    ids = [*ids, None]                      # None, which ends the list and replaces merged ids, is in no pair
    after = list(range(1, end + 1))
    before = list(range(-1, end))           # ids[-1] is that None too, so the first token needs no special case
    heap = [(pairs[pair][0], i) for i, pair in enumerate(itertools.pairwise(ids)) if pair in pairs]
    heapify(heap)
    while heap:
        rank, i = heappop(heap)
        j = after[i]
        current, merged = pairs.get((ids[i], ids[j]), (None, None))
        if current != rank:                 # an earlier merge has used one of the two
            continue
        ids[i], ids[j] = merged, None
        after[i] = after[j]
        before[after[i]] = i
        for left in before[i], i:           # the pairs of the merged token with its neighbours
            pair = ids[left], ids[after[left]]
            if pair in pairs:
                heappush(heap, (pairs[pair][0], left))
    return [i for i in ids if i is not None]


class Encoder:
    """Encode text: split it, turn each piece into bytes, merge.  The C++ class of this name gives the same ids.

    pairs: (n, 4) integers: left id, right id, rank, id of the merged token.
    byte_ids: 256 ids, one for each byte.
    token_table: {bytes: id} of the pieces that are tokens themselves and are looked up, not merged; may be empty.
    split: a function from text to its pieces, in order.
    """

    merge = staticmethod(byte_pair_merge)       # you can replace it with another implementation

    def __init__(self, pairs, byte_ids, token_table, split):
        merges = {(left, right): (rank, merged) for left, right, rank, merged in pairs.tolist()}

        @lru_cache(CACHED_PIECES)           # words recur in text; the cache must stay bounded
        def encode_piece(piece):
            data = piece.encode()
            if data in token_table:
                return [token_table[data]]
            return self.merge([byte_ids[byte] for byte in data], merges)

        self.split, self.encode_piece = split, encode_piece

    def __call__(self, text):
        """Return the ids of `text` as a list.  Raises UnicodeEncodeError if it contains half a surrogate pair."""
        ids = []
        for piece in self.split(text):
            ids += self.encode_piece(piece)
        return ids


class Decoder:
    """Decode ids to bytes.  The C++ class of this name gives the same bytes.

    id_to_bytes: {id: bytes}.
    """

    def __init__(self, id_to_bytes):
        self.id_to_bytes = id_to_bytes

    def __call__(self, ids):
        """Return the concatenated bytes of `ids`, an iterable of int.  Raises KeyError for an unknown id."""
        return b"".join([self.id_to_bytes[id] for id in ids])


class PairCounts:
    """Counts and positions of all adjacent pairs in the text, and the most frequent pair."""

    def __init__(self):
        self.counts = defaultdict(int)
        self.positions = defaultdict(list)      # ascending; some may be outdated
        self.heap = []
        self.changed = set()

    def add(self, pair, times, position):
        self.counts[pair] += times
        self.changed.add(pair)
        if times > 0:
            self.positions[pair].append(position)

    def find_max(self):
        """Return the most frequent pair, of several the one with the smallest ids; None if no pair is left."""
        for pair in self.changed:
            heappush(self.heap, (-self.counts[pair], pair))
        self.changed.clear()
        while self.heap:
            count, pair = heappop(self.heap)
            if count and -count == self.counts[pair]:     # else the count has changed since, and a newer entry exists
                return pair
        return None


def train_bpe(pieces, counts):
    """Learn merges by repeatedly merging the most frequent adjacent pair of the text, equation (bpe-learn).

    pieces: distinct byte strings.
    counts: the number of times that each of them occurs in the text.

    Yields (left id, right id) in order of rank; ids 0 to 255 are the bytes, and merge n (from 0) makes id 256 + n.
    No two merges make the same bytes, because equal byte strings merge in the same way wherever they occur.
    After a merge, only the counts of the neighbouring pairs are updated.
    """
    ids: list[int | None] = []
    before, after, weight = [], [], []                   # the pieces as linked lists, laid end to end
    pairs = PairCounts()
    for piece, count in zip(pieces, counts, strict=True):
        start, stop = len(ids), len(ids) + len(piece)
        ids += piece
        before += [None, *range(start, stop - 1)][:len(piece)]
        after += [*range(start + 1, stop), None][:len(piece)]
        weight += [count] * len(piece)
        for position in range(start, stop - 1):
            pairs.add((ids[position], ids[position + 1]), count, position)
    for merged in itertools.count(256):
        pair = pairs.find_max()
        if pair is None:
            return
        for i in pairs.positions.pop(pair):                 # from left to right, as in encoding: aaa is aa, a
            if ids[i] == pair[0] and after[i] is not None and ids[after[i]] == pair[1]:
                merge_at(i, merged, ids, before, after, weight[i], pairs)
        yield pair


def merge_at(i, merged, ids, before, after, weight, pairs):
    """Merge the token at i with the next one, and update the counts of the pairs on both sides."""
    j = after[i]
    left, right = before[i], after[j]
    pairs.add((ids[i], ids[j]), -weight, i)
    if left is not None:
        pairs.add((ids[left], ids[i]), -weight, left)
        pairs.add((ids[left], merged), weight, left)
    if right is not None:
        pairs.add((ids[j], ids[right]), -weight, j)
        pairs.add((merged, ids[right]), weight, i)
        before[right] = i
    ids[i], ids[j] = merged, None
    after[i] = right
