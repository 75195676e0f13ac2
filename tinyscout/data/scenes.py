"""What a picture may show, and drawing it: coloured things on a grid, a number, a word, or a bar chart.

A Scene is a description; `random_scene` draws one at random, `render` paints it.  Places and sizes are fractions of the side.
"""
import math
from functools import cache, lru_cache
from hashlib import blake2b
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

COLOURS = {
    "red": (215, 25, 30), "orange": (255, 135, 0), "yellow": (250, 220, 20), "green": (20, 140, 50),
    "cyan": (60, 210, 225), "blue": (25, 60, 215), "purple": (140, 40, 180), "pink": (255, 130, 190),
}
GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (140, 140, 140)}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
SIZES = {"small": 0.085, "large": 0.148}                # radius
GAP, OFF = 0.02, 0.05                                   # between two things, at least; off its place, at most
GRID_POSITIONS = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
MOST = 5                                                # things that are drawn at random at once
LEVELS = 6                                              # heights that a bar may have
STARTS, VOWELS, ENDS = "BDHLNPRSTVZ", "AEIOU", "BDLNPRST"       # of a word of three letters
KINDS = ("things", "number", "word", "chart")
DIGITS = (0.05, 0.25, 0.7)                              # how often a number has one, two or three of them
BARS = (2, 3, 4)
FOOT = 0.92                                             # where bars stand
HELD_OUT = 16                                           # one scene in so many is kept for tests
SMOOTH = 4                                              # drawn so much larger, then reduced


class SceneObject(NamedTuple):
    """One shape."""

    shape: str
    colour: str
    size: str
    place: int              # 0..8, row by row
    dx: float = 0.0         # off the middle of its place, in fractions of the picture's side
    dy: float = 0.0


class Scene(NamedTuple):
    """What is on a picture.  Things stand in order of their places, bars from left to right."""

    kind: str               # one of KINDS
    ground: str             # one of GROUNDS
    things: tuple[SceneObject, ...] = ()
    text: str = ""          # the number or the word
    colour: str = ""        # its colour
    shift: tuple[float, float] = (0.0, 0.0)     # of the text, off the middle of the picture
    bars: tuple[tuple[str, int], ...] = ()      # colour and height, 1..LEVELS


def random_scene(rng, kind, most=MOST):
    """A scene of this kind at random; of things there are 1 to `most`, all numbers equally likely.

    Where there may be only one or two things, a number has no more digits.
    Raises ValueError for a kind that is not in KINDS.
    """
    ground = choose(rng, tuple(GROUNDS))
    if kind == "things":
        return Scene(kind, ground, random_objects(rng, int(rng.integers(1, most + 1))))
    if kind == "chart":
        n = choose(rng, BARS)
        colours, heights = shuffled(rng, COLOURS, n), shuffled(rng, range(1, LEVELS + 1), n)
        return Scene(kind, ground, bars=tuple(zip(colours, heights, strict=True)))
    if kind == "number":
        digits = min(1 + int(rng.choice(len(DIGITS), p=DIGITS)), most)
        text = str(rng.integers(10 ** (digits - 1) if digits > 1 else 0, 10 ** digits))
    elif kind == "word":
        start, vowel = choose(rng, STARTS), choose(rng, VOWELS)
        text = start + vowel + choose(rng, ENDS.replace(start, ""))
    else:
        raise ValueError(f"a scene is one of {', '.join(KINDS)}, not {kind!r}")
    return Scene(kind, ground, text=text, colour=choose(rng, tuple(COLOURS)), shift=_jitter(rng, 0.03))


def random_objects(rng, n):
    """n things at places of their own, in order of the places: a tuple."""
    return tuple(random_object(rng, place) for place in sorted(shuffled(rng, range(len(GRID_POSITIONS)), n)))


def random_object(rng, place, shape=None, colour=None):
    """A thing at a place, at random where it is not given, and a little off the middle: never out of its ninth."""
    size = choose(rng, tuple(SIZES))
    room = min(1 / 6 - SIZES[size] - GAP / 2, OFF)
    return SceneObject(shape or choose(rng, SHAPES), colour or choose(rng, tuple(COLOURS)), size, place,
                       *_jitter(rng, room))


def _jitter(rng, most):
    """A step in x and one in y, of at most so much."""
    dx, dy = (most * rng.uniform(-1, 1, 2)).tolist()
    return dx, dy


def choose(rng, choices):
    """One of them, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def shuffled(rng, choices, n):
    """n different ones of them in random order, a list."""
    choices = list(choices)
    return [choices[k] for k in rng.permutation(len(choices))[:n].tolist()]


def scene_key(scene):
    """What a viewer would remember of a scene, str: not where within its place a thing stands.

    Of a number or a word only the text counts: which colours it is drawn in makes no other number of it.
    """
    seen = [scene.text] if scene.text else [scene.ground, *(thing[:4] for thing in scene.things), *scene.bars]
    return f"{scene.kind}: {seen}"


def is_held_out(scene):
    """Is the scene for tests only?  A hash of its gist decides, for one gist in HELD_OUT: bool."""
    return blake2b(scene_key(scene).encode(), digest_size=1).digest()[0] % HELD_OUT == 0


@cache
def chance(kind, held_out_only):
    """How often the most frequent number or word is drawn, among the scenes that are held out or the others: float."""
    if kind == "number":
        odds = {str(n): DIGITS[len(str(n)) - 1] / (10, 90, 900)[len(str(n)) - 1] for n in range(1000)}
    else:
        odds = {start + vowel + end: 1 / len(ENDS.replace(start, ""))
                for start in STARTS for vowel in VOWELS for end in ENDS.replace(start, "")}
    odds = {text: odd for text, odd in odds.items() if is_held_out(Scene(kind, "", text=text)) == held_out_only}
    return max(odds.values()) / sum(odds.values())


# ---- drawing

def render(scene, size=64):
    """The picture of a scene: a PIL picture in RGB, size × size pixels.

    It is painted SMOOTH times as large and reduced, so that edges are smooth.
    """
    side = size * SMOOTH
    picture = Image.new("RGB", (side, side), GROUNDS[scene.ground])
    brush = ImageDraw.Draw(picture)
    for thing in scene.things:
        _draw_thing(brush, thing, GROUNDS[scene.ground], side)
    if scene.bars:
        _draw_bars(brush, scene, side)
    picture = picture.reduce(SMOOTH)
    if scene.text:              # letters come with smooth edges
        dx, dy = scene.shift
        font = font_for(scene, size)
        ImageDraw.Draw(picture).text(((0.5 + dx) * size, (0.5 + dy) * size), scene.text, COLOURS[scene.colour], font,
                                     anchor="mm", stroke_width=round(size / 64))
    return picture


def circle_around(thing, side=1.0):
    """The circle that a thing fills: its middle x and y and its radius, on a picture of that side."""
    row, col = divmod(thing.place, 3)
    return ((col + 0.5) / 3 + thing.dx) * side, ((row + 0.5) / 3 + thing.dy) * side, SIZES[thing.size] * side


def boxes_of_bars(scene, side=1.0):
    """(colour, (left, top, right, bottom)) of each bar.  All stand on a line, of one width, whatever their number."""
    n, step, width, foot = len(scene.bars), 0.22 * side, 0.16 * side, FOOT * side
    left = (side - n * step) / 2 + (step - width) / 2
    for k, (colour, height) in enumerate(scene.bars):
        x = left + k * step
        yield colour, (x, foot - height / LEVELS * 0.84 * side, x + width, foot)


def _draw_thing(brush, thing, ground, side):
    x, y, radius = circle_around(thing, side)
    colour = COLOURS[thing.colour]
    if thing.shape in OUTLINES:
        brush.polygon([(x + radius * dx, y + radius * dy) for dx, dy in OUTLINES[thing.shape]], colour)
        return
    brush.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    if thing.shape == "ring":
        hole = radius * 0.55
        brush.ellipse((x - hole, y - hole, x + hole, y + hole), ground)


def _draw_bars(brush, scene, side):
    for colour, box in boxes_of_bars(scene, side):
        brush.rectangle(box, COLOURS[colour])
    foot = FOOT * side
    line = GROUNDS["black" if scene.ground == "white" else "white"]
    brush.rectangle((0.04 * side, foot, 0.96 * side, foot + 0.025 * side), line)


def font_for(scene, size):
    """The font in which a number or a word is written."""
    return _font("NOD" if scene.kind == "word" else "8" * len(scene.text), size)


@lru_cache
def _font(widest, size):
    """The font that Pillow brings, as large as the widest text allows."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ValueError("this Pillow was built without FreeType: it cannot draw letters of any size")
    left, top, right, bottom = font.getbbox(widest)
    return font.font_variant(size=0.82 * size * size / max(right - left, bottom - top))


def _star():
    """Ten corners, the points at radius 1, the first of them above."""
    return [(radius * math.sin(k * math.pi / 5), -radius * math.cos(k * math.pi / 5))
            for k, radius in enumerate([1, 0.42] * 5)]


def _heart():
    """The curve x = sin³ t, y = 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t, which reaches from 12 down to −17."""
    angles = [k * math.tau / 32 for k in range(32)]
    heights = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in angles]
    return [(math.sin(t) ** 3, -(height + 2.5) / 14.5) for t, height in zip(angles, heights, strict=True)]


OUTLINES = {        # corners at radius 1, x to the right and y down
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (1, 0.9), (-1, 0.9)],
    "diamond": [(0, -1), (0.7, 0), (0, 1), (-0.7, 0)],
    "cross": [(-0.33, -1), (0.33, -1), (0.33, -0.33), (1, -0.33), (1, 0.33), (0.33, 0.33),
              (0.33, 1), (-0.33, 1), (-0.33, 0.33), (-1, 0.33), (-1, -0.33), (-0.33, -0.33)],
    "star": _star(),
    "heart": _heart(),
}
