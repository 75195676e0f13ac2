"""Laws of the tokenizer, in Python and in C++.

LAWS maps every law to the strategy that draws its arguments: `law(ops, *drawn)` must not raise, where ops is a
module with byte_pair_merge, train_bpe, Encoder and Decoder: tinyscout.reference.bpe, or tinyscout._bpe in C++.
"""
from collections import Counter
from itertools import chain, count, islice, pairwise
from random import Random

import regex
from hypothesis import strategies as st

from tinyscout.inputs.tokenizer import LLAMA4_PATTERN, Tokenizer, make_pre_tokenizer, train

SPECIAL = ["<|begin_of_text|>", "<|eot|>", "<|eot|><|eom|>"]     # the last begins with the one before
BASE_VOCAB_SIZE = 256 + len(SPECIAL)                                        # ids of a vocabulary without merges


def merge_by_definition(ids, pairs):
    """Equation (bpe) as written, in quadratic time: search all pairs, merge the best, repeat."""
    ids = list(ids)
    while found := [(pairs[pair][0], i) for i, pair in enumerate(pairwise(ids)) if pair in pairs]:
        _, i = min(found)
        ids[i:i + 2] = [pairs[ids[i], ids[i + 1]][1]]
    return ids


def merge_by_bytes(piece, tokens):
    """The same if ids are ranks: join the two neighbours that spell the token of lowest id, repeat."""
    parts = [piece[n:n + 1] for n in range(len(piece))]
    while found := [(tokens[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in tokens]:
        _, i = min(found)
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return [tokens[part] for part in parts]


def train_by_definition(pieces, counts):
    """Equation (bpe-learn) as written: count all pairs, merge the most frequent one, repeat."""
    pieces = [list(piece) for piece in pieces]
    for merged in count(256):
        pair_counts: Counter[tuple[int, int]] = Counter()
        for piece, weight in zip(pieces, counts, strict=True):
            for pair in pairwise(piece):
                pair_counts[pair] += weight
        if not pair_counts:
            return
        best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
        pieces = [merge_by_definition(piece, {best: (0, merged)}) for piece in pieces]
        yield best


def merging_is_its_definition(ops, ids, pairs):
    """This holds for any ranks: with ties, with gaps, with merged ids that merge again at a lower rank."""
    assert ops.byte_pair_merge(ids, pairs) == merge_by_definition(ids, pairs)


def ranks_are_their_definition(ops, words, text):
    """If ids are ranks, any two neighbours that spell a token merge, and a piece that is a token is not split."""
    vocab = [bytes([byte]) for byte in range(256)] + sorted(set(words))
    tokens = {token: id for id, token in enumerate(dict.fromkeys(vocab))}
    pieces = [piece.encode() for piece in regex.findall(LLAMA4_PATTERN, text)]
    expected = [[tokens[piece]] if piece in tokens else merge_by_bytes(piece, tokens) for piece in pieces]
    assert Tokenizer(tokens, ops=ops).encode(text) == list(chain.from_iterable(expected))


def learning_is_its_definition(ops, pieces, n):
    """The merges and their order equal those of a full count each time, and no two of them spell the same bytes."""
    counts = Counter(pieces)
    arguments = list(counts), list(counts.values())
    merges = list(islice(ops.train_bpe(*arguments), n))
    assert merges == list(islice(train_by_definition(*arguments), n))
    spelling = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        spelling.append(spelling[left] + spelling[right])
    assert len(set(spelling)) == len(spelling)


def learning_again_is_the_same(ops, corpus, n):
    """Training is deterministic and does not depend on the order of the texts."""
    tokenizer, from_reversed = (train(texts, BASE_VOCAB_SIZE + n, SPECIAL, progress=False, ops=ops)
                                for texts in (corpus, corpus[::-1]))
    assert tokenizer.tokens == from_reversed.tokens
    assert tokenizer.merge_table.tolist() == from_reversed.merge_table.tolist()


def decoding_undoes_encoding(ops, corpus, n, text):
    """decode(encode(text)) is the text, for all of Unicode and any vocabulary, special tokens or not."""
    tokenizer = train(corpus, BASE_VOCAB_SIZE + n, SPECIAL, progress=False, ops=ops)
    for special in False, True:
        assert tokenizer.decode(tokenizer.encode(text, special), errors="strict") == text


def pieces_merge_alone(ops, corpus, n, text):
    """The pieces concatenate to the text, and its ids are the concatenated ids of its pieces."""
    tokenizer = train(corpus, BASE_VOCAB_SIZE + n, SPECIAL, progress=False, ops=ops)
    pairs = {(left, right): (rank, merged) for left, right, rank, merged in tokenizer.merge_table.tolist()}
    pieces = tokenizer.split(text)
    assert "".join(pieces) == text
    assert tokenizer.encode(text) == [id for piece in pieces for id in merge_by_definition(piece.encode(), pairs)]


def splitting_is_the_pattern(ops, text):
    """Every implementation splits as the regular expression does."""
    assert make_pre_tokenizer(LLAMA4_PATTERN, ops)(text) == regex.findall(LLAMA4_PATTERN, text)


def text_is_never_control(ops, corpus, n, text):
    """A special token's name in a text is text; with `special`, the longest name that matches becomes one token."""
    tokenizer = train(corpus, BASE_VOCAB_SIZE + n, SPECIAL, progress=False, ops=ops)
    control_ids = set(tokenizer.special.values())
    assert not control_ids & set(tokenizer.encode(text))
    found = [id for id in tokenizer.encode(text, special=True) if id in control_ids]
    names = regex.findall("|".join(map(regex.escape, sorted(SPECIAL, key=len, reverse=True))), text)
    assert found == [tokenizer.special[name] for name in names]


def merges_never_lengthen(ops, corpus, n, text):
    """One more merge never gives a text more tokens; without merges, a token is a byte."""
    before, after = (train(corpus, BASE_VOCAB_SIZE + k, SPECIAL, progress=False, ops=ops).encode(text)
                     for k in (n, n + 1))
    assert len(after) <= len(before) <= len(text.encode())


def streaming_is_decoding(ops, corpus, n, picks):
    """Ids pushed one by one give the same text as ids decoded together, even if their bytes are not valid UTF-8."""
    tokenizer = train(corpus, BASE_VOCAB_SIZE + n, SPECIAL, progress=False, ops=ops)
    ids = [sorted(tokenizer.id_to_bytes)[pick % len(tokenizer.id_to_bytes)] for pick in picks]
    stream = tokenizer.stream()
    texts = [stream.push(id) for id in ids]
    assert "".join([*texts, stream.flush()]) == tokenizer.decode(ids)


# Text: all of Unicode; small sets of characters, in many orders; names of special tokens.
characters = st.characters(exclude_categories=["Cs"])
character_sets = st.lists(st.sampled_from("aAbǅʰ中é\u0301\u017fsStTreEvlLd''  \n\r\t/.!1٣½\u00a0\u2028🦙"), min_size=1,
                          max_size=6)
crowded_text = character_sets.flatmap(lambda chosen: st.text(st.sampled_from(chosen), max_size=40))
names = st.lists(st.sampled_from([*SPECIAL, "<|", "eot", "|>", "<|eom|>", " a"]), max_size=8).map("".join)
runs = st.builds(str.__mul__, characters, st.integers(0, 99))
text = st.one_of(st.text(characters, max_size=60), crowded_text, names, runs)
corpus = st.lists(st.one_of(crowded_text, names, st.text(characters, max_size=60)), max_size=4)
merge_count = st.integers(0, 40)


def text_of_every_class(seed):
    """A long random text of one character from each class of the pattern, so that any two or three of them meet."""
    return "".join(Random(seed).choices("aA中\u03011.\n ", k=200))


def crowded_merges(seed, length):
    """Ids and a pair table so dense that merges interfere: (length,) list, {pair: (rank, merged)}."""
    draw = Random(seed).randrange
    pairs = {(draw(5), draw(5)): (draw(10), draw(5)) for _ in range(25)}
    return [draw(3) for _ in range(length)], pairs


LAWS = {
    merging_is_its_definition: st.builds(crowded_merges, st.integers(0, 2**32),
                                         st.sampled_from([0, 1, 2, 3, 4, 31, 32, 33, 70, 257])),
    ranks_are_their_definition: st.tuples(st.lists(crowded_text.map(str.encode).filter(len).map(lambda t: t[:9])),
                                          text),
    learning_is_its_definition: st.tuples(st.lists(st.text("aab c", min_size=1, max_size=12).map(str.encode)),
                                          st.integers(0, 30)),
    learning_again_is_the_same: st.tuples(corpus, merge_count),
    decoding_undoes_encoding: st.tuples(corpus, merge_count, text),
    pieces_merge_alone: st.tuples(corpus, merge_count, text),
    splitting_is_the_pattern: st.tuples(st.one_of(text, st.builds(text_of_every_class, st.integers(0, 2**32)))),
    text_is_never_control: st.tuples(corpus, merge_count, text),
    merges_never_lengthen: st.tuples(corpus, merge_count, text),
    streaming_is_decoding: st.tuples(corpus, merge_count, st.lists(st.integers(0, 399), max_size=30)),
}
