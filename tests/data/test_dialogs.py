"""Questions about scenes, each answered from its words and the scenes alone, and conversations made of them."""
import re
from collections import Counter

import numpy as np
import pytest

from tinyscout.config import tiny_config
from tinyscout.data import dialogs, scenes
from tinyscout.data.pair_questions import CHANGES, final_answer, word_comparison
from tinyscout.data.scene_questions import ask_count_matching
from tinyscout.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    GRID_POSITIONS,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    render,
)
from tinyscout.inputs.chat import encode_chat
from tinyscout.inputs.image import count_tokens

PAIR_TASKS = ("same", "more", "changed")


def make_rng(seed=0):
    return np.random.default_rng(seed)


def pixels(scene, size=64):
    return np.asarray(render(scene, size)).astype(int)


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


def test_an_image_in_a_dialog_has_its_scene():
    messages = dialogs.random_dialog(make_rng(3), "same")
    parts = [part for part in messages[0]["content"] if part["type"] == "image"]
    assert len(parts) == 2
    for part in parts:
        assert part["image"].tobytes() == render(part["scene"]).tobytes()
