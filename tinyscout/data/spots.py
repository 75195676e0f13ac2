"""What stands where on a picture: a name for each square of a grid, for a model that learns to see.

An answer about a whole picture says little about any place of it.  To be asked at every place what is there is the
shortest way from a shape to its name; once shapes are known, answers are soon found.
"""
from tinyscout.data.scenes import LEVELS, SIZES, font_for

LEAST = 0.15            # of a square that a thing must cover to give it its name


def boxes(scene):
    """[(name, (left, top, right, bottom))] of all that stands on a scene, in fractions of the picture's side."""
    if scene.things:
        return [(thing.shape, _around(thing)) for thing in scene.things]
    if scene.bars:
        n = len(scene.bars)
        left = [0.5 - 0.11 * n + 0.22 * k + 0.03 for k in range(n)]
        return [(colour, (x, 0.92 - 0.84 * height / LEVELS, x + 0.16, 0.92))
                for x, (colour, height) in zip(left, scene.bars, strict=True)]
    return _letters(scene)


def _around(thing):
    row, col = divmod(thing.place, 3)
    x, y, radius = (col + 0.5) / 3 + thing.dx, (row + 0.5) / 3 + thing.dy, SIZES[thing.size]
    return x - radius, y - radius, x + radius, y + radius


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
