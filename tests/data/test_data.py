"""What a small model learns from: text, images with questions, and facts planted in long text."""
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
    BACKGROUNDS,
    COLOURS,
    GRID_POSITIONS,
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
PAIR_TASKS = ("same", "more", "changed")


def make_rng(seed=0):
    return np.random.default_rng(seed)


def pixels(scene, size=64):
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
    names = [name for part in corpus.load_corpus() for name, _ in part if name.startswith("python/")]
    assert sum(name.startswith("python/pkg/") for name in names) == 30
    sizes = [len(text) + text.count("\n") for part in corpus.load_corpus() for name, text in part if "/test/" in name]
    assert 200 - 21 < sum(sizes) <= 200
    files = [(path.relative_to(tmp_path), path) for path in tmp_path.rglob("*.py")]
    assert sorted(corpus._limit_groups(files)) == sorted(corpus._limit_groups(files[::-1]))


def test_no_library_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no standard library"):
        corpus.load_corpus()


def test_a_directory_of_ones_own(tmp_path):
    for n in range(100):
        (tmp_path / f"{n}.txt").write_text(f"Text {n}\r\nhas two lines.")
    (tmp_path / ".hidden").write_text("no")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "latin.txt").write_bytes("süß".encode("latin-1"))
    (tmp_path / "empty.txt").touch()
    result = corpus.load_corpus(tmp_path)
    assert result == corpus.load_corpus(str(tmp_path)) == corpus.load_corpus([tmp_path])
    assert dict(result.train + result.held_out) == {f"{n}.txt": f"Text {n}\nhas two lines." for n in range(100)}
    assert 1 <= len(result.held_out) <= 15


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
    one, other = ([scenes.random_scene(rng, kind) for _ in range(20)] for rng in (make_rng(3), make_rng(3)))
    assert one == other
    assert len(set(one)) > 10
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(one, other, strict=True))


def test_all_that_there_is_is_drawn():
    rng = make_rng(14)
    grids, texts, charts = ([scenes.random_scene(rng, kind) for _ in range(400)]
                            for kind in ("objects", "number", "chart"))
    for n, values in enumerate([SHAPES, COLOURS, SIZES, range(9)]):
        assert {obj[n] for scene in grids for obj in scene.objects} == set(values)
    assert {len(scene.objects) for scene in grids} == set(range(1, scenes.MAX_OBJECTS + 1))
    assert {scene.background for scene in grids} == set(BACKGROUNDS)
    assert {len(scene.text) for scene in texts} == {1, 2, 3}
    assert {len(scene.bars) for scene in charts} == set(scenes.BAR_COUNTS)
    assert {height for scene in charts for _, height in scene.bars} == set(range(1, MAX_BAR_HEIGHT + 1))


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="'cat'"):
        scenes.random_scene(make_rng(), "cat")


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_an_object_stays_in_its_cell_and_has_its_colour(background):
    rng = make_rng(1)
    for shape in SHAPES:
        for colour in COLOURS:
            obj = scenes.random_object(rng, int(rng.integers(9)), shape, colour)
            image = pixels(Scene("objects", background, (obj,)), 96)
            drawn = (image != BACKGROUNDS[background]).any(2)
            row, col = divmod(obj.cell, 3)
            inside = drawn[row * 32:row * 32 + 32, col * 32:col * 32 + 32]
            assert inside.sum() == drawn.sum() > 20
            full = (image == COLOURS[colour]).all(2)
            assert full.sum() > 0.4 * drawn.sum()


def test_all_that_differs_in_the_key_differs_in_the_image():
    """Every change of one attribute of an object is seen, and by far, and so is every background."""
    first = SceneObject("circle", "red", "small", 4)
    images = [pixels(Scene("objects", "white", (first._replace(**{field: value}),)))
              for field, values in [("shape", SHAPES[1:]), ("colour", [*COLOURS][1:]), ("size", ["large"]),
                                    ("cell", [0, 1, 2, 3, 5, 6, 7, 8])] for value in values]
    images += [pixels(Scene("objects", background, (first,))) for background in BACKGROUNDS]
    images.append(pixels(Scene("objects", "white")))
    for n, one in enumerate(images):
        for other in images[:n]:
            assert (abs(one - other).max(2) > 60).sum() >= 8


@pytest.mark.parametrize("kind", ["number", "word"])
def test_every_text_differs_and_stays_inside(kind):
    texts = [str(n) for n in range(1000)] if kind == "number" else [
        a + b + c for a in scenes.FIRST_LETTERS for b in scenes.VOWELS for c in scenes.LAST_LETTERS]
    seen = set()
    for text in texts:
        image = pixels(Scene(kind, "white", text=text, colour="blue", shift=(-0.03, 0.03)))
        assert (image[[0, -1]] == 255).all()
        assert (image[:, [0, -1]] == 255).all()
        seen.add(image.tobytes())
    assert len(seen) == len(texts)


def test_bars_have_their_heights_and_colours():
    rng = make_rng(2)
    for _ in range(50):
        scene = scenes.random_scene(rng, "chart")
        image = pixels(scene, 128)
        tall = [(image == COLOURS[colour]).all(2).sum(0).max() for colour, _ in scene.bars]
        left = [(image == COLOURS[colour]).all(2).any(0).argmax() for colour, _ in scene.bars]
        assert left == sorted(left)
        assert np.allclose(np.array(tall) / [height for _, height in scene.bars], 0.84 * 128 / MAX_BAR_HEIGHT, atol=1.5)


def test_a_scene_is_held_out_by_what_is_seen():
    rng = make_rng(4)
    for kind in KINDS:
        drawn = [scenes.random_scene(rng, kind) for _ in range(1000)]
        assert 20 < sum(map(scenes.is_held_out, drawn)) < 120
    obj = SceneObject("star", "pink", "large", 3)
    jittered = {scenes.is_held_out(Scene("objects", "grey", (obj._replace(dx=dx),))) for dx in np.linspace(0, 0.02, 60)}
    assert len(jittered) == 1
    numbers = {scenes.is_held_out(Scene("number", background, text="42", colour=colour))
               for background in BACKGROUNDS for colour in COLOURS}
    assert len(numbers) == 1
    assert [n for n in range(200) if scenes.is_held_out(Scene("number", "white", text=str(n)))] == HELD_OUT_NUMBERS


def test_what_is_hashed_of_a_scene_stays():
    """Every other string would deal the scenes anew, and a trained model would be tested on what it has seen."""
    obj = SceneObject("star", "pink", "large", 3, 0.01, -0.01)
    assert scenes.scene_key(Scene("objects", "grey", (obj,))) == "things: ['grey', ('star', 'pink', 'large', 3)]"
    assert scenes.scene_key(Scene("chart", "black", bars=(("red", 6),))) == "chart: ['black', ('red', 6)]"
    assert scenes.scene_key(Scene("number", "white", text="42", colour="red")) == "number: ['42']"


# ---- questions

def find_object(name, scene):
    """The one object that a name in a question fits, found in another way than the question was made."""
    words = [word for word in re.findall(r"[a-z]+", name) if word not in ("the", "object", "at", "in", "on")]
    if position := " ".join(word for word in words if word in " ".join(GRID_POSITIONS).split()):
        fits = [obj for obj in scene.objects if {*position.split()} <= {*GRID_POSITIONS[obj.cell].split()}]
    else:
        fits = [obj for obj in scene.objects if all(word in (obj.shape, obj.colour) for word in words)]
    assert len(fits) == 1, (name, scene)
    return fits[0]


NAME = r"(the [a-z]*? ?(?:object(?: (?:at|in|on) the (?:top|bottom)? ?(?:left|right|middle|top|bottom)?)?|" + "|".join(
    SHAPES) + r"))"


def solve(task, text, shown_scenes):
    """The answer to a question, from its words and the scenes alone."""
    first, last = shown_scenes[0], shown_scenes[-1]
    if task in ("shape", "colour", "position"):
        if first.kind != "objects":
            return first.colour
        obj = find_object(re.search(NAME + r"(?: have)?[?.]$", text)[1], first)
        return {"shape": obj.shape, "colour": obj.colour, "position": GRID_POSITIONS[obj.cell]}[task]
    if task == "count":
        word = re.search(r"(?:How many|Count the) ([a-z]+)", text)[1]
        return str(sum(word in ("objects", f"{obj.shape}s", f"{obj.shape}es", obj.colour)
                       for obj in first.objects))
    if task == "relation":
        one, other = (find_object(name, first) for name in re.findall(NAME, text))
        (y, x), (other_y, other_x) = divmod(one.cell, 3), divmod(other.cell, 3)
        true = {"left": x < other_x, "right": x > other_x, "above": y < other_y, "below": y > other_y}
        words = re.findall(r"\b(left|right|above|below)\b", text)
        if len(words) == 2:
            return next(word for word in words if true[word])
        return "yes" if true[words[0]] else "no"
    if task == "same":
        if "number" in text or "many" in text:
            return "yes" if len(first.objects) == len(last.objects) else "no"
        one, other = (getattr(scene.objects[0], "shape" if "shape" in text else "colour") for scene in shown_scenes)
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


def caption_words(scene):
    """What a caption has to tell, as words in order."""
    words = [word for obj in scene.objects for word in (obj.size, obj.colour, obj.shape)]
    return [*words, *(colour for colour, _ in scene.bars), *scene.text.split(), *scene.colour.split(), scene.background]


@pytest.mark.parametrize("task", dialogs.TASKS)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_answer_follows_from_the_scene(task, held_out):
    rng = make_rng(5)
    for _ in range(60 if held_out else 300):
        asked = dialogs.ask(rng, task, held_out, size=32)
        assert [scenes.is_held_out(scene) for scene in asked.scenes] == [held_out] * len(asked.scenes)
        assert len(asked.images) == len(asked.scenes) == (2 if task in PAIR_TASKS else 1)
        assert all((np.asarray(image) == pixels(scene, 32)).all()
                   for image, scene in zip(asked.images, asked.scenes, strict=True))
        if task == "caption":
            known = {*COLOURS, *SHAPES, *SIZES, *BACKGROUNDS, asked.scenes[0].text}
            words = [word for word in re.findall(r"\w+", asked.answer) if word in known]
            assert words == caption_words(asked.scenes[0])
        else:
            assert asked.answer == solve(task, asked.text, asked.scenes)


UNIFORM = {"shape": SHAPES, "colour": COLOURS, "position": GRID_POSITIONS, "count": "12345", "same": ("yes", "no"),
           "more": ("first", "second"), "changed": CHANGES}


@pytest.mark.parametrize("task", dialogs.TASKS)
def test_a_guess_is_right_as_often_as_the_table_says(task):
    """One who learns by heart what is mostly answered to a question of these words gets no further than chance."""
    rng, n = make_rng(6), 1600
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
        dialogs.ask(make_rng(), "taste")


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
    rng, config, lengths, openings, pairs = make_rng(7), tiny_config(), Counter(), set(), 0
    for _ in range(300):
        messages = dialogs.random_dialog(rng, size=56, stage=stage)
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
        *images, opening = messages[0]["content"]
        asked = [opening["text"], *(message["content"] for message in messages[2::2])]
        assert len(set(asked)) == len(asked)
        lengths[len(asked)] += 1
        openings.add(asked[0])
        prompt = encode_chat(messages, Bytes(config), config, add_generation_prompt=False)
        assert len(prompt.images) == len(images)
        assert len(images) == 2 or not any("picture, " in text for text in asked)
        assert prompt.tokens.count(config.patch_id) == len(images) * config.vision.tokens_per_tile
        assert count_tokens(1, 1, config.vision) == config.vision.tokens_per_tile + 3
        pairs += len(images) == 2
    assert set(lengths) == {1, 2, 3, 4}
    assert 85 < pairs < 150          # three tasks of twelve are about two images, but they take practice
    assert len(openings) > 100


def test_later_the_hard_tasks_come_more_often_and_captions_first_only():
    rng, captions, counts, follow_ups = make_rng(12), Counter(), Counter(), Counter()
    for stage in range(4):
        for _ in range(200):
            messages = dialogs.random_dialog(rng, size=8, stage=stage)
            asked = [message["content"] for message in messages[::2]]
            captions[stage] += sum(bool(re.search("[Dd]escribe|[Ww]hat is in|[Ww]hat do you see", text))
                                   for text in asked[1:])
            counts[stage] += bool(re.search("How many (?!bars)|Count the (?!bars)", asked[0][-1]["text"]))
            follow_ups[stage] += sum(bool(re.search("How many (?!bars|objects)|Count the (?!bars|objects)", text))
                                     for text in asked[1:])
    assert captions[0] > 20
    assert captions[1] == captions[2] == captions[3] == 0
    assert counts[2] > counts[1] > counts[0] > 0
    assert follow_ups[0] == follow_ups[1] == 0
    assert min(follow_ups[2], follow_ups[3]) > 30


def test_objects_of_one_kind_are_counted():
    star = SceneObject("star", "red", "large", 0)
    objects = star, star._replace(cell=2, colour="blue"), star._replace(cell=8, shape="cross")
    scene = Scene("objects", "white", objects)
    for attribute, value, name, n in [("shape", "star", "stars", 2), ("shape", "cross", "crosses", 1),
                                      ("colour", "red", "red objects", 2)]:
        asked = ask_count_matching(make_rng(), scene, attribute, value)
        assert name in asked.text
        assert (asked.answer, asked.topic) == (str(n), ("count", value))


def test_a_conversation_is_as_long_and_as_new_as_asked(monkeypatch):
    shown = []
    monkeypatch.setattr(dialogs, "render", lambda scene, size: shown.append(scene) or render(scene, size))
    for held_out in (False, True):
        for task in dialogs.TASKS:
            for turns in (1, 2):
                assert len(dialogs.random_dialog(make_rng(turns), task, turns, held_out)) == 2 * turns
        assert {scenes.is_held_out(scene) for scene in shown} == {held_out}
        shown.clear()


@pytest.mark.parametrize(("stage", "to_reply"), [(0, final_answer), (2, final_answer), (3, str)])
def test_follow_ups_are_answered_from_their_images(stage, to_reply, monkeypatch):
    """A question about one of two images is answered from that one, and one about both from both, at last in words."""
    rng, tasks = make_rng(8), Counter()
    monkeypatch.setattr(dialogs, "render", lambda scene, size: scene)
    for n in range(300):
        messages = dialogs.random_dialog(rng, PAIR_TASKS[n % 3], 4, stage=stage)
        shown = [part["image"] for part in messages[0]["content"][:-1]]
        for question, answer in zip(messages[2::2], messages[3::2], strict=True):
            text, asked_of = question["content"], shown
            if about := re.fullmatch(r"In the (first|second) picture, (.)(.*)", text):
                text, asked_of = about[2].upper() + about[3], [shown[about[1] == "second"]]
                task = ("colour" if "colour" in text else "shape" if "shape" in text else
                        "count" if "How many" in text or "Count" in text else None)
            else:
                task = "same" if "same" in text else "more"
                assert task == "more" or [len(scene.objects) for scene in asked_of] == [1, 1]
            if task:
                assert answer["content"] == to_reply(solve(task, text, asked_of))
                tasks[task] += 1
    assert set(tasks) == {"colour", "shape", "count", "same", "more"}
    assert min(tasks.values()) > 9


def test_what_two_images_share_says_nothing_about_what_else_they_share():
    """Colour and shape agree half of the time each, whichever is asked for."""
    rng, counts = make_rng(11), Counter()
    while sum(counts.values()) < 400:
        one, other = dialogs.ask(rng, "same", size=8).scenes
        if len(one.objects) == len(other.objects) == 1:
            one, other = one.objects[0], other.objects[0]
            counts[one.colour == other.colour, one.shape == other.shape] += 1
    assert all(60 < counts[both] < 140 for both in [(True, True), (True, False), (False, True), (False, False)])


def test_who_names_two_of_eight_guesses_less_often():
    rng = make_rng(15)
    asked = [dialogs.ask(rng, "same", size=8) for _ in range(30)]
    assert {(one.answer in ("yes", "no"), one.chance) for one in asked} == {(True, 1 / 2), (False, 1 / 16)}


def test_words_are_as_often_the_same_as_not():
    rng, answers, compared = make_rng(14), Counter(), set()
    for _ in range(400):
        question, answer = word_comparison(rng)
        one, other = re.fullmatch(r"first (\w+), second (\w+):", question).groups()
        assert answer == (" yes\n" if one == other else " no\n")
        assert (one in COLOURS) == (other in COLOURS)
        answers[answer] += 1
        compared |= {one, other}
    assert compared == {*COLOURS, *SHAPES}
    assert 160 < answers[" yes\n"] < 240


@pytest.mark.parametrize("stage", range(4))
def test_what_is_compared_is_named_first_in_the_last_stage_only(stage):
    rng = make_rng(13)
    answers = [dialogs.random_dialog(rng, "same", 1, size=8, stage=stage)[1]["content"] for _ in range(60)]
    stated = [answer for answer in answers if answer not in ("yes", "no")]
    assert (30 < len(stated) < 50) if stage == 3 else not stated          # two of three ask for a colour or a shape
    assert all(re.fullmatch(r"first \w+, second \w+: (yes|no)", answer) for answer in stated)


def test_a_seed_gives_the_same_conversations():
    def texts(rng):
        return [[part["image"].tobytes() if "image" in part else part["text"] for part in message["content"]]
                if isinstance(message["content"], list) else message["content"]
                for _ in range(30) for message in dialogs.random_dialog(rng)]
    assert texts(make_rng(9)) == texts(make_rng(9)) != texts(make_rng(10))


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
        with pytest.raises(ValueError, match="no room"):
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
    for change, message in [({"n_facts": 4}, "queries"), ({"length": 200}, "room"), ({"chunk_size": 4}, "room"),
                            ({"n_facts": 1000}, "facts"), ({"depths": [0.5]}, "depth"),
                            ({"filler": filler[:0]}, "text"), ({"depths": [2.0] * 5}, "depth")]:
        with pytest.raises(ValueError, match=message):
            needles.make_haystack(make_rng(), **arguments | change)


# ---- patch labels


def test_labels_name_what_is_drawn_in_their_patch():
    """If a patch has labels, the image is not bare background there; if it has none, most of it is."""
    rng = make_rng(5)
    for kind in scenes.KINDS:
        for _ in range(20):
            scene = scenes.random_scene(rng, kind)
            is_bare = np.abs(pixels(scene) - scenes.BACKGROUNDS[scene.background]).sum(-1) < 30
            for n, labels in enumerate(patch_labels(scene, 4)):
                row, col = divmod(n, 4)
                bare_share = is_bare[16 * row:16 * row + 16, 16 * col:16 * col + 16].mean()
                is_text = scene.kind in ("number", "word")          # a 7 leaves most of its box empty
                assert bare_share < 1 or is_text if labels else bare_share > 0.5, (scene, n, labels)


def test_labels_of_known_scenes():
    star = scenes.SceneObject("star", "red", "large", 0)
    scene = scenes.Scene("objects", "white", (star, star._replace(cell=8)))
    labels = ("star", "red", "large")
    assert patch_labels(scene, 3) == [(*labels, "top left"), *[()] * 7, (*labels, "bottom right")]
    chart = scenes.Scene("chart", "black", bars=(("red", 6), ("blue", 1)))
    assert patch_labels(chart, 4)[:4] == [(), ("red", "6"), (), ()]
    word = scenes.Scene("word", "grey", text="BAD", colour="pink")
    assert patch_labels(word, 3)[3:6] == [("B", "pink"), ("A", "pink"), ("D", "pink")]
    seven = scenes.Scene("number", "grey", text="7", colour="pink")
    assert {labels for labels in patch_labels(seven, 4) if labels} == {("7", "pink")}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_first_label_is_the_target_mostly_and_the_count_at_the_end(stage):
    rng, star = make_rng(6), scenes.SceneObject("star", "red", "large", 0)
    scene = scenes.Scene("objects", "white", (star, star._replace(cell=8, colour="blue")))
    targets = [patch_targets(rng, [scene], 3, stage) for _ in range(400)]
    assert {tuple(labels[1:8]) for labels in targets} == {("",) * 7}
    assert {labels[9] for labels in targets} == {"2"}
    counts = Counter(labels[0] for labels in targets)
    assert set(counts) == {"star", "red", "large", "top left", *(("1", "2") if stage else ())}
    first = counts.pop("star")
    assert abs(first - (300, 240, 160, 160)[stage]) < 40
    assert all(abs(n - (400 - first) / len(counts)) < 25 for n in counts.values())
    assert patch_targets(rng, [scenes.Scene("word", "grey", text="BAD", colour="pink")], 3, stage)[-1] == ""
    chart = scenes.Scene("chart", "black", bars=(("red", 6), ("blue", 1), ("pink", 2)))
    assert patch_targets(rng, [chart], 3, stage)[-1] == "3"


def test_a_second_image_is_also_asked_what_both_share():
    star = scenes.SceneObject("star", "red", "large", 0)
    one, other, two = (scenes.Scene("objects", "white", objects) for objects in (
        (star,), (star._replace(cell=3, size="small"),), (star, star._replace(cell=8))))
    assert common_properties(one, other) == ["shape", "colour"]
    assert common_properties(one, one) == ["shape", "colour", "size", "position"]
    assert common_properties(one, two) == []
    assert common_properties(two, two) == ["number"]
    rng = make_rng(7)
    targets = [patch_targets(rng, [one, other], 3, 1) for _ in range(400)]
    assert {labels[9] for labels in targets} == {"1"}
    counts = Counter(labels[19] for labels in targets)
    assert set(counts) == {"1", "shape", "colour"}
    assert 160 < counts["1"] < 240
    assert {labels[19] for labels in (patch_targets(rng, [one, other], 3) for _ in range(50))} == {"1"}
    for stage in (2, 3):
        assert {labels[9] for labels in (patch_targets(rng, [one, other], 3, stage) for _ in range(99))} == {
            "1", "star", "red", "large", "top left"}
    assert {labels[19] for labels in (patch_targets(rng, [one, two], 3, 1) for _ in range(50))} == {"2"}


def test_an_image_in_a_dialog_has_its_scene():
    messages = dialogs.random_dialog(make_rng(3), "same")
    parts = [part for part in messages[0]["content"] if part["type"] == "image"]
    assert len(parts) == 2
    for part in parts:
        assert part["image"].tobytes() == scenes.render(part["scene"]).tobytes()
