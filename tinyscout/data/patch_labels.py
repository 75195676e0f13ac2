"""What stands where on a picture: a name for each square of a grid, for a model that learns to see.

An answer about a whole picture says little about any place of it.  To be asked at every place what is there is the
shortest way from a shape to its name; once that is known, answers are soon found.
"""
from tinyscout.data.scenes import GRID_POSITIONS, boxes_of_bars, choose, circle_around, font_for

MIN_COVERAGE = 0.15            # of a square that a thing must cover to give it its names
SHAPE_LABEL_PROB = 0.75, 0.6, 0.4, 0.4     # how often the first of them is said, in each stage of learning


def boxes(scene, stage=0):
    """[(names, (left, top, right, bottom))] of all that stands on a scene, in fractions of the picture's side.

    names   shape, colour, size and place of a thing, and from stage 1 on how many have its shape and how many its
            colour; colour and height of a bar; letter or digit, and its colour
    """
    if scene.things:
        circles = [(_names(thing, scene, stage), *circle_around(thing)) for thing in scene.things]
        return [(names, (x - radius, y - radius, x + radius, y + radius)) for names, x, y, radius in circles]
    heights = [str(height) for _, height in scene.bars]
    bars = [((colour, height), box) for (colour, box), height in zip(boxes_of_bars(scene), heights, strict=True)]
    return bars or _letters(scene)


def _names(thing, scene, stage):
    names = thing.shape, thing.colour, thing.size, GRID_POSITIONS[thing.place]
    if stage == 0:
        return names
    alike = [sum(other[n] == thing[n] for other in scene.things) for n in (0, 1)]
    return (*names, *map(str, alike))


def _letters(scene, size=64):
    """Each letter or digit where `scenes.draw` writes it."""
    font = font_for(scene, size)
    left, top, right, bottom = font.getbbox(scene.text, anchor="mm")
    x, y = 0.5 + scene.shift[0], 0.5 + scene.shift[1]
    ends = [font.getlength(scene.text[:k]) / font.getlength(scene.text) for k in range(len(scene.text) + 1)]
    return [((letter, scene.colour), (x + (left + start * (right - left)) / size, y + top / size,
                                      x + (left + stop * (right - left)) / size, y + bottom / size))
            for letter, start, stop in zip(scene.text, ends, ends[1:], strict=False)]


def patch_labels(scene, grid, stage=0):
    """The names of what covers most of each square, row by row; none where nothing covers much.

    scene Scene, grid int squares on a side  ->  list of grid * grid tuples of str, as `boxes` has them
    """
    stands, found = boxes(scene, stage), []
    for square in range(grid * grid):
        top, left = (place / grid for place in divmod(square, grid))
        covered = [(_common(left, left + 1 / grid, x, right) * _common(top, top + 1 / grid, y, bottom), names)
                   for names, (x, y, right, bottom) in stands]
        most, names = max(covered, default=(0.0, ()))
        found.append(names if most * grid * grid >= MIN_COVERAGE else ())
    return found


def patch_targets(rng, scenes, grid, stage=0):
    """What the tokens of a conversation's pictures learn to say: a list of str, "" where there is nothing to say.

    scenes list of Scene, grid int squares on a side, stage of learning 0 to 3  ->  list of len(scenes) * (grid² + 1)
    On each square it is a name of what is there, mostly the first, shape or letter, which is the hardest to see; and
    behind a picture how many things there are.  From stage 1 on the end of a second picture is also asked what it
    has in common with the first, and from stage 2 on that of a single thing for the thing's names.
    """
    heard = []
    for scene in scenes:
        heard += [(names[0] if rng.random() < SHAPE_LABEL_PROB[stage] else choose(rng, names[1:])) if names else ""
                  for names in patch_labels(scene, grid, stage)]
        heard.append(str(len(scene.things or scene.bars) or ""))
        if stage >= 2 and len(scene.things) == 1 and rng.random() < 0.8:
            heard[-1] = choose(rng, _names(scene.things[0], scene, 0))
    if stage and len(scenes) == 2 and (common := common_properties(*scenes)) and rng.random() < 0.5:
        heard[-1] = choose(rng, common)
    return heard


def common_properties(one, other):
    """In what two scenes of things agree: a list of what a question may call it."""
    counts = len(one.things), len(other.things)
    if counts != (1, 1):
        return ["number"] if counts[0] == counts[1] else []
    pairs = zip(("shape", "colour", "size", "position"), one.things[0], other.things[0], strict=False)
    return [what for what, a, b in pairs if a == b]


def _common(a, b, c, d):
    """The length that two intervals a..b and c..d share."""
    return max(0.0, min(b, d) - max(a, c))
