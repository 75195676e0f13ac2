"""Labels for the patches of an image: the content of each cell of a square grid, as auxiliary training targets.

An answer about a whole image is a weak signal for its parts.  Labelling every patch is the most direct way to learn the
names of shapes; once they are known, answering questions is learned quickly.
"""
from tinyscout.data.scenes import GRID_POSITIONS, bar_boxes, bounding_circle, choose, text_font

MIN_COVERAGE = 0.15                         # share of a patch that an object must cover to label it
FIRST_LABEL_PROB = 0.75, 0.6, 0.4, 0.4      # how often the first label is the target, in each curriculum stage


def labelled_boxes(scene, stage=0):
    """[(labels, (left, top, right, bottom))] of everything in a scene, in fractions of the image's side.

    labels  of an object: shape, colour, size and position, and from stage 1 on the numbers of objects with its shape
            and with its colour; of a bar: colour and height; of a letter or digit: itself and its colour
    """
    if scene.objects:
        circles = [(_object_labels(obj, scene, stage), *bounding_circle(obj)) for obj in scene.objects]
        return [(labels, (x - radius, y - radius, x + radius, y + radius)) for labels, x, y, radius in circles]
    if scene.bars:
        return [((colour, str(height)), box)
                for (colour, box), (_, height) in zip(bar_boxes(scene), scene.bars, strict=True)]
    return _letter_boxes(scene)


def _object_labels(obj, scene, stage):
    labels = (obj.shape, obj.colour, obj.size, GRID_POSITIONS[obj.cell])
    if stage == 0:
        return labels
    same_shape = sum(other.shape == obj.shape for other in scene.objects)
    same_colour = sum(other.colour == obj.colour for other in scene.objects)
    return (*labels, str(same_shape), str(same_colour))


def _letter_boxes(scene, size=64):
    """The box and labels of each letter or digit, at the position at which `scenes.render` draws it."""
    font = text_font(scene, size)
    left, top, right, bottom = font.getbbox(scene.text, anchor="mm")
    x, y = 0.5 + scene.shift[0], 0.5 + scene.shift[1]
    ends = [font.getlength(scene.text[:k]) / font.getlength(scene.text) for k in range(len(scene.text) + 1)]
    return [((letter, scene.colour), (x + (left + start * (right - left)) / size, y + top / size,
                                      x + (left + stop * (right - left)) / size, y + bottom / size))
            for letter, start, stop in zip(scene.text, ends, ends[1:], strict=False)]


def patch_labels(scene, grid, stage=0):
    """Label each patch, row by row, with the labels of the box that covers most of it; () if none covers enough.

    scene Scene, grid int patches on a side  ->  list of grid * grid tuples of str, as in `labelled_boxes`
    """
    boxes, patches = labelled_boxes(scene, stage), []
    for patch in range(grid * grid):
        top, left = (index / grid for index in divmod(patch, grid))
        areas = [(_overlap(left, left + 1 / grid, x, right) * _overlap(top, top + 1 / grid, y, bottom), labels)
                 for labels, (x, y, right, bottom) in boxes]
        area, labels = max(areas, default=(0.0, ()))
        patches.append(labels if area * grid * grid >= MIN_COVERAGE else ())
    return patches


def patch_targets(rng, scenes, grid, stage=0):
    """Target labels for the image tokens of a conversation: a list of str, "" for no target.

    scenes list of Scene, grid int patches on a side, stage curriculum stage 0 to 3
    ->  list of len(scenes) * (grid² + 1)
    A patch token gets one of the labels of its patch, often the first: shape, colour of a bar, or letter.  An
    end-of-image token gets the number of objects; from stage 2 on, mostly a label of the object if there is only one.
    From stage 1 on, the end token of a second image sometimes gets a property that both images share.
    """
    targets = []
    for scene in scenes:
        targets += [_choose_label(rng, labels, stage) for labels in patch_labels(scene, grid, stage)]
        count = len(scene.objects or scene.bars)
        targets.append(str(count) if count else "")
        if stage >= 2 and len(scene.objects) == 1 and rng.random() < 0.8:
            targets[-1] = choose(rng, _object_labels(scene.objects[0], scene, 0))
    if stage and len(scenes) == 2:
        common = common_properties(*scenes)
        if common and rng.random() < 0.5:
            targets[-1] = choose(rng, common)
    return targets


def _choose_label(rng, labels, stage):
    if not labels:
        return ""
    return labels[0] if rng.random() < FIRST_LABEL_PROB[stage] else choose(rng, labels[1:])


def common_properties(one, other):
    """The properties that two scenes of objects share, with the names that questions use: a list of str."""
    counts = len(one.objects), len(other.objects)
    if counts != (1, 1):
        return ["number"] if counts[0] == counts[1] else []
    first, second = one.objects[0], other.objects[0]
    fields = {"shape": "shape", "colour": "colour", "size": "size", "position": "cell"}
    return [name for name, field in fields.items() if getattr(first, field) == getattr(second, field)]


def _overlap(a, b, c, d):
    """The length of the overlap of two intervals a..b and c..d."""
    return max(0.0, min(b, d) - max(a, c))
