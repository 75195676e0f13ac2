"""Questions about scenes, each with one short answer, and conversations made of them.

Scenes are composed for their task so that all answers are about equally likely, and guessing does not pay off.  The
messages have the format of tinyscout/inputs/chat.py.
"""
from typing import NamedTuple

from PIL import Image

from tinyscout.data.pair_questions import (
    CHANGES,
    ORDINALS,
    ask_changed,
    ask_comparison,
    ask_more,
    ask_same,
    final_answer,
)
from tinyscout.data.scene_questions import TASKS_OF_KIND, ask_about, ask_count_matching
from tinyscout.data.scenes import (
    BACKGROUNDS,
    COLOURS,
    GRID_POSITIONS,
    MAX_OBJECTS,
    SHAPES,
    SIZES,
    Scene,
    choose,
    is_held_out,
    random_object,
    random_objects,
    random_scene,
    render,
    sample_distinct,
)

MAX_TURNS = 4           # questions in a conversation
MAX_TRIES = 1000        # a red circle has 54 scene keys, and it can happen that none of them is held out


class Question(NamedTuple):
    """One question of an evaluation."""

    task: str
    images: list[Image.Image]
    text: str
    answer: str
    chance: float               # probability that a guess is right
    scenes: tuple[Scene, ...]   # the content of the images


def ask(rng, task, held_out=False, size=64):
    """Generate a Question of a task, about images of size × size pixels.

    held_out   True: only scenes that are never used for training; False: only the others
    Raises ValueError for a task that is not in TASKS.
    """
    scenes, qa = _compose(rng, task, held_out, MAX_OBJECTS)
    return Question(task, [render(scene, size) for scene in scenes], qa.text, qa.answer, qa.chance, scenes)


def to_message(question):
    """Convert a Question to a user message for tinyscout/inputs/chat.py."""
    images = [{"type": "image", "image": image} for image in question.images]
    return {"role": "user", "content": [*images, {"type": "text", "text": question.text}]}


def random_dialog(rng, task=None, turns=None, held_out=False, size=64, max_objects=MAX_OBJECTS, stage=0):
    """Generate a conversation about one or two images, as a list of messages.

    task    of the first question; None for a random one, hard tasks more often
    turns   number of questions, or fewer if there are no more to ask; None for 1 to MAX_TURNS
    max_objects     maximum number of objects in a scene; training starts with one
    stage   curriculum stage 0 to 3.  From 1 on: hard tasks even more often, and captions only if requested as `task`
            (their many easy words would outweigh a single yes or no).  From 2 on: more counting of objects of one shape
            or colour.  In 3: two colours or shapes are named before they are compared.
    No question occurs twice.  Each image part also has its scene, under "scene", which the model does not see.
    Raises ValueError for a task that is not in TASKS.
    """
    turns = int(rng.integers(1, MAX_TURNS + 1)) if turns is None else turns
    scenes, qa = _compose(rng, choose(rng, TASK_MIX[stage]) if task is None else task, held_out, max_objects)
    asked = [qa]
    for _ in range(4 * turns):          # tries: a question may be a repetition or impossible for the scene
        if len(asked) == turns:
            break
        qa = _follow_up(rng, scenes, stage)
        if qa and not any(_was_asked(qa, earlier, stage) for earlier in asked):
            asked.append(qa)
    images = [{"type": "image", "image": render(scene, size), "scene": scene} for scene in scenes]
    messages = []
    for qa in asked:
        answer = qa.answer if stage == 3 else final_answer(qa.answer)
        messages += [{"role": "user", "content": qa.text}, {"role": "assistant", "content": answer}]
    messages[0]["content"] = [*images, {"type": "text", "text": messages[0]["content"]}]
    return messages


def _was_asked(qa, earlier, stage):
    """True if the question repeats an earlier one.  Before stage 2, objects are counted only once per image."""
    both_count = all("count" in (topic, topic[0]) for topic in (qa.topic, earlier.topic))
    return qa.topic == earlier.topic or (both_count and stage < 2)


def _follow_up(rng, scenes, stage):
    """Generate another question, about one of the images or about both: a QA, or None."""
    if len(scenes) == 2 and rng.random() < 0.5:
        return ask_comparison(rng, scenes)
    n = int(rng.integers(len(scenes)))
    scene = scenes[n]
    if stage >= 2 and scene.objects and len(scenes) == 1 and rng.random() < 0.5:
        obj, attribute = choose(rng, scene.objects), choose(rng, ("shape", "colour"))
        return ask_count_matching(rng, scene, attribute, getattr(obj, attribute))
    tasks = [task for task in TASKS_OF_KIND[scene.kind] if stage == 0 or task != "caption"]
    qa = ask_about(rng, choose(rng, tasks), scene)
    if qa is None or len(scenes) == 1:
        return qa
    return qa._replace(topic=(n, qa.topic), text=f"In the {ORDINALS[n]} picture, {qa.text[0].lower()}{qa.text[1:]}")


# ---- composers: (rng, task, held_out, max_objects) -> scenes and a matching QA

def _compose(rng, task, held_out, max_objects):
    """Generate (scenes, QA) of a task, with at most `max_objects` objects, or two if the task needs them.

    This is repeated until all scenes are on the requested side of the split.
    """
    if task not in TASKS:
        raise ValueError(f"a task is one of {', '.join(TASKS)}, not {task!r}")
    composer = COMPOSERS.get(task, _compose_single)
    while True:
        scenes, qa = composer(rng, task, held_out, max(max_objects, 2 if task in TWO_OBJECT_TASKS else 1))
        if qa and all(is_held_out(scene) == held_out for scene in scenes):
            return scenes, qa


def _compose_single(rng, task, held_out, max_objects):
    """One scene of a random kind that fits the task."""
    kind = choose(rng, [kind for kind in TASKS_OF_KIND if task in TASKS_OF_KIND[kind]])
    scene = random_scene(rng, kind, max_objects)
    return (scene,), ask_about(rng, task, scene)


def _compose_count(rng, task, held_out, max_objects):
    """Count all objects (half the time), or the 1 to `max_objects` objects of one colour or shape."""
    if rng.random() < 0.5:
        scene = random_scene(rng, "objects", max_objects)
        return (scene,), ask_about(rng, task, scene)
    n, n_others = int(rng.integers(1, max_objects + 1)), int(rng.integers(min(max_objects, 4)))
    attribute = "shape" if rng.random() < 0.5 else "colour"
    counted, *others = sample_distinct(rng, SHAPES if attribute == "shape" else COLOURS, None)
    objects = []
    for k, cell in enumerate(sample_distinct(rng, range(len(GRID_POSITIONS)), n + n_others)):
        value = counted if k < n else choose(rng, others)
        objects.append(random_object(rng, cell, **{attribute: value}))
    qa = ask_count_matching(rng, Scene("objects", "", tuple(objects)), attribute, counted)
    return (_on_random_background(rng, objects),), qa


def _compose_same(rng, task, held_out, max_objects):
    """Two images that agree in the attribute asked for with probability 1/2, independently of other attributes."""
    attribute, (first_agrees, second_agrees) = choose(rng, ("colour", "shape", "number")), rng.random(2) < 0.5
    if attribute == "number":
        n, other = _two_counts(rng, max_objects)
        scenes = _two_scenes(held_out, lambda k: _on_random_background(
            rng, random_objects(rng, other if k and not first_agrees else n)))
    else:
        shapes, colours = (sample_distinct(rng, choices, 2) for choices in (SHAPES, COLOURS))
        scenes = _two_scenes(held_out, lambda k: _on_random_background(rng, [random_object(
            rng, _random_cell(rng), shapes[k and not first_agrees], colours[k and not second_agrees])]))
    return scenes, ask_same(rng, attribute, scenes) if all(scenes) else None


def _compose_more(rng, task, held_out, max_objects):
    """Two images with different numbers of objects; the answer is first or second."""
    counts = _two_counts(rng, max_objects)
    scenes = _two_scenes(held_out, lambda k: _on_random_background(rng, random_objects(rng, counts[k])))
    return scenes, ask_more(rng, scenes)


def _compose_changed(rng, task, held_out, max_objects):
    """One object, before and after a change of one of its four attributes."""
    change = choose(rng, CHANGES)
    before = random_object(rng, _random_cell(rng))._replace(dx=0.0, dy=0.0)
    field = "cell" if change == "position" else change
    choices = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "cell": range(len(GRID_POSITIONS))}[field]
    after = before._replace(**{field: choose(rng, [value for value in choices if value != getattr(before, field)])})
    scene = _on_random_background(rng, [before])
    return (scene, scene._replace(objects=(after,))), ask_changed(rng, change)


def _on_random_background(rng, objects):
    return Scene("objects", choose(rng, tuple(BACKGROUNDS)), tuple(sorted(objects, key=lambda obj: obj.cell)))


def _two_scenes(held_out, draw):
    """draw(0) and draw(1), each repeated until it is on the requested side of the split; None if it never is."""
    return tuple(next((scene for scene in (draw(k) for _ in range(MAX_TRIES)) if is_held_out(scene) == held_out), None)
                 for k in (0, 1))


def _random_cell(rng):
    return int(rng.integers(len(GRID_POSITIONS)))


def _two_counts(rng, max_objects):
    """Two different numbers from 1 to `max_objects`."""
    return sample_distinct(rng, range(1, max_objects + 1), 2)


TWO_OBJECT_TASKS = ("relation", "same", "more")         # they need more than one object
COMPOSERS = {"count": _compose_count, "same": _compose_same, "more": _compose_more, "changed": _compose_changed}
TASKS = ("shape", "colour", "count", "position", "relation", "same", "more", "changed", "number", "chart", "word",
         "caption")
TASK_MIX = (            # the tasks of each curriculum stage, hard ones more often
    TASKS + ("same", "more", "changed") * 2 + ("count", "position", "relation", "chart"),
    TASKS + ("count", "same") * 3 + ("relation", "relation", "more", "changed", "position", "number", "word", "chart",
                                     "caption"),
    TASKS + ("count",) * 6 + ("same",) * 7 + ("relation",) * 2 + ("changed", "number", "position"),
    TASKS + ("count", "same") * 6 + ("relation", "number") * 3 + ("word", "caption") * 2 + ("changed", "position"),
)
