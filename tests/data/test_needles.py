"""Facts planted in text, and asked for: each query has its fact, and the haystack's answers are its facts'."""
import re
from types import SimpleNamespace

import numpy as np
import pytest

from tinyscout.data import corpus, needles
from tinyscout.inputs import tokenizer


def make_rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def text(request):
    """A function that decodes, the encoded lines, and the filler, with a token for each byte and with merges."""
    held_out = corpus.load_corpus().held_out
    if request.param == "bytes":
        encoder = SimpleNamespace(encode=lambda text: list(text.encode()),
                                  decode=lambda ids: bytes(ids).decode(errors="replace"))
    else:
        encoder = tokenizer.train([text for _, text in held_out], 600, progress=False)

    def decode(ids):
        return encoder.decode(ids.tolist())

    filler = np.array(encoder.encode("".join(text for _, text in held_out)[:200_000]), np.int32)
    assert not re.search(r"#[!?][a-z]{2}=\d{3}\n", decode(filler))
    return decode, needles.encode_lines(encoder), filler


def spans(mask):
    """[start, stop) of the runs of a mask."""
    return np.flatnonzero(np.diff(np.r_[0, mask.astype(int), 0])).reshape(-1, 2)


def read_lines(decode, lines, tokens):
    """(mark, key, value, position) of every line in a row, found by its first token."""
    for position in np.flatnonzero(np.isin(tokens, [lines.facts[0][0], lines.queries[0][0]])):
        if match := re.match(r"#([!?])([a-z]{2})=(\d{3})\n", decode(tokens[position:position + lines.max_length])):
            yield *match.groups(), int(position)


@pytest.mark.parametrize("allow_straddle", [False, True])
def test_planted_facts_are_asked_for_further_on(text, allow_straddle):
    decode, lines, filler = text
    rng, chunk_size, near, far, crossing = make_rng(11), 64, 0, 0, 0
    for max_pairs in [1, 2, 8] * 30:
        row = filler[int(rng.integers(5000)):][:300]
        before = row.copy()
        tokens, answer_mask, noise_mask = needles.plant(rng, row, lines, max_pairs, chunk_size, allow_straddle)
        assert (row == before).all()
        assert tokens.dtype == row.dtype
        assert not (answer_mask & noise_mask).any()
        assert (tokens == row)[~(answer_mask | noise_mask)].all()
        facts = {}
        for mark, key, value, position in read_lines(decode, lines, tokens):
            last = position + len(lines.facts[needles.KEYS.index(key)]) + len(lines.values[int(value)]) - 1
            crossing += position // chunk_size != last // chunk_size
            if mark == "!":
                assert key not in facts
                facts[key] = value, position
            else:
                fact_value, fact_position = facts.pop(key)
                assert fact_value == value
                assert fact_position < position
                is_far = fact_position // chunk_size != position // chunk_size
                near, far = near + (not is_far), far + is_far
                line = slice(position, position + lines.max_length)
                assert decode(tokens[line][noise_mask[line]])[:5] == f"#?{key}="
                assert decode(tokens[line][answer_mask[line]])[:4] == f"{value}\n"
        assert not facts
        answers = spans(answer_mask)
        assert 1 <= len(answers) <= max_pairs
        n_queries = sum("#?" in part for part in decode(tokens[noise_mask]).split("="))
        assert decode(tokens[answer_mask]).count("\n") == n_queries
    assert far > 10 * near > 0      # 1 to 4 if none were dropped, 1 to 19 if four in five are
    assert bool(crossing) == allow_straddle


def test_planting_is_seeded_and_refuses_what_does_not_fit(text):
    _, lines, filler = text
    one, other, third = (needles.plant(make_rng(seed), filler[:256], lines, 4, 64) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert (one.tokens != third.tokens).any()
    for length, chunk_size in [(256, lines.max_length - 1), (lines.max_length, 64), (0, 64)]:
        with pytest.raises(ValueError, match="too short"):
            needles.plant(make_rng(), filler[:length], lines, 1, chunk_size)


def test_the_first_token_can_be_kept(text):
    _, lines, filler = text
    overwritten = {0: [], 1: []}
    for seed in range(100):
        row = filler[:4 * lines.max_length]
        for keep_first, first_tokens in overwritten.items():
            planted = needles.plant(make_rng(seed), row, lines, 1, len(row), keep_first=keep_first)
            first_tokens.append((planted.answer_mask | planted.noise_mask)[0])
        haystack = needles.make_haystack(make_rng(seed), filler, 8 * lines.max_length, lines, n_facts=1, n_queries=1,
                                         chunk_size=4 * lines.max_length, bos_id=7)
        assert haystack.tokens[0] == 7
    assert any(overwritten[0])
    assert not any(overwritten[1])


@pytest.mark.parametrize("length", [512, 1_000_000])
@pytest.mark.parametrize("allow_straddle", [False, True])
def test_a_haystack_answers_from_its_facts(text, length, allow_straddle):
    decode, lines, filler = text
    haystack, again = (needles.make_haystack(make_rng(12), filler, length, lines, n_facts=8, n_queries=5,
                                             chunk_size=128, allow_straddle=allow_straddle) for _ in range(2))
    assert all((a == b).all() for a, b in zip(haystack, again, strict=True))
    tokens, first_query = haystack.tokens, haystack.spans[0, 0]
    assert tokens.shape == (length,)
    assert tokens.dtype == filler.dtype
    facts = {key: (value, position) for mark, key, value, position in read_lines(decode, lines, tokens) if mark == "!"}
    assert len(facts) == 8
    for (start, stop), depth in zip(haystack.spans, haystack.depths, strict=True):
        key = re.search(r"#\?([a-z]{2})=$", decode(tokens[start - 20:start]))[1]
        value, position = facts[key]
        assert decode(tokens[start:stop]) == f"{value}\n"
        assert abs(position / first_query - depth) < 300 / length + 0.02
        assert allow_straddle or start // 128 == (stop - 1) // 128
    assert (np.diff(haystack.depths) < 0).any()         # not asked in the order of the text
    assert first_query > length - 5 * 64 - 128


def test_depths_controls_and_errors(text):
    decode, lines, filler = text
    depths = np.array([0.0, 0.25, 0.5, 1.0, 1.0])
    arguments = {"filler": filler, "length": 20_000, "lines": lines, "n_facts": 20, "n_queries": 5, "chunk_size": 128}
    haystack = needles.make_haystack(make_rng(13), **arguments, depths=depths)
    assert abs(haystack.depths - depths).max() < 0.01
    control = needles.make_haystack(make_rng(13), **arguments, depths=depths, control=True)
    facts = {key: value for mark, key, value, _ in read_lines(decode, lines, control.tokens) if mark == "!"}
    for start, stop in control.spans:
        key = re.search(r"#\?([a-z]{2})=$", decode(control.tokens[start - 20:start]))[1]
        answer = decode(control.tokens[start:stop])
        assert re.fullmatch(r"\d{3}\n", answer)
        assert answer != f"{facts[key]}\n"
    for change, message in [({"n_facts": 4}, "queries"), ({"length": 200}, "room"), ({"chunk_size": 4}, "short"),
                            ({"n_facts": 1000}, "facts"), ({"depths": [0.5]}, "depth"),
                            ({"filler": filler[:0]}, "text"), ({"depths": [2.0] * 5}, "depth")]:
        with pytest.raises(ValueError, match=message):
            needles.make_haystack(make_rng(), **arguments | change)
