"""Questions about two scenes side by side."""
from tinyscout.data.scene_questions import QA
from tinyscout.data.scenes import COLOURS, SHAPES, choose, sample_distinct

SEPARATOR = ": "                                        # between the intermediate words and the final answer
ATTRIBUTE_VALUES = {"colour": tuple(COLOURS), "shape": SHAPES}
ORDINALS = ("first", "second")
CHANGES = ("colour", "shape", "size", "position")       # fields of a SceneObject; the field of a position is `cell`


def ask_same(rng, attribute, scenes):
    """Ask if two scenes agree in the number of objects, or in the colour or shape of their single object: a QA.

    The answer is yes or no.  Colours and shapes are named before it: "first circle, second ring: no".
    """
    if attribute == "number":
        agree, prefix, chance = len(scenes[0].objects) == len(scenes[1].objects), "", 1 / 2
        wordings = ("Do both pictures show the same number of objects?", "Is the number of objects the same?",
                    "Are there equally many objects in both pictures?")
    else:
        one, other = (getattr(scene.objects[0], attribute) for scene in scenes)
        agree, prefix, chance = one == other, state_both(one, other), 1 / 2 / len(ATTRIBUTE_VALUES[attribute])
        wordings = (f"Do both objects have the same {attribute}?",
                    f"Is the object of the same {attribute} in both pictures?",
                    f"Are the two objects of the same {attribute}?")
    return QA(attribute, choose(rng, wordings), prefix + ("yes" if agree else "no"), chance)


def state_both(one, other):
    """Name the two values that are compared: the words before the final answer."""
    return f"first {one}, second {other}{SEPARATOR}"


def word_comparison(rng):
    """A text-only comparison exercise, two str such as "first red, second blue:" and " no\\n"."""
    one, other = sample_distinct(rng, choose(rng, tuple(ATTRIBUTE_VALUES.values())), 2)
    agree = rng.random() < 0.5
    return state_both(one, one if agree else other).rstrip(), " yes\n" if agree else " no\n"


def final_answer(answer):
    """The final answer alone, without the words before it."""
    return answer.rpartition(SEPARATOR)[-1]


def ask_more(rng, scenes):
    """Ask which scene has more, or fewer, objects: a QA with the answer first or second.  The numbers must differ."""
    counts = [len(scene.objects) for scene in scenes]
    word, best = choose(rng, (("more", max), ("fewer", min)))
    text = choose(rng, ("Which picture has {} objects?", "Which picture shows {} objects, the first or the second?",
                        "In which picture are there {} objects?")).format(word)
    return QA("more", text, ORDINALS[counts.index(best(counts))], 1 / 2)


def ask_changed(rng, change):
    """Ask which attribute of the single object has changed: a QA whose answer is one of CHANGES."""
    text = choose(rng, ("What changed?", "What is different in the second picture?",
                        "What has changed from the first picture to the second?"))
    return QA("changed", text, change, 1 / len(CHANGES))


def ask_comparison(rng, scenes):
    """Generate a question about two given scenes: a QA, or None if no question fits."""
    counts = [len(scene.objects) for scene in scenes]
    if counts == [1, 1]:
        return ask_same(rng, choose(rng, tuple(ATTRIBUTE_VALUES)), scenes)
    return ask_more(rng, scenes) if counts[0] != counts[1] else None
