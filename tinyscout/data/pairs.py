"""What can be asked about two scenes side by side."""
from tinyscout.data.answers import Asked
from tinyscout.data.scenes import pick

ORDINALS = ("first", "second")
CHANGES = ("colour", "shape", "size", "position")       # fields of a Thing, the last of them called place there


def same(rng, what, shown):
    """Do both agree in the number of things, or in the colour or shape of the only one?  yes or no: an Asked."""
    if what == "number":
        agree = len(shown[0].things) == len(shown[1].things)
        wordings = ("Do both pictures show the same number of objects?", "Is the number of objects the same?",
                    "Are there equally many objects in both pictures?")
    else:
        agree = getattr(shown[0].things[0], what) == getattr(shown[1].things[0], what)
        wordings = (f"Do both objects have the same {what}?", f"Is the object of the same {what} in both pictures?",
                    f"Are the two objects of the same {what}?")
    return Asked(what, pick(rng, wordings), "yes" if agree else "no", 1 / 2)


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
        return same(rng, pick(rng, ("colour", "shape")), shown)
    return more(rng, shown) if counts[0] != counts[1] else None
