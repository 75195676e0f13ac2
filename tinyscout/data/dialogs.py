"""Questions about scenes, each with one short answer, and conversations made of them.

A task is staged: the scenes are drawn so that every answer is as likely as any other, and an answer is worth what it
seems.  The messages are those of tinyscout/inputs/chat.py.
"""
from typing import NamedTuple

from PIL import Image

from tinyscout.data import scenes as made
from tinyscout.data.pair_questions import CHANGES, ORDINALS, ask_changed, ask_more, ask_same, compare, final_answer
from tinyscout.data.scene_questions import ABOUT, ask_about, count_matching
from tinyscout.data.scenes import (
    COLOURS,
    GRID_POSITIONS,
    MOST,
    SHAPES,
    SIZES,
    Scene,
    choose,
    random_object,
    random_objects,
    random_scene,
    render,
)

TURNS = 4               # questions in a conversation, at most
TRIES = 1000            # of a red circle there are 54 gists, and sometimes none is held out


class Question(NamedTuple):
    """One question, as a test asks it."""

    task: str
    pictures: list[Image.Image]
    text: str
    answer: str
    chance: float               # that a guess is right, by one who has not looked closely
    scenes: tuple[Scene, ...]   # what the pictures show


def ask(rng, task, held_out=False, size=64):
    """A question of a task, about pictures of size × size pixels: a Question.

    held_out   only scenes that no conversation for training ever shows; without it, only others
    Raises ValueError for a task that is not in TASKS.
    """
    shown, asked = _stage(rng, task, held_out, MOST)
    return Question(task, [render(one, size) for one in shown], asked.text, asked.answer, asked.chance, shown)


def message(question):
    """A Question as the message of a user, for tinyscout/inputs/chat.py."""
    pictures = [{"type": "image", "image": picture} for picture in question.pictures]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": question.text}]}


def dialog(rng, task=None, turns=None, held_out=False, size=64, most=MOST, stage=0):
    """A conversation about one or two pictures, as a list of messages.

    task    of the first question; None for any, those more often that take more practice
    turns   questions in all, or fewer where there is no more to ask; None for 1 to TURNS
    most    things on a picture: who begins to see begins with one
    stage   of learning, 0 to 3: later the hard tasks come more often still, and only who asks for it gets a caption,
            whose many easy words would outweigh the one of "yes" or "no"; from 2 on things of one kind are counted
            much; in 3 two colours or shapes are named before they are compared, and until then they are not
    No question comes twice.  Beside each picture stands its scene, which the model is not shown.
    Raises ValueError for a task that is not in TASKS.
    """
    turns = int(rng.integers(1, TURNS + 1)) if turns is None else turns
    shown, asked = _stage(rng, choose(rng, PRACTICE[stage]) if task is None else task, held_out, most)
    rounds = [asked]
    for _ in range(4 * turns):          # tries, since some come twice or have no answer
        if len(rounds) == turns:
            break
        asked = _follow_up(rng, shown, stage)
        if asked and not any(_was_asked(asked, earlier, stage) for earlier in rounds):
            rounds.append(asked)
    pictures = [{"type": "image", "image": render(one, size), "scene": one} for one in shown]
    said = str if stage == 3 else final_answer
    first, *rest = [[{"role": "user", "content": asked.text}, {"role": "assistant", "content": said(asked.answer)}]
                    for asked in rounds]
    first[0]["content"] = [*pictures, {"type": "text", "text": first[0]["content"]}]
    return [message for two in [first, *rest] for message in two]


def _was_asked(asked, earlier, stage):
    """Is this what was asked before?  Until stage 2 the things on a picture are counted once only."""
    both_count = all("count" in (one.topic, one.topic[0]) for one in (asked, earlier))
    return asked.topic == earlier.topic or (both_count and stage < 2)


def _follow_up(rng, shown, stage):
    """One more question, about one of the pictures or about both: an Asked or None."""
    if len(shown) == 2 and rng.random() < 0.5:
        return compare(rng, shown)
    which = int(rng.integers(len(shown)))
    if stage >= 2 and shown[which].things and len(shown) == 1 and rng.random() < 0.5:
        one, by = choose(rng, shown[which].things), choose(rng, ("shape", "colour"))
        return count_matching(rng, shown[which], by, getattr(one, by))
    tasks = [task for task in ABOUT[shown[which].kind] if stage == 0 or task != "caption"]
    asked = ask_about(rng, choose(rng, tasks), shown[which])
    if asked is None or len(shown) == 1:
        return asked
    return asked._replace(topic=(which, asked.topic),
                          text=f"In the {ORDINALS[which]} picture, {asked.text[0].lower()}{asked.text[1:]}")


# ---- staging: scenes and a question, drawn together

def _stage(rng, task, held_out, most):
    """(scenes, Asked) of a task, with at most so many things, or two where a task needs them.

    What is drawn is drawn again until all its scenes are of the right part.
    """
    if task not in TASKS:
        raise ValueError(f"a task is one of {', '.join(TASKS)}, not {task!r}")
    stage = STAGES.get(task, _stage_one)
    while True:
        shown, asked = stage(rng, task, held_out, max(most, 2 if task in PAIRS else 1))
        if asked and all(made.is_held_out(one) == held_out for one in shown):
            return shown, asked


def _stage_one(rng, task, held_out, most):
    """One scene of a kind that the task is about."""
    kind = choose(rng, [kind for kind in ABOUT if task in ABOUT[kind]])
    shown = random_scene(rng, kind, most)
    return (shown,), ask_about(rng, task, shown)


def _stage_count(rng, task, held_out, most):
    """Half the time all things are counted, half the time those of one colour or shape, 1 to MOST of them."""
    if rng.random() < 0.5:
        shown = random_scene(rng, "things", most)
        return (shown,), ask_about(rng, task, shown)
    n, others = int(rng.integers(1, most + 1)), int(rng.integers(min(most, 4)))
    by_shape = rng.random() < 0.5
    one, *rest = made.shuffled(rng, SHAPES if by_shape else COLOURS, None)
    placed = []
    for k, place in enumerate(made.shuffled(rng, range(len(GRID_POSITIONS)), n + others)):
        value = one if k < n else choose(rng, rest)
        placed.append(random_object(rng, place, shape=value) if by_shape else random_object(rng, place, colour=value))
    asked = count_matching(rng, Scene("things", "", tuple(placed)), "shape" if by_shape else "colour", one)
    shown = _on_ground(rng, *placed)
    return (shown,), asked


def _stage_same(rng, task, held_out, most):
    """Two pictures that agree in something, or do not, each as likely: whichever of their properties is asked for."""
    what, agree = choose(rng, ("colour", "shape", "number")), (rng.random(2) < 0.5).tolist()
    if what == "number":
        n, other = _numbers(rng, most)
        counts = n, n if agree[0] else other
        shown = tuple(_in_split(held_out, lambda n=n: _on_ground(rng, *random_objects(rng, n))) for n in counts)
    else:
        shapes, colours = (made.shuffled(rng, choices, 2) for choices in (SHAPES, COLOURS))
        shown = tuple(_in_split(held_out, lambda k=k: _on_ground(rng, random_object(
            rng, _place(rng), shapes[k and not agree[0]], colours[k and not agree[1]]))) for k in (0, 1))
    return shown, ask_same(rng, what, shown) if all(shown) else None


def _stage_more(rng, task, held_out, most):
    """Two pictures with different numbers of things: first or second."""
    shown = tuple(_in_split(held_out, lambda n=n: _on_ground(rng, *random_objects(rng, n)))
                  for n in _numbers(rng, most))
    return shown, ask_more(rng, shown)


def _stage_changed(rng, task, held_out, most):
    """One thing, before and after one of its four properties changed."""
    change = choose(rng, CHANGES)
    before = random_object(rng, _place(rng))._replace(dx=0.0, dy=0.0)
    field = "place" if change == "position" else change
    choices = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "place": range(len(GRID_POSITIONS))}[field]
    after = before._replace(**{field: choose(rng, [one for one in choices if one != getattr(before, field)])})
    shown = _on_ground(rng, before)
    return (shown, shown._replace(things=(after,))), ask_changed(rng, change)


def _on_ground(rng, *placed):
    return Scene("things", choose(rng, tuple(made.GROUNDS)), tuple(sorted(placed, key=lambda one: one.place)))


def _in_split(held_out, scene_at_random):
    """A scene of the right part, or None where all seem to be of the other: of two, each is drawn again for itself."""
    drawn = (scene_at_random() for _ in range(TRIES))
    return next((shown for shown in drawn if made.is_held_out(shown) == held_out), None)


def _place(rng):
    return int(rng.integers(len(GRID_POSITIONS)))


def _numbers(rng, most):
    """Two different numbers from 1."""
    return made.shuffled(rng, range(1, most + 1), 2)


PAIRS = ("relation", "same", "more")                # there is no such question about one thing
STAGES = {"count": _stage_count, "same": _stage_same, "more": _stage_more, "changed": _stage_changed}
TASKS = ("shape", "colour", "count", "position", "relation", "same", "more", "changed", "number", "chart", "word",
         "caption")
PRACTICE = (            # what is asked for in each stage of learning, the hard ones more often
    TASKS + ("same", "more", "changed") * 2 + ("count", "position", "relation", "chart"),
    TASKS + ("count", "same") * 3 + ("relation", "relation", "more", "changed", "position", "number", "word", "chart",
                                     "caption"),
    TASKS + ("count",) * 6 + ("same",) * 7 + ("relation",) * 2 + ("changed", "number", "position"),
    TASKS + ("count", "same") * 6 + ("relation", "number") * 3 + ("word", "caption") * 2 + ("changed", "position"),
)
