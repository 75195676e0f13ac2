"""What can be asked about one scene, and the answer that follows from it."""
from typing import Any, NamedTuple

from tinyscout.data import scenes as made
from tinyscout.data.scenes import BARS, COLOURS, GRID_POSITIONS, GROUNDS, KINDS, MOST, SHAPES, choose, is_held_out

LISTED = 3              # things that a caption lists; it is silent about more
ABOUT = {               # tasks that fit a kind of scene
    "things": ("shape", "colour", "count", "position", "relation", "caption"),
    "number": ("number", "colour", "caption"),
    "word": ("word", "colour", "caption"),
    "chart": ("chart", "caption"),
}


class QA(NamedTuple):
    """A question and its answer."""

    topic: Any          # what it asks, however it is worded
    text: str
    answer: str
    chance: float       # that a guess is right


def ask_about(rng, task, scene):
    """A question of a task about a scene of a kind that it fits: an Asked, or None where this scene allows none."""
    return ASKERS[task](rng, scene)


def plural(word):
    """The plural of a shape."""
    return f"{word}es" if word.endswith("s") else f"{word}s"


# ---- names: what a question calls a thing must fit no other thing

def describe_by_colour(scene, thing):
    """"the red object", or None where another is red too."""
    return _is_unique(scene, thing, 1) and f"the {thing.colour} object"


def by_shape(scene, thing):
    """"the circle", or None where there is another circle."""
    return _is_unique(scene, thing, 0) and f"the {thing.shape}"


def by_both(scene, thing):
    """"the red circle", or None where there is another red circle."""
    return _is_unique(scene, thing, 0, 1) and f"the {thing.colour} {thing.shape}"


def by_place(scene, thing):
    """"the object at the top", or None where another's place may be called so, as the top left may."""
    words = set(GRID_POSITIONS[thing.place].split())
    if any(words < set(GRID_POSITIONS[other.place].split()) for other in scene.things):
        return None
    name = GRID_POSITIONS[thing.place]
    return f"the object {'in' if name == 'middle' else 'on' if name in ('left', 'right') else 'at'} the {name}"


def _is_unique(scene, thing, *fields):
    """Does no other thing of the scene have the same in all these fields?"""
    return sum(all(other[n] == thing[n] for n in fields) for other in scene.things) == 1


def _pick_target(rng, scene, *namings):
    """A thing at random, and a name for it: (thing, name), or None.  Alone it may be called just an object."""
    named = [(thing, name) for thing in scene.things for naming in namings if (name := naming(scene, thing))]
    if len(scene.things) == 1:
        named.append((scene.things[0], "the object"))
    return choose(rng, named) if named else None


# ---- askers: (rng, scene) -> Asked, or None

def _shape(rng, scene):
    if (found := _pick_target(rng, scene, describe_by_colour, by_place)) is None:
        return None
    thing, name = found
    text = choose(rng, ("What shape is {}?", "Which shape does {} have?", "Name the shape of {}.")).format(name)
    return QA(("shape", thing.place), text, thing.shape, 1 / len(SHAPES))


def _colour(rng, scene):
    if scene.kind == "things":
        if (found := _pick_target(rng, scene, by_shape, by_place)) is None:
            return None
        thing, name = found
        topic, colour = thing.place, thing.colour
    else:
        topic, name, colour = 0, f"the {scene.kind}", scene.colour
    text = choose(rng, ("What colour is {}?", "Which colour does {} have?", "Name the colour of {}.")).format(name)
    return QA(("colour", topic), text, colour, 1 / len(COLOURS))


def _count(rng, scene):
    text = choose(rng, ("How many objects are there?", "How many objects do you see?", "Count the objects."))
    return QA("count", text, str(len(scene.things)), 1 / MOST)


def count_matching(rng, scene, by, value):
    """How many things of a scene have this shape or colour?  by "shape" or "colour", value str  ->  Asked"""
    n = sum(getattr(thing, by) == value for thing in scene.things)
    name = plural(value) if by == "shape" else f"{value} objects"
    text = choose(rng, ("How many {} are there?", "How many {} do you see?", "Count the {}.")).format(name)
    return QA(("count", value), text, str(n), 1 / MOST)


def _position(rng, scene):
    if (found := _pick_target(rng, scene, describe_by_colour, by_shape, by_both)) is None:
        return None
    thing, name = found
    text = choose(rng, ("Where is {}?", "Where do you see {}?", "In which part of the picture is {}?")).format(name)
    return QA(("position", thing.place), text, GRID_POSITIONS[thing.place], 1 / len(GRID_POSITIONS))


def _relation(rng, scene):
    named = [(thing, name) for thing in scene.things if (name := by_both(scene, thing))]
    if len(named) < 2:
        return None
    (one, name), (other, other_name) = made.shuffled(rng, named, 2)
    steps = [divmod(other.place, 3)[axis] - divmod(one.place, 3)[axis] for axis in (0, 1)]
    axis = choose(rng, [axis for axis in (0, 1) if steps[axis]])
    words = [("above", "below"), ("left of", "right of")][axis]
    truth = words[steps[axis] < 0]
    topic = ("relation", axis, *sorted((one.place, other.place)))
    if rng.random() < 0.5:
        text = choose(rng, ("Is {} {} or {} {}?", "Where is {}: {} or {} {}?"))
        text = text.format(name, words[0].removesuffix(" of"), words[1], other_name)
        return QA(topic, text, truth.removesuffix(" of"), 1 / 2)
    word = choose(rng, words)
    text = choose(rng, ("Is {} {} {}?", "Do you see {} {} {}?")).format(name, word, other_name)
    return QA(topic, text, "yes" if word == truth else "no", 1 / 2)


def _number(rng, scene):
    text = choose(rng, ("What number is this?", "Which number do you see?", "Read the number."))
    return QA("number", text, scene.text, made.chance("number", is_held_out(scene)))


def _word(rng, scene):
    text = choose(rng, ("What word is this?", "Which word do you see?", "Read the word."))
    return QA("word", text, scene.text, made.chance("word", is_held_out(scene)))


def _chart(rng, scene):
    form = choose(rng, ("tallest", "shortest", "number", "taller"))
    if form == "number":
        text = choose(rng, ("How many bars are there?", "How many bars do you see?", "Count the bars."))
        return QA(form, text, str(len(scene.bars)), 1 / len(BARS))
    if form == "taller":
        (one, height), (other, other_height) = made.shuffled(rng, scene.bars, 2)
        text = choose(rng, ("Is the {} bar taller than the {} bar?", "Is the {} bar higher than the {} one?"))
        return QA((form, *sorted((one, other))), text.format(one, other), _yes(height > other_height), 1 / 2)
    best = max if form == "tallest" else min
    text = choose(rng, ("Which bar is the {}?", "What colour is the {} bar?", "Name the colour of the {} bar."))
    return QA(form, text.format(form), best(scene.bars, key=lambda bar: bar[1])[0], 1 / len(scene.bars))


def _caption(rng, scene):
    if len(scene.things) > LISTED:
        return None
    if scene.kind == "things":
        words = join_words([f"{thing.size} {thing.colour} {thing.shape}" for thing in scene.things], "a ")
    elif scene.kind == "chart":
        words = f"a chart with {join_words([colour for colour, _ in scene.bars])} bars"
    else:
        words = f"the {scene.kind} {scene.text} in {scene.colour}"
    text = choose(rng, ("Describe the picture.", "What is in the picture?", "What do you see?"))
    two_bars = len(COLOURS) * (len(COLOURS) - 1)        # the picture that is easiest to guess
    chance = 1 / (len(KINDS) * len(BARS) * two_bars * len(GROUNDS))
    return QA("caption", text, f"{words[0].upper()}{words[1:]} on {scene.ground}.", chance)


def join_words(words, before=""):
    """"a, b and c"."""
    words = [before + word for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _yes(truth):
    return "yes" if truth else "no"


ASKERS = {"shape": _shape, "colour": _colour, "count": _count, "position": _position, "relation": _relation,
          "number": _number, "word": _word, "chart": _chart, "caption": _caption}
