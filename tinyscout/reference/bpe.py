"""Byte-pair encoding in plain Python: learning the merges from text, and applying them to text.

Everything here works on *pieces*, short byte strings such as b" world".  Cutting text into pieces is the
business of tinyscout/tokenizer.py; no merge ever reaches across a cut.
"""
import itertools
from collections import defaultdict
from functools import lru_cache
from heapq import heapify, heappop, heappush

CACHED_PIECES = 1 << 16


def byte_pair_merge(ids, pairs):
    """Merge the adjacent pair of lowest rank, the leftmost of equals, until no adjacent pair has a rank.

    ids    token ids, at first one for each byte
    pairs  {(left id, right id): (rank, id of the merged token)}

    Returns the ids that remain.  O(n log n): every merge makes at most two new pairs, and a heap hands
    out the pair that is next, so that a million equal letters cost seconds and not days.  equation (bpe)
    """
    end = len(ids)
    ids = [*ids, None]                      # None has no rank: it ends the list, and fills what was merged away
    after = list(range(1, end + 1))
    before = list(range(-1, end))           # ids[-1] is that None too, so the first token needs no special case
    heap = [(pairs[pair][0], i) for i, pair in enumerate(itertools.pairwise(ids)) if pair in pairs]
    heapify(heap)
    while heap:
        rank, i = heappop(heap)
        j = after[i]
        current, merged = pairs.get((ids[i], ids[j]), (None, None))
        if current != rank:                 # an earlier merge took one of the two: nothing to do here
            continue
        ids[i], ids[j] = merged, None
        after[i] = after[j]
        before[after[i]] = i
        for left in before[i], i:           # the merged token meets its two neighbours
            pair = ids[left], ids[after[left]]
            if pair in pairs:
                heappush(heap, (pairs[pair][0], left))
    return [i for i in ids if i is not None]


class Encoder:
    """Text to ids: cut it, spell each piece in bytes, merge.  The C++ class of the same name answers alike.

    pairs     (n, 4) integers: left id, right id, rank, id of the merged token
    alphabet  256 ids, one for each byte
    whole     {bytes: id}: pieces that are a token as they stand and are not merged at all; may be empty
    split     a function from text to its pieces, in order
    """

    merge = staticmethod(byte_pair_merge)       # put your own here

    def __init__(self, pairs, alphabet, whole, split):
        table = {(left, right): (rank, merged) for left, right, rank, merged in pairs.tolist()}

        @lru_cache(CACHED_PIECES)           # text repeats its words, and the cache must not grow without end
        def encode_piece(piece):
            data = piece.encode()
            return [whole[data]] if data in whole else self.merge([alphabet[byte] for byte in data], table)

        self.split, self.encode_piece = split, encode_piece

    def __call__(self, text):
        """The ids of `text`, a list.  Raises UnicodeEncodeError where text holds half a surrogate pair."""
        ids = []
        for piece in self.split(text):
            ids += self.encode_piece(piece)
        return ids


class Decoder:
    """Ids to the bytes they spell, end to end.  The C++ class of the same name answers alike.

    bytes_of  {id: bytes}
    """

    def __init__(self, bytes_of):
        self.bytes_of = bytes_of

    def __call__(self, ids):
        """The bytes of `ids`, an iterable of int.  Raises KeyError for what is no id."""
        return b"".join([self.bytes_of[id] for id in ids])


class Pairs:
    """How often every adjacent pair stands in the text, where, and which is the most frequent."""

    def __init__(self):
        self.count = defaultdict(int)
        self.places = defaultdict(list)     # ascending; may name places where the pair no longer stands
        self.heap = []
        self.changed = set()

    def add(self, pair, times, place):
        self.count[pair] += times
        self.changed.add(pair)
        if times > 0:
            self.places[pair].append(place)

    def most_frequent(self):
        """The pair that is found most often, the smallest ids first among equals; None when none is left."""
        for pair in self.changed:
            heappush(self.heap, (-self.count[pair], pair))
        self.changed.clear()
        while self.heap:
            count, pair = heappop(self.heap)
            if count and -count == self.count[pair]:     # else the count has changed since, and a newer entry exists
                return pair
        return None


def train_bpe(pieces, counts):
    """Learn merges: again and again join the adjacent pair that the text holds most often.

    pieces  byte strings, each different
    counts  how often each of them stands in the text

    Yields (left id, right id), best first; ids 0 to 255 are the bytes and merge number n makes id 256 + n.
    No two merges spell the same bytes: what stands between two cuts merges in the same way wherever it stands.
    Only the surroundings of a merge are counted anew.  equation (bpe-learn)
    """
    ids: list[int | None] = []
    before, after, weight = [], [], []                   # the pieces as linked lists, laid end to end
    pairs = Pairs()
    for piece, count in zip(pieces, counts, strict=True):
        start, stop = len(ids), len(ids) + len(piece)
        ids += piece
        before += [None, *range(start, stop - 1)][:len(piece)]
        after += [*range(start + 1, stop), None][:len(piece)]
        weight += [count] * len(piece)
        for place in range(start, stop - 1):
            pairs.add((ids[place], ids[place + 1]), count, place)
    for merged in itertools.count(256):
        pair = pairs.most_frequent()
        if pair is None:
            return
        for place in pairs.places.pop(pair):             # from left to right, as in encoding: aaa is aa, a
            if ids[place] == pair[0] and after[place] is not None and ids[after[place]] == pair[1]:
                merge_at(place, merged, ids, before, after, weight[place], pairs)
        yield pair


def merge_at(i, merged, ids, before, after, weight, pairs):
    """Make one token of the one at i and the one after it, and count what that changes on both sides."""
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
