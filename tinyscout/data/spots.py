"""What stands where on a picture: a name for each square of a grid, for a model that learns to see.

An answer about a whole picture says little about any place of it.  To be asked at every place what is there is the
shortest way from a shape to its name; once that is known, answers are soon found.
"""
from tinyscout.data.scenes import PLACES, boxes_of_bars, circle_around, font_for, pick

LEAST = 0.15            # of a square that a thing must cover to give it its names
FIRST = 0.75            # how often the first of them is said


def boxes(scene):
    """[(names, (left, top, right, bottom))] of all that stands on a scene, in fractions of the picture's side.

    names   shape, colour, size and place of a thing; colour and height of a bar; letter or digit, and its colour
    """
    if scene.things:
        circles = [((thing.shape, thing.colour, thing.size, PLACES[thing.place]), *circle_around(thing))
                   for thing in scene.things]
        return [(names, (x - radius, y - radius, x + radius, y + radius)) for names, x, y, radius in circles]
    heights = [str(height) for _, height in scene.bars]
    bars = [((colour, height), box) for (colour, box), height in zip(boxes_of_bars(scene), heights, strict=True)]
    return bars or _letters(scene)


def _letters(scene, size=64):
    """Each letter or digit where `scenes.draw` writes it."""
    font = font_for(scene, size)
    left, top, right, bottom = font.getbbox(scene.text, anchor="mm")
    x, y = 0.5 + scene.shift[0], 0.5 + scene.shift[1]
    ends = [font.getlength(scene.text[:k]) / font.getlength(scene.text) for k in range(len(scene.text) + 1)]
    return [((letter, scene.colour), (x + (left + start * (right - left)) / size, y + top / size,
                                      x + (left + stop * (right - left)) / size, y + bottom / size))
            for letter, start, stop in zip(scene.text, ends, ends[1:], strict=False)]


def spots(scene, grid):
    """The names of what covers most of each square, row by row; none where nothing covers much.

    scene Scene, grid int squares on a side  ->  list of grid * grid tuples of str, as `boxes` has them
    """
    stands, found = boxes(scene), []
    for square in range(grid * grid):
        top, left = (place / grid for place in divmod(square, grid))
        covered = [(_common(left, left + 1 / grid, x, right) * _common(top, top + 1 / grid, y, bottom), names)
                   for names, (x, y, right, bottom) in stands]
        most, names = max(covered, default=(0.0, ()))
        found.append(names if most * grid * grid >= LEAST else ())
    return found


def said(rng, scene, grid):
    """What a picture's tokens learn to say: a name of what is on each square, and at last how many things there are.

    scene Scene, grid int squares on a side  ->  list of grid * grid + 1 str, "" where there is nothing to say
    Mostly it is the first name, shape or letter, which is the hardest to see; one of the others is said now and then.
    """
    heard = [(names[0] if rng.random() < FIRST else pick(rng, names[1:])) if names else ""
             for names in spots(scene, grid)]
    return [*heard, str(len(scene.things or scene.bars) or "")]


def _common(a, b, c, d):
    """The length that two intervals a..b and c..d share."""
    return max(0.0, min(b, d) - max(a, c))
