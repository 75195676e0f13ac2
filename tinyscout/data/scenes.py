"""Scenes for generated images: coloured objects on a grid, a number, a word, or a bar chart.

A Scene describes an image; `random_scene` generates a random one, `render` draws it.  Positions and sizes are fractions
of the image's side.
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
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (140, 140, 140)}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
SIZES = {"small": 0.085, "large": 0.148}                # radius
MIN_GAP = 0.02                                          # between two objects
MAX_JITTER = 0.05                                       # of an object from the middle of its cell
GRID_POSITIONS = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
MAX_OBJECTS = 5                                         # in a random scene
MAX_BAR_HEIGHT = 6                                      # bars are 1 to 6 units high
FIRST_LETTERS, VOWELS, LAST_LETTERS = "BDHLNPRSTVZ", "AEIOU", "BDLNPRST"    # of a word of three letters
KINDS = ("objects", "number", "word", "chart")
DIGIT_COUNT_PROBS = (0.05, 0.25, 0.7)                   # probability of one, two or three digits
BAR_COUNTS = (2, 3, 4)
BASELINE = 0.92                                         # the bars' lower end
HELD_OUT_ONE_IN = 16                                    # one scene in 16 is held out for evaluation
SUPERSAMPLING = 4                                       # images are drawn 4 times as large, then reduced


class SceneObject(NamedTuple):
    """One shape."""

    shape: str
    colour: str
    size: str
    cell: int               # of the grid, 0..8 row by row
    dx: float = 0.0         # offset from the middle of its cell, in fractions of the image's side
    dy: float = 0.0


class Scene(NamedTuple):
    """The content of an image.  Objects are in order of their cells, bars from left to right."""

    kind: str               # one of KINDS
    background: str         # one of BACKGROUNDS
    objects: tuple[SceneObject, ...] = ()
    text: str = ""          # the number or the word
    colour: str = ""        # its colour
    shift: tuple[float, float] = (0.0, 0.0)     # of the text from the middle of the image
    bars: tuple[tuple[str, int], ...] = ()      # colour and height, 1..MAX_BAR_HEIGHT


def random_scene(rng, kind, max_objects=MAX_OBJECTS):
    """Generate a random scene of this kind, with 1 to `max_objects` objects, all counts equally likely.

    A number has at most `max_objects` digits.
    Raises ValueError for a kind that is not in KINDS.
    """
    background = choose(rng, tuple(BACKGROUNDS))
    if kind == "objects":
        return Scene(kind, background, random_objects(rng, int(rng.integers(1, max_objects + 1))))
    if kind == "chart":
        n = choose(rng, BAR_COUNTS)
        colours, heights = sample_distinct(rng, COLOURS, n), sample_distinct(rng, range(1, MAX_BAR_HEIGHT + 1), n)
        return Scene(kind, background, bars=tuple(zip(colours, heights, strict=True)))
    if kind == "number":
        digits = min(1 + int(rng.choice(len(DIGIT_COUNT_PROBS), p=DIGIT_COUNT_PROBS)), max_objects)
        text = str(rng.integers(10 ** (digits - 1) if digits > 1 else 0, 10 ** digits))
    elif kind == "word":
        first, vowel = choose(rng, FIRST_LETTERS), choose(rng, VOWELS)
        text = first + vowel + choose(rng, LAST_LETTERS.replace(first, ""))
    else:
        raise ValueError(f"a scene is one of {', '.join(KINDS)}, not {kind!r}")
    return Scene(kind, background, text=text, colour=choose(rng, tuple(COLOURS)), shift=_jitter(rng, 0.03))


def random_objects(rng, n):
    """Generate n objects in different cells, in order of the cells: a tuple."""
    return tuple(random_object(rng, cell) for cell in sorted(sample_distinct(rng, range(len(GRID_POSITIONS)), n)))


def random_object(rng, cell, shape=None, colour=None):
    """Generate an object near the middle of a cell, never outside it; size, and shape or colour if None, are random."""
    size = choose(rng, tuple(SIZES))
    max_step = min(1 / 6 - SIZES[size] - MIN_GAP / 2, MAX_JITTER)
    return SceneObject(shape or choose(rng, SHAPES), colour or choose(rng, tuple(COLOURS)), size, cell,
                       *_jitter(rng, max_step))


def _jitter(rng, max_step):
    """Random steps in x and y, each at most `max_step` long."""
    dx, dy = (max_step * rng.uniform(-1, 1, 2)).tolist()
    return dx, dy


def choose(rng, choices):
    """Choose one item, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def sample_distinct(rng, choices, n):
    """Choose n different items in random order, or all of them if n is None: a list."""
    choices = list(choices)
    return [choices[k] for k in rng.permutation(len(choices))[:n].tolist()]


def scene_key(scene):
    """The properties that identify a scene, str; the offset of an object within its cell is not one of them.

    A number or word is identified by its text only, not by its colour.
    """
    seen = [scene.text] if scene.text else [scene.background, *(obj[:4] for obj in scene.objects), *scene.bars]
    kind = "things" if scene.kind == "objects" else scene.kind      # the old name, so that the hashes stay the same
    return f"{kind}: {seen}"


def is_held_out(scene):
    """True if the scene is held out for evaluation, by a hash of its key: one key in HELD_OUT_ONE_IN."""
    return blake2b(scene_key(scene).encode(), digest_size=1).digest()[0] % HELD_OUT_ONE_IN == 0


@cache
def chance_level(kind, held_out_only):
    """The probability of the most frequent number or word, among the held-out scenes or among the others: float."""
    if kind == "number":
        odds = {str(n): DIGIT_COUNT_PROBS[len(str(n)) - 1] / (10, 90, 900)[len(str(n)) - 1] for n in range(1000)}
    else:
        odds = {first + vowel + last: 1 / len(LAST_LETTERS.replace(first, ""))
                for first in FIRST_LETTERS for vowel in VOWELS for last in LAST_LETTERS.replace(first, "")}
    odds = {text: odd for text, odd in odds.items() if is_held_out(Scene(kind, "", text=text)) == held_out_only}
    return max(odds.values()) / sum(odds.values())


# ---- drawing

def render(scene, size=64):
    """Draw a scene as a PIL image in RGB, size × size pixels.

    It is drawn SUPERSAMPLING times as large and then reduced, so that edges are smooth.
    """
    side = size * SUPERSAMPLING
    image = Image.new("RGB", (side, side), BACKGROUNDS[scene.background])
    draw = ImageDraw.Draw(image)
    for obj in scene.objects:
        _draw_object(draw, obj, BACKGROUNDS[scene.background], side)
    if scene.bars:
        _draw_bars(draw, scene, side)
    image = image.reduce(SUPERSAMPLING)
    if scene.text:              # after the reduction: letters already have smooth edges
        dx, dy = scene.shift
        font = text_font(scene, size)
        ImageDraw.Draw(image).text(((0.5 + dx) * size, (0.5 + dy) * size), scene.text, COLOURS[scene.colour], font,
                                   anchor="mm", stroke_width=round(size / 64))
    return image


def bounding_circle(obj, side=1.0):
    """The circle around an object: x and y of its centre and its radius, on an image of that side."""
    row, col = divmod(obj.cell, 3)
    return ((col + 0.5) / 3 + obj.dx) * side, ((row + 0.5) / 3 + obj.dy) * side, SIZES[obj.size] * side


def bar_boxes(scene, side=1.0):
    """(colour, (left, top, right, bottom)) of each bar.  All bars have the same baseline and width."""
    n, step, width, baseline = len(scene.bars), 0.22 * side, 0.16 * side, BASELINE * side
    left = (side - n * step) / 2 + (step - width) / 2
    for k, (colour, height) in enumerate(scene.bars):
        x = left + k * step
        yield colour, (x, baseline - height / MAX_BAR_HEIGHT * 0.84 * side, x + width, baseline)


def _draw_object(draw, obj, background, side):
    x, y, radius = bounding_circle(obj, side)
    colour = COLOURS[obj.colour]
    if obj.shape in OUTLINES:
        draw.polygon([(x + radius * dx, y + radius * dy) for dx, dy in OUTLINES[obj.shape]], colour)
        return
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    if obj.shape == "ring":
        hole = radius * 0.55
        draw.ellipse((x - hole, y - hole, x + hole, y + hole), background)


def _draw_bars(draw, scene, side):
    for colour, box in bar_boxes(scene, side):
        draw.rectangle(box, COLOURS[colour])
    baseline = BASELINE * side
    line = BACKGROUNDS["black" if scene.background == "white" else "white"]
    draw.rectangle((0.04 * side, baseline, 0.96 * side, baseline + 0.025 * side), line)


def text_font(scene, size):
    """The font for the number or word of a scene."""
    return _load_font("NOD" if scene.kind == "word" else "8" * len(scene.text), size)


@lru_cache
def _load_font(widest, size):
    """Load Pillow's built-in font in the largest size at which the widest text fits."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ValueError("this Pillow was built without FreeType, so it cannot draw letters of arbitrary size")
    left, top, right, bottom = font.getbbox(widest)
    return font.font_variant(size=0.82 * size * size / max(right - left, bottom - top))


def _star_outline():
    """Ten corners, with the tips at radius 1 and the first tip at the top."""
    return [(radius * math.sin(k * math.pi / 5), -radius * math.cos(k * math.pi / 5))
            for k, radius in enumerate([1, 0.42] * 5)]


def _heart_outline():
    """The curve x = sin³ t, y = 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t, with y from 12 down to −17."""
    angles = [k * math.tau / 32 for k in range(32)]
    heights = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in angles]
    return [(math.sin(t) ** 3, -(height + 2.5) / 14.5) for t, height in zip(angles, heights, strict=True)]


OUTLINES = {        # corners at radius 1, x to the right and y down
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (1, 0.9), (-1, 0.9)],
    "diamond": [(0, -1), (0.7, 0), (0, 1), (-0.7, 0)],
    "cross": [(-0.33, -1), (0.33, -1), (0.33, -0.33), (1, -0.33), (1, 0.33), (0.33, 0.33),
              (0.33, 1), (-0.33, 1), (-0.33, 0.33), (-1, 0.33), (-1, -0.33), (-0.33, -0.33)],
    "star": _star_outline(),
    "heart": _heart_outline(),
}
