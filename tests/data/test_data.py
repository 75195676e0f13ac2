"""What a small model learns from: text, pictures with questions, and facts planted in long text."""
import re
from collections import Counter

import numpy as np
import pytest

from tinyscout.config import tiny_config
from tinyscout.data import corpus, dialogs, needles, scenes
from tinyscout.data.pair_questions import CHANGES, final_answer, word_comparison
from tinyscout.data.patch_labels import common_properties, patch_labels, patch_targets
from tinyscout.data.scene_questions import ask_count_matching
from tinyscout.data.scenes import (
    COLOURS,
    GRID_POSITIONS,
    BACKGROUNDS,
    KINDS,
    MAX_BAR_HEIGHT,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    render,
)
from tinyscout.inputs import tokenizer
from tinyscout.inputs.chat import encode_chat
from tinyscout.inputs.image import count_tokens

HELD_OUT_NAMES = [46, 87]
HELD_OUT_NUMBERS = [1, 13, 45, 65, 75, 86, 102, 144, 149, 165]
PAIRS = ("same", "more", "changed")


def generator(seed=0):
    return np.random.default_rng(seed)


def levels(scene, size=64):
    return np.asarray(render(scene, size)).astype(int)


# ---- text

@pytest.fixture(scope="module")
def library():
    return corpus.load_corpus()


def test_the_library_is_divided(library):
    names = [[name for name, _ in part] for part in library]
    sizes = [sum(len(text) for _, text in part) for part in library]
    assert not set(names[0]) & set(names[1])
    assert all(part == sorted(set(part)) for part in names)
    assert 0.02 < sizes[1] / sum(sizes) < 0.1
    assert sum(sizes) > 5_000_000
    assert all(text and "\r" not in text for part in library for _, text in part)
    assert not any("site-packages" in name for part in names for name in part)
    tests = sum(len(text.encode()) for part in library for name, text in part if {"test", "tests"} & {*name.split("/")})
    assert 0 < tests <= corpus.MAX_GROUP_BYTES["test"]


def test_a_name_stays_in_its_part_everywhere():
    assert [n for n in range(100) if corpus.is_held_out(f"python/{n}.py")] == HELD_OUT_NAMES


def test_a_capped_group_is_the_same_in_any_order(tmp_path, monkeypatch):
    for n in range(30):
        for folder in ("test", "pkg"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{n}.py").write_bytes(b"x = 1\r\n" * (1 + n % 3))
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setitem(corpus.MAX_GROUP_BYTES, "test", 200)
    kept = [name for part in corpus.load_corpus() for name, _ in part if name.startswith("python/")]
    assert sum(name.startswith("python/pkg/") for name in kept) == 30
    sizes = [len(text) + text.count("\n") for part in corpus.load_corpus() for name, text in part if "/test/" in name]
    assert 200 - 21 < sum(sizes) <= 200
    found = [(path.relative_to(tmp_path), path) for path in tmp_path.rglob("*.py")]
    assert sorted(corpus._limit_groups(found)) == sorted(corpus._limit_groups(found[::-1]))


def test_no_library_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no standard library"):
        corpus.load_corpus()


def test_a_directory_of_ones_own(tmp_path):
    for n in range(100):
        (tmp_path / f"{n}.txt").write_text(f"Text {n}\r\nhas two lines.")
    (tmp_path / ".hidden").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "latin.txt").write_bytes("süß".encode("latin-1"))
    (tmp_path / "empty.txt").touch()
    found = corpus.load_corpus(tmp_path)
    assert found == corpus.load_corpus(str(tmp_path)) == corpus.load_corpus([tmp_path])
    assert dict(found.train + found.held_out) == {f"{n}.txt": f"Text {n}\nhas two lines." for n in range(100)}
    assert 1 <= len(found.held_out) <= 15


def test_a_single_file_is_cut_at_a_line(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("".join(f"line {n}\n" for n in range(1000)))
    (_, start), (_, end) = *corpus.load_corpus(file).train, *corpus.load_corpus(file).held_out
    assert start + end == file.read_text()
    assert start.endswith("\n")
    assert 0.04 < len(end) / len(start + end) < 0.06


@pytest.mark.parametrize(("content", "error"), [(None, OSError), (b"\xff", ValueError), (b"", ValueError)])
def test_a_file_that_is_no_text_is_an_error(tmp_path, content, error):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(error):
        corpus.load_corpus(tmp_path / "file")


# ---- scenes

@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_scenes(kind):
    one, other = ([scenes.random_scene(rng, kind) for _ in range(20)] for rng in (generator(3), generator(3)))
    assert one == other
    assert len(set(one)) > 10
    assert all((levels(a) == levels(b)).all() for a, b in zip(one, other, strict=True))


def test_all_that_there_is_is_drawn():
    rng = generator(14)
    things, texts, charts = ([scenes.random_scene(rng, kind) for _ in range(400)]
                             for kind in ("objects", "number", "chart"))
    for n, values in enumerate([SHAPES, COLOURS, SIZES, range(9)]):
        assert {thing[n] for scene in things for thing in scene.objects} == set(values)
    assert {len(scene.objects) for scene in things} == set(range(1, scenes.MAX_OBJECTS + 1))
    assert {scene.background for scene in things} == set(BACKGROUNDS)
    assert {len(scene.text) for scene in texts} == {1, 2, 3}
    assert {len(scene.bars) for scene in charts} == set(scenes.BAR_COUNTS)
    assert {height for scene in charts for _, height in scene.bars} == set(range(1, MAX_BAR_HEIGHT + 1))


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="'cat'"):
        scenes.random_scene(generator(), "cat")


@pytest.mark.parametrize("ground", BACKGROUNDS)
def test_a_thing_stays_in_its_ninth_and_has_its_colour(ground):
    rng = generator(1)
    for shape in SHAPES:
        for colour in COLOURS:
            thing = scenes.random_object(rng, int(rng.integers(9)), shape, colour)
            picture = levels(Scene("objects", ground, (thing,)), 96)
            seen = (picture != BACKGROUNDS[ground]).any(2)
            row, col = divmod(thing.cell, 3)
            inside = seen[row * 32:row * 32 + 32, col * 32:col * 32 + 32]
            assert inside.sum() == seen.sum() > 20
            full = (picture == COLOURS[colour]).all(2)
            assert full.sum() > 0.4 * seen.sum()


def test_all_that_differs_in_the_gist_differs_in_the_picture():
    """Every change of one property of a thing is seen, and by far, and so is every ground."""
    first = SceneObject("circle", "red", "small", 4)
    drawn = [levels(Scene("objects", "white", (first._replace(**{field: value}),)))
             for field, values in [("shape", SHAPES[1:]), ("colour", [*COLOURS][1:]), ("size", ["large"]),
                                   ("place", [0, 1, 2, 3, 5, 6, 7, 8])] for value in values]
    drawn += [levels(Scene("objects", ground, (first,))) for ground in BACKGROUNDS] + [levels(Scene("objects", "white"))]
    for n, one in enumerate(drawn):
        for other in drawn[:n]:
            assert (abs(one - other).max(2) > 60).sum() >= 8


@pytest.mark.parametrize("kind", ["number", "word"])
def test_every_text_differs_and_stays_inside(kind):
    texts = [str(n) for n in range(1000)] if kind == "number" else [
        a + b + c for a in scenes.FIRST_LETTERS for b in scenes.VOWELS for c in scenes.LAST_LETTERS]
    seen = set()
    for text in texts:
        picture = levels(Scene(kind, "white", text=text, colour="blue", shift=(-0.03, 0.03)))
        assert (picture[[0, -1]] == 255).all()
        assert (picture[:, [0, -1]] == 255).all()
        seen.add(picture.tobytes())
    assert len(seen) == len(texts)


def test_bars_have_their_heights_and_colours():
    rng = generator(2)
    for _ in range(50):
        scene = scenes.random_scene(rng, "chart")
        picture = levels(scene, 128)
        tall = [(picture == COLOURS[colour]).all(2).sum(0).max() for colour, _ in scene.bars]
        left = [(picture == COLOURS[colour]).all(2).any(0).argmax() for colour, _ in scene.bars]
        assert left == sorted(left)
        assert np.allclose(np.array(tall) / [height for _, height in scene.bars], 0.84 * 128 / MAX_BAR_HEIGHT, atol=1.5)


def test_a_scene_is_held_out_by_what_is_seen():
    rng = generator(4)
    for kind in KINDS:
        drawn = [scenes.random_scene(rng, kind) for _ in range(1000)]
        assert 20 < sum(map(scenes.is_held_out, drawn)) < 120
    thing = SceneObject("star", "pink", "large", 3)
    moved = {scenes.is_held_out(Scene("objects", "grey", (thing._replace(dx=dx),))) for dx in np.linspace(0, 0.02, 60)}
    assert len(moved) == 1
    numbers = {scenes.is_held_out(Scene("number", ground, text="42", colour=colour))
               for ground in BACKGROUNDS for colour in COLOURS}
    assert len(numbers) == 1
    assert [n for n in range(200) if scenes.is_held_out(Scene("number", "white", text=str(n)))] == HELD_OUT_NUMBERS


# ---- questions

def named(name, shown):
    """The one thing that a name in a question fits, found in another way than the question was made."""
    words = [word for word in re.findall(r"[a-z]+", name) if word not in ("the", "object", "at", "in", "on")]
    if place := " ".join(word for word in words if word in " ".join(GRID_POSITIONS).split()):
        fits = [thing for thing in shown.objects if {*place.split()} <= {*GRID_POSITIONS[thing.cell].split()}]
    else:
        fits = [thing for thing in shown.objects if all(word in (thing.shape, thing.colour) for word in words)]
    assert len(fits) == 1, (name, shown)
    return fits[0]


NAME = r"(the [a-z]*? ?(?:object(?: (?:at|in|on) the (?:top|bottom)? ?(?:left|right|middle|top|bottom)?)?|" + "|".join(
    SHAPES) + r"))"


def solve(task, text, shown):
    """The answer to a question, from its words and the scenes alone."""
    first, last = shown[0], shown[-1]
    if task in ("shape", "colour", "position"):
        if first.kind != "objects":
            return first.colour
        thing = named(re.search(NAME + r"(?: have)?[?.]$", text)[1], first)
        return {"shape": thing.shape, "colour": thing.colour, "position": GRID_POSITIONS[thing.cell]}[task]
    if task == "count":
        word = re.search(r"(?:How many|Count the) ([a-z]+)", text)[1]
        return str(sum(word in ("objects", f"{thing.shape}s", f"{thing.shape}es", thing.colour)
                       for thing in first.objects))
    if task == "relation":
        one, other = (named(name, first) for name in re.findall(NAME, text))
        (y, x), (other_y, other_x) = divmod(one.cell, 3), divmod(other.cell, 3)
        true = {"left": x < other_x, "right": x > other_x, "above": y < other_y, "below": y > other_y}
        words = re.findall(r"\b(left|right|above|below)\b", text)
        if len(words) == 2:
            return next(word for word in words if true[word])
        return "yes" if true[words[0]] else "no"
    if task == "same":
        if "number" in text or "many" in text:
            return "yes" if len(first.objects) == len(last.objects) else "no"
        one, other = (getattr(scene.objects[0], "shape" if "shape" in text else "colour") for scene in shown)
        return f"first {one}, second {other}: {'yes' if one == other else 'no'}"
    if task == "more":
        return "first" if (len(first.objects) > len(last.objects)) == ("more" in text) else "second"
    if task == "changed":
        fields = zip(("shape", "colour", "size", "position"), first.objects[0], last.objects[0], strict=False)
        return " ".join(field for field, before, after in fields if before != after)
    if task == "chart":
        heights = dict(first.bars)
        if bars := re.search("Is the ([a-z]+) bar (?:taller|higher) than the ([a-z]+)", text):
            return "yes" if heights[bars[1]] > heights[bars[2]] else "no"
        if "How many" in text or "Count" in text:
            return str(len(heights))
        return (max if "tallest" in text else min)(heights, key=heights.get)
    return first.text


def all_seen(scene):
    """What a caption has to tell, as words in order."""
    words = [word for thing in scene.objects for word in (thing.size, thing.colour, thing.shape)]
    return [*words, *(colour for colour, _ in scene.bars), *scene.text.split(), *scene.colour.split(), scene.background]


@pytest.mark.parametrize("task", dialogs.TASKS)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_answer_follows_from_the_scene(task, held_out):
    rng = generator(5)
    for _ in range(60 if held_out else 300):
        asked = dialogs.ask(rng, task, held_out, size=32)
        assert [scenes.is_held_out(scene) for scene in asked.scenes] == [held_out] * len(asked.scenes)
        assert len(asked.images) == len(asked.scenes) == (2 if task in PAIRS else 1)
        assert all((np.asarray(picture) == levels(scene, 32)).all()
                   for picture, scene in zip(asked.images, asked.scenes, strict=True))
        if task == "caption":
            known = {*COLOURS, *SHAPES, *SIZES, *BACKGROUNDS, asked.scenes[0].text}
            assert [word for word in re.findall(r"\w+", asked.answer) if word in known] == all_seen(asked.scenes[0])
        else:
            assert asked.answer == solve(task, asked.text, asked.scenes)


UNIFORM = {"shape": SHAPES, "colour": COLOURS, "position": GRID_POSITIONS, "count": "12345", "same": ("yes", "no"),
           "more": ("first", "second"), "changed": CHANGES}


@pytest.mark.parametrize("task", dialogs.TASKS)
def test_a_guess_is_right_as_often_as_the_table_says(task):
    """One who learns by heart what is mostly answered to a question of these words gets no further than chance."""
    rng, n = generator(6), 1600
    asked = [dialogs.ask(rng, task, size=8) for _ in range(n)]
    if task in UNIFORM:
        counts, odds = Counter(final_answer(one.answer) for one in asked), 1 / len(UNIFORM[task])
        assert set(counts) == set(UNIFORM[task])
        assert all(abs(count - n * odds) < 5 * (n * odds * (1 - odds)) ** 0.5 for count in counts.values())
    names = re.compile(r"\b(" + "|".join([*COLOURS, *SHAPES]) + r")(e?s)?\b")
    words = [names.sub("*", one.text) for one in asked]
    heard: dict[str, Counter] = {}
    for text, one in zip(words[:n // 2], asked[:n // 2], strict=True):
        heard.setdefault(text, Counter())[one.answer] += 1
    right = sum(heard[text].most_common(1)[0][0] == one.answer
                for text, one in zip(words[n // 2:], asked[n // 2:], strict=True) if text in heard)
    chances = np.array([one.chance for one in asked[n // 2:]])
    assert right <= chances.sum() + 5 * np.sqrt((chances * (1 - chances)).sum()) + 1


def test_an_unknown_task_is_an_error():
    with pytest.raises(ValueError, match="'taste'"):
        dialogs.ask(generator(), "taste")


class Bytes:
    """A byte is its own id, and special tokens have the config's."""

    def __init__(self, config):
        self.special = {f"<|{name}|>": 300 + n for n, name in enumerate(["header_start", "header_end", "image"])}
        self.special |= {"<|patch|>": config.patch_id, "<|image_start|>": config.image_start_id, "<|eot|>": 320,
                         "<|image_end|>": config.image_end_id, "<|begin_of_text|>": config.bos_id}

    def encode(self, text, special=False):
        return list(text.encode())


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_conversations(stage):
    rng, config, lengths, openings, pairs = generator(7), tiny_config(), Counter(), set(), 0
    for _ in range(300):
        messages = dialogs.random_dialog(rng, size=56, stage=stage)
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
        *pictures, opening = messages[0]["content"]
        asked = [opening["text"], *(message["content"] for message in messages[2::2])]
        assert len(set(asked)) == len(asked)
        lengths[len(asked)] += 1
        openings.add(asked[0])
        prompt = encode_chat(messages, Bytes(config), config, add_generation_prompt=False)
        assert len(prompt.images) == len(pictures)
        assert len(pictures) == 2 or not any("picture, " in text for text in asked)
        assert prompt.tokens.count(config.patch_id) == len(pictures) * config.vision.tokens_per_tile
        assert count_tokens(1, 1, config.vision) == config.vision.tokens_per_tile + 3
        pairs += len(pictures) == 2
    assert set(lengths) == {1, 2, 3, 4}
    assert 85 < pairs < 150          # of two pictures are three tasks of twelve, but they take practice
    assert len(openings) > 100


def test_later_the_hard_tasks_come_more_often_and_captions_first_only():
    rng, captions, counts, some = generator(12), Counter(), Counter(), Counter()
    for stage in range(4):
        for _ in range(200):
            messages = dialogs.random_dialog(rng, size=8, stage=stage)
            asked = [message["content"] for message in messages[::2]]
            captions[stage] += sum(bool(re.search("[Dd]escribe|[Ww]hat is in|[Ww]hat do you see", text))
                                   for text in asked[1:])
            counts[stage] += bool(re.search("How many (?!bars)|Count the (?!bars)", asked[0][-1]["text"]))
            some[stage] += sum(bool(re.search("How many (?!bars|objects)|Count the (?!bars|objects)", text))
                               for text in asked[1:])
    assert captions[0] > 20
    assert captions[1] == captions[2] == captions[3] == 0
    assert counts[2] > counts[1] > counts[0] > 0
    assert some[0] == some[1] == 0
    assert min(some[2], some[3]) > 30


def test_things_of_one_kind_are_counted():
    star = SceneObject("star", "red", "large", 0)
    things = star, star._replace(cell=2, colour="blue"), star._replace(cell=8, shape="cross")
    scene = Scene("objects", "white", things)
    for by, value, name, n in [("shape", "star", "stars", 2), ("shape", "cross", "crosses", 1),
                               ("colour", "red", "red objects", 2)]:
        asked = ask_count_matching(generator(), scene, by, value)
        assert name in asked.text
        assert (asked.answer, asked.topic) == (str(n), ("count", value))


def test_a_conversation_is_as_long_and_as_new_as_asked(monkeypatch):
    shown = []
    monkeypatch.setattr(dialogs, "render", lambda scene, size: shown.append(scene) or render(scene, size))
    for held_out in (False, True):
        for task in dialogs.TASKS:
            for turns in (1, 2):
                assert len(dialogs.random_dialog(generator(turns), task, turns, held_out)) == 2 * turns
        assert {scenes.is_held_out(scene) for scene in shown} == {held_out}
        shown.clear()


@pytest.mark.parametrize(("stage", "said"), [(0, final_answer), (2, final_answer), (3, str)])
def test_follow_ups_are_answered_from_their_pictures(stage, said, monkeypatch):
    """A question about one of two pictures is answered from that one, and one about both from both, at last aloud."""
    rng, found = generator(8), Counter()
    monkeypatch.setattr(dialogs, "render", lambda scene, size: scene)
    for n in range(300):
        messages = dialogs.random_dialog(rng, PAIRS[n % 3], 4, stage=stage)
        shown = [part["image"] for part in messages[0]["content"][:-1]]
        for question, answer in zip(messages[2::2], messages[3::2], strict=True):
            text, seen = question["content"], shown
            if about := re.fullmatch(r"In the (first|second) picture, (.)(.*)", text):
                text, seen = about[2].upper() + about[3], [shown[about[1] == "second"]]
                task = ("colour" if "colour" in text else "shape" if "shape" in text else
                        "count" if "How many" in text or "Count" in text else None)
            else:
                task = "same" if "same" in text else "more"
                assert task == "more" or [len(scene.objects) for scene in seen] == [1, 1]
            if task:
                assert answer["content"] == said(solve(task, text, seen))
                found[task] += 1
    assert set(found) == {"colour", "shape", "count", "same", "more"}
    assert min(found.values()) > 9


def test_what_two_pictures_share_says_nothing_about_what_else_they_share():
    """Colour and shape agree half of the time each, whichever is asked for."""
    rng, shown = generator(11), Counter()
    while sum(shown.values()) < 400:
        one, other = dialogs.ask(rng, "same", size=8).scenes
        if len(one.objects) == len(other.objects) == 1:
            one, other = one.objects[0], other.objects[0]
            shown[one.colour == other.colour, one.shape == other.shape] += 1
    assert all(60 < shown[both] < 140 for both in [(True, True), (True, False), (False, True), (False, False)])


def test_who_names_two_of_eight_guesses_less_often():
    rng = generator(15)
    asked = [dialogs.ask(rng, "same", size=8) for _ in range(30)]
    assert {(one.answer in ("yes", "no"), one.chance) for one in asked} == {(True, 1 / 2), (False, 1 / 16)}


def test_words_are_as_often_the_same_as_not():
    rng, verdicts, compared = generator(14), Counter(), set()
    for _ in range(400):
        given, answer = word_comparison(rng)
        one, other = re.fullmatch(r"first (\w+), second (\w+):", given).groups()
        assert answer == (" yes\n" if one == other else " no\n")
        assert (one in COLOURS) == (other in COLOURS)
        verdicts[answer] += 1
        compared |= {one, other}
    assert compared == {*COLOURS, *SHAPES}
    assert 160 < verdicts[" yes\n"] < 240


@pytest.mark.parametrize("stage", range(4))
def test_what_is_compared_is_named_first_in_the_last_stage_only(stage):
    rng = generator(13)
    answers = [dialogs.random_dialog(rng, "same", 1, size=8, stage=stage)[1]["content"] for _ in range(60)]
    aloud = [answer for answer in answers if answer not in ("yes", "no")]
    assert (30 < len(aloud) < 50) if stage == 3 else not aloud          # two of three ask for a colour or a shape
    assert all(re.fullmatch(r"first \w+, second \w+: (yes|no)", answer) for answer in aloud)


def test_a_seed_gives_the_same_conversations():
    def texts(rng):
        return [[part["image"].tobytes() if "image" in part else part["text"] for part in message["content"]]
                if isinstance(message["content"], list) else message["content"]
                for _ in range(30) for message in dialogs.random_dialog(rng)]
    assert texts(generator(9)) == texts(generator(9)) != texts(generator(10))


# ---- needles

@pytest.fixture(scope="module", params=["bytes", "bpe"])
def text(request, library):
    """(what encodes, what decodes, lines, filler)"""
    if request.param == "bytes":
        encoder, decode = Bytes(tiny_config()), lambda ids: bytes(ids.tolist()).decode(errors="replace")
    else:
        encoder = tokenizer.train([text for _, text in library.held_out], 600, progress=False)
        decode = lambda ids: encoder.decode(ids.tolist())      # noqa: E731
    filler = np.array(encoder.encode("".join(text for _, text in library.held_out)[:200_000]), np.int32)
    assert not re.search(r"#[!?][a-z]{2}=\d{3}\n", decode(filler))
    return decode, needles.encode_lines(encoder), filler


def spans(mask):
    """[start, stop) of the runs of a mask."""
    return np.flatnonzero(np.diff(np.r_[0, mask.astype(int), 0])).reshape(-1, 2)


def written(decode, lines, tokens):
    """(mark, key, value, place) of every line in a row, found by its first token."""
    for place in np.flatnonzero(np.isin(tokens, [lines.facts[0][0], lines.queries[0][0]])):
        if match := re.match(r"#([!?])([a-z]{2})=(\d{3})\n", decode(tokens[place:place + lines.max_length])):
            yield *match.groups(), int(place)


@pytest.mark.parametrize("straddle", [False, True])
def test_planted_facts_are_asked_for_further_on(text, straddle):
    decode, lines, filler = text
    rng, chunk, near, far, crossing = generator(11), 64, 0, 0, 0
    for pairs in [1, 2, 8] * 30:
        row = filler[int(rng.integers(5000)):][:300]
        before = row.copy()
        tokens, answer, hidden = needles.plant(rng, row, lines, pairs, chunk, straddle)
        assert (row == before).all()
        assert tokens.dtype == row.dtype
        assert not (answer & hidden).any()
        assert (tokens == row)[~(answer | hidden)].all()
        facts = {}
        for mark, key, value, place in written(decode, lines, tokens):
            last = place + len(lines.facts[needles.KEYS.index(key)]) + len(lines.values[int(value)]) - 1
            crossing += place // chunk != last // chunk
            if mark == "!":
                assert key not in facts
                facts[key] = value, place
            else:
                told, at = facts.pop(key)
                assert told == value
                assert at < place
                near, far = near + (at // chunk == place // chunk), far + (at // chunk != place // chunk)
                inside = slice(place, place + lines.max_length)
                assert decode(tokens[inside][hidden[inside]])[:5] == f"#?{key}="
                assert decode(tokens[inside][answer[inside]])[:4] == f"{value}\n"
        assert not facts
        answers = spans(answer)
        assert 1 <= len(answers) <= pairs
        assert decode(tokens[answer]).count("\n") == sum("#?" in part for part in decode(tokens[hidden]).split("="))
    assert far > 10 * near > 0      # 1 to 4 if none were dropped, 1 to 19 if four in five are
    assert bool(crossing) == straddle


def test_planting_is_seeded_and_refuses_what_does_not_fit(text):
    _, lines, filler = text
    one, other, third = (needles.plant(generator(seed), filler[:256], lines, 4, 64) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert (one.tokens != third.tokens).any()
    for length, chunk in [(256, lines.max_length - 1), (lines.max_length, 64), (0, 64)]:
        with pytest.raises(ValueError, match="no room"):
            needles.plant(generator(), filler[:length], lines, 1, chunk)


def test_the_first_token_can_be_kept(text):
    _, lines, filler = text
    kept, taken = [], []
    for seed in range(100):
        row = filler[:4 * lines.max_length]
        for keep, seen in ((1, kept), (0, taken)):
            found = needles.plant(generator(seed), row, lines, 1, len(row), keep_first=keep)
            seen.append((found.answer_mask | found.noise_mask)[0])
        hay = needles.make_haystack(generator(seed), filler, 8 * lines.max_length, lines, 1, 1, 4 * lines.max_length, bos_id=7)
        assert hay.tokens[0] == 7
    assert any(taken)
    assert not any(kept)


@pytest.mark.parametrize("length", [512, 1_000_000])
@pytest.mark.parametrize("straddle", [False, True])
def test_a_haystack_answers_from_its_facts(text, length, straddle):
    decode, lines, filler = text
    found = needles.make_haystack(generator(12), filler, length, lines, 8, 5, 128, allow_straddle=straddle)
    again = needles.make_haystack(generator(12), filler, length, lines, 8, 5, 128, allow_straddle=straddle)
    assert all((a == b).all() for a, b in zip(found, again, strict=True))
    assert found.tokens.shape == (length,)
    assert found.tokens.dtype == filler.dtype
    facts = {key: (value, place) for mark, key, value, place in written(decode, lines, found.tokens) if mark == "!"}
    assert len(facts) == 8
    for (start, stop), depth in zip(found.spans, found.depths, strict=True):
        key = re.search(r"#\?([a-z]{2})=$", decode(found.tokens[start - 20:start]))[1]
        value, place = facts[key]
        assert decode(found.tokens[start:stop]) == f"{value}\n"
        assert abs(place / found.spans[0, 0] - depth) < 300 / length + 0.02
        assert straddle or start // 128 == (stop - 1) // 128
    assert (np.diff(found.depths) < 0).any()        # not asked in the order of the text
    assert found.spans[0, 0] > length - 5 * 64 - 128


def test_depths_leaks_and_errors(text):
    decode, lines, filler = text
    depths = np.array([0.0, 0.25, 0.5, 1.0, 1.0])
    found = needles.make_haystack(generator(13), filler, 20_000, lines, 20, 5, 128, depths)
    assert abs(found.depths - depths).max() < 0.01
    leak = needles.make_haystack(generator(13), filler, 20_000, lines, 20, 5, 128, depths, control=True)
    facts = {key: value for mark, key, value, _ in written(decode, lines, leak.tokens) if mark == "!"}
    for start, stop in leak.spans:
        key = re.search(r"#\?([a-z]{2})=$", decode(leak.tokens[start - 20:start]))[1]
        assert re.fullmatch(r"\d{3}\n", said := decode(leak.tokens[start:stop]))
        assert said != f"{facts[key]}\n"
    for change, message in [({"facts": 4}, "queries"), ({"length": 200}, "room"), ({"chunk": 4}, "room"),
                            ({"facts": 1000}, "facts"), ({"depth": [0.5]}, "depth"), ({"filler": filler[:0]}, "text"),
                            ({"depth": [2.0] * 5}, "depth")]:
        arguments = {"filler": filler, "length": 20_000, "lines": lines, "facts": 20, "queries": 5, "chunk": 128}
        with pytest.raises(ValueError, match=message):
            needles.make_haystack(generator(), **arguments | change)


# ---- what stands where


def test_spots_name_what_is_drawn_there():
    """Where a square has a name, the picture there is not bare ground; where it has none, mostly it is."""
    rng = generator(5)
    for kind in scenes.KINDS:
        for _ in range(20):
            scene = scenes.random_scene(rng, kind)
            levels = np.asarray(scenes.render(scene, 64), np.int64)
            bare = np.abs(levels - scenes.BACKGROUNDS[scene.background]).sum(-1) < 30
            for n, name in enumerate(patch_labels(scene, 4)):
                row, col = divmod(n, 4)
                part = bare[16 * row:16 * row + 16, 16 * col:16 * col + 16]
                letter = scene.kind in ("number", "word")           # a 7 leaves most of its box empty
                assert part.mean() < 1 or letter if name else part.mean() > 0.5, (scene, n, name)


def test_spots_of_known_scenes():
    star = scenes.SceneObject("star", "red", "large", 0)
    one = scenes.Scene("objects", "white", (star, star._replace(cell=8)))
    names = ("star", "red", "large")
    assert patch_labels(one, 3) == [(*names, "top left"), *[()] * 7, (*names, "bottom right")]
    chart = scenes.Scene("chart", "black", bars=(("red", 6), ("blue", 1)))
    assert patch_labels(chart, 4)[:4] == [(), ("red", "6"), (), ()]
    word = scenes.Scene("word", "grey", text="BAD", colour="pink")
    assert patch_labels(word, 3)[3:6] == [("B", "pink"), ("A", "pink"), ("D", "pink")]
    seven = scenes.Scene("number", "grey", text="7", colour="pink")
    assert {names for names in patch_labels(seven, 4) if names} == {("7", "pink")}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_first_name_is_said_mostly_and_the_number_behind_all(stage):
    rng, star = generator(6), scenes.SceneObject("star", "red", "large", 0)
    scene = scenes.Scene("objects", "white", (star, star._replace(cell=8, colour="blue")))
    heard = [patch_targets(rng, [scene], 3, stage) for _ in range(400)]
    assert {tuple(names[1:8]) for names in heard} == {("",) * 7}
    assert {names[9] for names in heard} == {"2"}
    often = Counter(names[0] for names in heard)
    assert set(often) == {"star", "red", "large", "top left", *(("1", "2") if stage else ())}
    first = often.pop("star")
    assert abs(first - (300, 240, 160, 160)[stage]) < 40
    assert all(abs(n - (400 - first) / len(often)) < 25 for n in often.values())
    assert patch_targets(rng, [scenes.Scene("word", "grey", text="BAD", colour="pink")], 3, stage)[-1] == ""
    chart = scenes.Scene("chart", "black", bars=(("red", 6), ("blue", 1), ("pink", 2)))
    assert patch_targets(rng, [chart], 3, stage)[-1] == "3"


def test_a_second_picture_is_also_asked_what_both_share():
    star = scenes.SceneObject("star", "red", "large", 0)
    one, other, two = (scenes.Scene("objects", "white", things) for things in (
        (star,), (star._replace(cell=3, size="small"),), (star, star._replace(cell=8))))
    assert common_properties(one, other) == ["shape", "colour"]
    assert common_properties(one, one) == ["shape", "colour", "size", "position"]
    assert common_properties(one, two) == []
    assert common_properties(two, two) == ["number"]
    rng = generator(7)
    heard = [patch_targets(rng, [one, other], 3, 1) for _ in range(400)]
    assert {names[9] for names in heard} == {"1"}
    often = Counter(names[19] for names in heard)
    assert set(often) == {"1", "shape", "colour"}
    assert 160 < often["1"] < 240
    assert {names[19] for names in (patch_targets(rng, [one, other], 3) for _ in range(50))} == {"1"}
    for stage in (2, 3):
        assert {names[9] for names in (patch_targets(rng, [one, other], 3, stage) for _ in range(99))} == {
            "1", "star", "red", "large", "top left"}
    assert {names[19] for names in (patch_targets(rng, [one, two], 3, 1) for _ in range(50))} == {"2"}


def test_a_picture_in_a_dialog_has_its_scene_beside_it():
    messages = dialogs.random_dialog(generator(3), "same")
    parts = [part for part in messages[0]["content"] if part["type"] == "image"]
    assert len(parts) == 2
    for part in parts:
        assert part["image"].tobytes() == scenes.render(part["scene"]).tobytes()
