"""What can be asked about two scenes side by side."""
from tinyscout.data.scene_questions import Asked
from tinyscout.data.scenes import COLOURS, SHAPES, pick, shuffled

SO = ": "                                               # between what is seen and what follows
WORDS = {"colour": tuple(COLOURS), "shape": SHAPES}
ORDINALS = ("first", "second")
CHANGES = ("colour", "shape", "size", "position")       # fields of a Thing, the last of them called place there


def same(rng, what, shown):
    """Do both agree in the number of things, or in the colour or shape of the only one?  yes or no: an Asked.

    Colours and shapes are named before: "first circle, second ring: no".
    """
    if what == "number":
        agree, seen, chance = len(shown[0].things) == len(shown[1].things), "", 1 / 2
        wordings = ("Do both pictures show the same number of objects?", "Is the number of objects the same?",
                    "Are there equally many objects in both pictures?")
    else:
        one, other = (getattr(scene.things[0], what) for scene in shown)
        agree, seen, chance = one == other, seen_as(one, other), 1 / 2 / len(WORDS[what])
        wordings = (f"Do both objects have the same {what}?", f"Is the object of the same {what} in both pictures?",
                    f"Are the two objects of the same {what}?")
    return Asked(what, pick(rng, wordings), seen + ("yes" if agree else "no"), chance)


def seen_as(one, other):
    """Two values that are to be compared, in words."""
    return f"first {one}, second {other}{SO}"


def exercise(rng):
    """Such an answer in words alone, to learn when two are the same: "first red, second blue:" and " no", str."""
    one, other = shuffled(rng, pick(rng, tuple(WORDS.values())), 2)
    agree = rng.random() < 0.5
    return seen_as(one, one if agree else other).rstrip(), " yes\n" if agree else " no\n"


def verdict(answer):
    """What an answer comes to, without what was named before."""
    return answer.rpartition(SO)[-1]


def more(rng, shown):
    """Which has more, or fewer?  first or second: an Asked.  Their numbers must differ."""
    counts = [len(one.things) for one in shown]
    word, best = pick(rng, (("more", max), ("fewer", min)))
    text = pick(rng, ("Which picture has {} objects?", "Which picture shows {} objects, the first or the second?",
                      "In which picture are there {} objects?")).format(word)
    return Asked("more", text, ORDINALS[counts.index(best(counts))], 1 / 2)


def changed(rng, change):
    """What is another about the only thing?  One of CHANGES: an Asked."""
    text = pick(rng, ("What changed?", "What is different in the second picture?",
                      "What has changed from the first picture to the second?"))
    return Asked("changed", text, change, 1 / len(CHANGES))


def compare(rng, shown):
    """Something about both, once they are seen: an Asked, or None where nothing fits."""
    counts = [len(one.things) for one in shown]
    if counts == [1, 1]:
        return same(rng, pick(rng, tuple(WORDS)), shown)
    return more(rng, shown) if counts[0] != counts[1] else None
