"""Questions about one scene, with their answers."""
from typing import Any, NamedTuple

from tinyscout.data.scenes import (
    BACKGROUNDS,
    BAR_COUNTS,
    COLOURS,
    GRID_POSITIONS,
    KINDS,
    MAX_OBJECTS,
    SHAPES,
    chance_level,
    choose,
    is_held_out,
    sample_distinct,
)

MAX_LISTED = 3          # objects that a caption lists; scenes with more objects do not get a caption
TASKS_OF_KIND = {       # tasks that fit a kind of scene
    "objects": ("shape", "colour", "count", "position", "relation", "caption"),
    "number": ("number", "colour", "caption"),
    "word": ("word", "colour", "caption"),
    "chart": ("chart", "caption"),
}


class QA(NamedTuple):
    """A question and its answer."""

    topic: Any          # identifies the question, independently of its wording
    text: str
    answer: str
    chance: float       # probability that a guess is right


def ask_about(rng, task, scene):
    """Generate a question of a task about a scene of a suitable kind: a QA, or None if the scene does not allow it."""
    return ASKERS[task](rng, scene)


def plural(word):
    """The plural of the name of a shape."""
    return f"{word}es" if word.endswith("s") else f"{word}s"


# ---- descriptions of an object for a question; None if the description would also fit another object

def describe_by_colour(scene, obj):
    """Describe an object as "the red object"."""
    return f"the {obj.colour} object" if _is_unique(scene, obj, "colour") else None


def describe_by_shape(scene, obj):
    """Describe an object as "the circle"."""
    return f"the {obj.shape}" if _is_unique(scene, obj, "shape") else None


def describe_by_both(scene, obj):
    """Describe an object as "the red circle"."""
    return f"the {obj.colour} {obj.shape}" if _is_unique(scene, obj, "shape", "colour") else None


def describe_by_position(scene, obj):
    """Describe an object as "the object at the top".  This would also fit an object at the top left."""
    name = GRID_POSITIONS[obj.cell]
    words = set(name.split())
    if any(words < set(GRID_POSITIONS[other.cell].split()) for other in scene.objects):
        return None
    preposition = {"middle": "in", "left": "on", "right": "on"}.get(name, "at")
    return f"the object {preposition} the {name}"


def _is_unique(scene, obj, *fields):
    """True if the values of these fields identify the object: all other objects of the scene differ in one of them."""
    return sum(all(getattr(other, field) == getattr(obj, field) for field in fields) for other in scene.objects) == 1


def _choose_target(rng, scene, *describers):
    """A random object and its description: (object, str), or None.  A single object can also be "the object"."""
    targets = [(obj, description) for obj in scene.objects for describe in describers
               if (description := describe(scene, obj))]
    if len(scene.objects) == 1:
        targets.append((scene.objects[0], "the object"))
    return choose(rng, targets) if targets else None


# ---- askers: (rng, scene) -> QA, or None

def _ask_shape(rng, scene):
    if (target := _choose_target(rng, scene, describe_by_colour, describe_by_position)) is None:
        return None
    obj, name = target
    text = choose(rng, ("What shape is {}?", "Which shape does {} have?", "Name the shape of {}.")).format(name)
    return QA(("shape", obj.cell), text, obj.shape, 1 / len(SHAPES))


def _ask_colour(rng, scene):
    if scene.kind == "objects":
        if (target := _choose_target(rng, scene, describe_by_shape, describe_by_position)) is None:
            return None
        obj, name = target
        cell, colour = obj.cell, obj.colour
    else:
        cell, name, colour = 0, f"the {scene.kind}", scene.colour
    text = choose(rng, ("What colour is {}?", "Which colour does {} have?", "Name the colour of {}.")).format(name)
    return QA(("colour", cell), text, colour, 1 / len(COLOURS))


def _ask_count(rng, scene):
    text = choose(rng, ("How many objects are there?", "How many objects do you see?", "Count the objects."))
    return QA("count", text, str(len(scene.objects)), 1 / MAX_OBJECTS)


def ask_count_matching(rng, scene, attribute, value):
    """Ask for the number of objects of a shape or colour.  attribute "shape" or "colour", value str  ->  QA"""
    n = sum(getattr(obj, attribute) == value for obj in scene.objects)
    name = plural(value) if attribute == "shape" else f"{value} objects"
    text = choose(rng, ("How many {} are there?", "How many {} do you see?", "Count the {}.")).format(name)
    return QA(("count", value), text, str(n), 1 / MAX_OBJECTS)


def _ask_position(rng, scene):
    if (target := _choose_target(rng, scene, describe_by_colour, describe_by_shape, describe_by_both)) is None:
        return None
    obj, name = target
    text = choose(rng, ("Where is {}?", "Where do you see {}?", "In which part of the picture is {}?")).format(name)
    return QA(("position", obj.cell), text, GRID_POSITIONS[obj.cell], 1 / len(GRID_POSITIONS))


def _ask_relation(rng, scene):
    targets = [(obj, name) for obj in scene.objects if (name := describe_by_both(scene, obj))]
    if len(targets) < 2:
        return None
    (one, name), (other, other_name) = sample_distinct(rng, targets, 2)
    steps = [divmod(other.cell, 3)[axis] - divmod(one.cell, 3)[axis] for axis in (0, 1)]
    axis = choose(rng, [axis for axis in (0, 1) if steps[axis]])
    words = [("above", "below"), ("left of", "right of")][axis]
    truth = words[steps[axis] < 0]
    topic = ("relation", axis, *sorted((one.cell, other.cell)))
    if rng.random() < 0.5:
        text = choose(rng, ("Is {} {} or {} {}?", "Where is {}: {} or {} {}?"))
        text = text.format(name, words[0].removesuffix(" of"), words[1], other_name)
        return QA(topic, text, truth.removesuffix(" of"), 1 / 2)
    word = choose(rng, words)
    text = choose(rng, ("Is {} {} {}?", "Do you see {} {} {}?")).format(name, word, other_name)
    return QA(topic, text, _yes_or_no(word == truth), 1 / 2)


def _ask_number(rng, scene):
    text = choose(rng, ("What number is this?", "Which number do you see?", "Read the number."))
    return QA("number", text, scene.text, chance_level("number", is_held_out(scene)))


def _ask_word(rng, scene):
    text = choose(rng, ("What word is this?", "Which word do you see?", "Read the word."))
    return QA("word", text, scene.text, chance_level("word", is_held_out(scene)))


def _ask_chart(rng, scene):
    form = choose(rng, ("tallest", "shortest", "number", "taller"))
    if form == "number":
        text = choose(rng, ("How many bars are there?", "How many bars do you see?", "Count the bars."))
        return QA(form, text, str(len(scene.bars)), 1 / len(BAR_COUNTS))
    if form == "taller":
        (one, height), (other, other_height) = sample_distinct(rng, scene.bars, 2)
        text = choose(rng, ("Is the {} bar taller than the {} bar?", "Is the {} bar higher than the {} one?"))
        return QA((form, *sorted((one, other))), text.format(one, other), _yes_or_no(height > other_height), 1 / 2)
    best = max if form == "tallest" else min
    text = choose(rng, ("Which bar is the {}?", "What colour is the {} bar?", "Name the colour of the {} bar."))
    colour, _ = best(scene.bars, key=lambda bar: bar[1])
    return QA(form, text.format(form), colour, 1 / len(scene.bars))


def _ask_caption(rng, scene):
    if len(scene.objects) > MAX_LISTED:
        return None
    if scene.kind == "objects":
        words = join_words([f"{obj.size} {obj.colour} {obj.shape}" for obj in scene.objects], "a ")
    elif scene.kind == "chart":
        words = f"a chart with {join_words([colour for colour, _ in scene.bars])} bars"
    else:
        words = f"the {scene.kind} {scene.text} in {scene.colour}"
    text = choose(rng, ("Describe the picture.", "What is in the picture?", "What do you see?"))
    two_bars = len(COLOURS) * (len(COLOURS) - 1)        # the kind of image that is easiest to guess
    chance = 1 / (len(KINDS) * len(BAR_COUNTS) * two_bars * len(BACKGROUNDS))
    return QA("caption", text, f"{words[0].upper()}{words[1:]} on {scene.background}.", chance)


def join_words(words, article=""):
    """Join words as "a, b and c"."""
    words = [article + word for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _yes_or_no(truth):
    return "yes" if truth else "no"


ASKERS = {"shape": _ask_shape, "colour": _ask_colour, "count": _ask_count, "position": _ask_position,
          "relation": _ask_relation, "number": _ask_number, "word": _ask_word, "chart": _ask_chart,
          "caption": _ask_caption}
