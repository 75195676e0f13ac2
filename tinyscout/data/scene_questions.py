"""What can be asked about one scene, and the answer that follows from it."""
from typing import Any, NamedTuple

from tinyscout.data import scenes as made
from tinyscout.data.scenes import BARS, COLOURS, GROUNDS, KINDS, MOST, PLACES, SHAPES, held_out, pick

LISTED = 3              # things that a caption lists; it is silent about more
ABOUT = {               # tasks that fit a kind of scene
    "things": ("shape", "colour", "count", "position", "relation", "caption"),
    "number": ("number", "colour", "caption"),
    "word": ("word", "colour", "caption"),
    "chart": ("chart", "caption"),
}


class Asked(NamedTuple):
    """A question and its answer."""

    topic: Any          # what it asks, however it is worded
    text: str
    answer: str
    chance: float       # that a guess is right


def about(rng, task, scene):
    """A question of a task about a scene of a kind that it fits: an Asked, or None where this scene allows none."""
    return ASKERS[task](rng, scene)


def plural(word):
    """The plural of a shape."""
    return f"{word}es" if word.endswith("s") else f"{word}s"


# ---- names: what a question calls a thing must fit no other thing

def by_colour(scene, thing):
    """"the red object", or None where another is red too."""
    return _alone(scene, thing, 1) and f"the {thing.colour} object"


def by_shape(scene, thing):
    """"the circle", or None where there is another circle."""
    return _alone(scene, thing, 0) and f"the {thing.shape}"


def by_both(scene, thing):
    """"the red circle", or None where there is another red circle."""
    return _alone(scene, thing, 0, 1) and f"the {thing.colour} {thing.shape}"


def by_place(scene, thing):
    """"the object at the top", or None where another's place may be called so, as the top left may."""
    words = set(PLACES[thing.place].split())
    if any(words < set(PLACES[other.place].split()) for other in scene.things):
        return None
    name = PLACES[thing.place]
    return f"the object {'in' if name == 'middle' else 'on' if name in ('left', 'right') else 'at'} the {name}"


def _alone(scene, thing, *fields):
    """Does no other thing of the scene have the same in all these fields?"""
    return sum(all(other[n] == thing[n] for n in fields) for other in scene.things) == 1


def _target(rng, scene, *namings):
    """A thing at random, and a name for it: (thing, name), or None.  Alone it may be called just an object."""
    named = [(thing, name) for thing in scene.things for naming in namings if (name := naming(scene, thing))]
    if len(scene.things) == 1:
        named.append((scene.things[0], "the object"))
    return pick(rng, named) if named else None


# ---- askers: (rng, scene) -> Asked, or None

def _shape(rng, scene):
    if (found := _target(rng, scene, by_colour, by_place)) is None:
        return None
    thing, name = found
    text = pick(rng, ("What shape is {}?", "Which shape does {} have?", "Name the shape of {}.")).format(name)
    return Asked(("shape", thing.place), text, thing.shape, 1 / len(SHAPES))


def _colour(rng, scene):
    if scene.kind == "things":
        if (found := _target(rng, scene, by_shape, by_place)) is None:
            return None
        thing, name = found
        topic, colour = thing.place, thing.colour
    else:
        topic, name, colour = 0, f"the {scene.kind}", scene.colour
    text = pick(rng, ("What colour is {}?", "Which colour does {} have?", "Name the colour of {}.")).format(name)
    return Asked(("colour", topic), text, colour, 1 / len(COLOURS))


def _count(rng, scene):
    text = pick(rng, ("How many objects are there?", "How many objects do you see?", "Count the objects."))
    return Asked("count", text, str(len(scene.things)), 1 / MOST)


def alike(rng, scene, by, value):
    """How many things of a scene have this shape or colour?  by "shape" or "colour", value str  ->  Asked"""
    n = sum(getattr(thing, by) == value for thing in scene.things)
    name = plural(value) if by == "shape" else f"{value} objects"
    text = pick(rng, ("How many {} are there?", "How many {} do you see?", "Count the {}.")).format(name)
    return Asked(("count", value), text, str(n), 1 / MOST)


def _position(rng, scene):
    if (found := _target(rng, scene, by_colour, by_shape, by_both)) is None:
        return None
    thing, name = found
    text = pick(rng, ("Where is {}?", "Where do you see {}?", "In which part of the picture is {}?")).format(name)
    return Asked(("position", thing.place), text, PLACES[thing.place], 1 / len(PLACES))


def _relation(rng, scene):
    named = [(thing, name) for thing in scene.things if (name := by_both(scene, thing))]
    if len(named) < 2:
        return None
    (one, name), (other, other_name) = made.shuffled(rng, named, 2)
    steps = [divmod(other.place, 3)[axis] - divmod(one.place, 3)[axis] for axis in (0, 1)]
    axis = pick(rng, [axis for axis in (0, 1) if steps[axis]])
    words = [("above", "below"), ("left of", "right of")][axis]
    truth = words[steps[axis] < 0]
    topic = ("relation", axis, *sorted((one.place, other.place)))
    if rng.random() < 0.5:
        text = pick(rng, ("Is {} {} or {} {}?", "Where is {}: {} or {} {}?"))
        text = text.format(name, words[0].removesuffix(" of"), words[1], other_name)
        return Asked(topic, text, truth.removesuffix(" of"), 1 / 2)
    word = pick(rng, words)
    text = pick(rng, ("Is {} {} {}?", "Do you see {} {} {}?")).format(name, word, other_name)
    return Asked(topic, text, "yes" if word == truth else "no", 1 / 2)


def _number(rng, scene):
    text = pick(rng, ("What number is this?", "Which number do you see?", "Read the number."))
    return Asked("number", text, scene.text, made.chance("number", held_out(scene)))


def _word(rng, scene):
    text = pick(rng, ("What word is this?", "Which word do you see?", "Read the word."))
    return Asked("word", text, scene.text, made.chance("word", held_out(scene)))


def _chart(rng, scene):
    form = pick(rng, ("tallest", "shortest", "number", "taller"))
    if form == "number":
        text = pick(rng, ("How many bars are there?", "How many bars do you see?", "Count the bars."))
        return Asked(form, text, str(len(scene.bars)), 1 / len(BARS))
    if form == "taller":
        (one, height), (other, other_height) = made.shuffled(rng, scene.bars, 2)
        text = pick(rng, ("Is the {} bar taller than the {} bar?", "Is the {} bar higher than the {} one?"))
        return Asked((form, *sorted((one, other))), text.format(one, other), _yes(height > other_height), 1 / 2)
    best = max if form == "tallest" else min
    text = pick(rng, ("Which bar is the {}?", "What colour is the {} bar?", "Name the colour of the {} bar."))
    return Asked(form, text.format(form), best(scene.bars, key=lambda bar: bar[1])[0], 1 / len(scene.bars))


def _caption(rng, scene):
    if len(scene.things) > LISTED:
        return None
    if scene.kind == "things":
        words = listed([f"{thing.size} {thing.colour} {thing.shape}" for thing in scene.things], "a ")
    elif scene.kind == "chart":
        words = f"a chart with {listed([colour for colour, _ in scene.bars])} bars"
    else:
        words = f"the {scene.kind} {scene.text} in {scene.colour}"
    text = pick(rng, ("Describe the picture.", "What is in the picture?", "What do you see?"))
    two_bars = len(COLOURS) * (len(COLOURS) - 1)        # the picture that is easiest to guess
    chance = 1 / (len(KINDS) * len(BARS) * two_bars * len(GROUNDS))
    return Asked("caption", text, f"{words[0].upper()}{words[1:]} on {scene.ground}.", chance)


def listed(words, before=""):
    """"a, b and c"."""
    words = [before + word for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _yes(truth):
    return "yes" if truth else "no"


ASKERS = {"shape": _shape, "colour": _colour, "count": _count, "position": _position, "relation": _relation,
          "number": _number, "word": _word, "chart": _chart, "caption": _caption}
