"""What stands where on a picture: a name for each square of a grid, for a model that learns to see.

An answer about a whole picture says little about any place of it.  To be asked at every place what is there is the
shortest way from a shape to its name; once shapes are known, answers are soon found.
"""
from tinyscout.data.scenes import boxes_of_bars, circle_around, font_for

LEAST = 0.15            # of a square that a thing must cover to give it its name


def boxes(scene):
    """[(name, (left, top, right, bottom))] of all that stands on a scene, in fractions of the picture's side."""
    if scene.things:
        circles = [(thing.shape, *circle_around(thing)) for thing in scene.things]
        return [(shape, (x - radius, y - radius, x + radius, y + radius)) for shape, x, y, radius in circles]
    return list(boxes_of_bars(scene)) if scene.bars else _letters(scene)


def _letters(scene, size=64):
    """Each letter or digit where `scenes.draw` writes it."""
    font = font_for(scene, size)
    left, top, right, bottom = font.getbbox(scene.text, anchor="mm")
    x, y = 0.5 + scene.shift[0], 0.5 + scene.shift[1]
    ends = [font.getlength(scene.text[:k]) / font.getlength(scene.text) for k in range(len(scene.text) + 1)]
    return [(letter, (x + (left + start * (right - left)) / size, y + top / size,
                      x + (left + stop * (right - left)) / size, y + bottom / size))
            for letter, start, stop in zip(scene.text, ends, ends[1:], strict=False)]


def spots(scene, grid):
    """The name of what covers most of each square, row by row; "" where nothing covers much.

    scene Scene, grid int squares on a side  ->  list of grid * grid str
    """
    stands, found = boxes(scene), []
    for square in range(grid * grid):
        top, left = (place / grid for place in divmod(square, grid))
        covered = [(_common(left, left + 1 / grid, box[0], box[2]) * _common(top, top + 1 / grid, box[1], box[3]), name)
                   for name, box in stands]
        most, name = max(covered, default=(0.0, ""))
        found.append(name if most * grid * grid >= LEAST else "")
    return found


def _common(a, b, c, d):
    """The length that two intervals a..b and c..d share."""
    return max(0.0, min(b, d) - max(a, c))
