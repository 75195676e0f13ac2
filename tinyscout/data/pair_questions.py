"""What can be asked about two scenes side by side."""
from tinyscout.data.scene_questions import QA
from tinyscout.data.scenes import COLOURS, SHAPES, choose, shuffled

SEPARATOR = ": "                                               # between what is seen and what follows
WORDS = {"colour": tuple(COLOURS), "shape": SHAPES}
ORDINALS = ("first", "second")
CHANGES = ("colour", "shape", "size", "position")       # fields of a Thing, the last of them called place there


def ask_same(rng, what, shown):
    """Do both agree in the number of things, or in the colour or shape of the only one?  yes or no: an Asked.

    Colours and shapes are named before: "first circle, second ring: no".
    """
    if what == "number":
        agree, seen, chance = len(shown[0].things) == len(shown[1].things), "", 1 / 2
        wordings = ("Do both pictures show the same number of objects?", "Is the number of objects the same?",
                    "Are there equally many objects in both pictures?")
    else:
        one, other = (getattr(scene.things[0], what) for scene in shown)
        agree, seen, chance = one == other, state_both(one, other), 1 / 2 / len(WORDS[what])
        wordings = (f"Do both objects have the same {what}?", f"Is the object of the same {what} in both pictures?",
                    f"Are the two objects of the same {what}?")
    return QA(what, choose(rng, wordings), seen + ("yes" if agree else "no"), chance)


def state_both(one, other):
    """Two values that are to be compared, in words."""
    return f"first {one}, second {other}{SEPARATOR}"


def word_comparison(rng):
    """Such an answer in words alone, to learn when two are the same: "first red, second blue:" and " no", str."""
    one, other = shuffled(rng, choose(rng, tuple(WORDS.values())), 2)
    agree = rng.random() < 0.5
    return state_both(one, one if agree else other).rstrip(), " yes\n" if agree else " no\n"


def final_answer(answer):
    """What an answer comes to, without what was named before."""
    return answer.rpartition(SEPARATOR)[-1]


def ask_more(rng, shown):
    """Which has more, or fewer?  first or second: an Asked.  Their numbers must differ."""
    counts = [len(one.things) for one in shown]
    word, best = choose(rng, (("more", max), ("fewer", min)))
    text = choose(rng, ("Which picture has {} objects?", "Which picture shows {} objects, the first or the second?",
                        "In which picture are there {} objects?")).format(word)
    return QA("more", text, ORDINALS[counts.index(best(counts))], 1 / 2)


def ask_changed(rng, change):
    """What is another about the only thing?  One of CHANGES: an Asked."""
    text = choose(rng, ("What changed?", "What is different in the second picture?",
                        "What has changed from the first picture to the second?"))
    return QA("changed", text, change, 1 / len(CHANGES))


def compare(rng, shown):
    """Something about both, once they are seen: an Asked, or None where nothing fits."""
    counts = [len(one.things) for one in shown]
    if counts == [1, 1]:
        return ask_same(rng, choose(rng, tuple(WORDS)), shown)
    return ask_more(rng, shown) if counts[0] != counts[1] else None
