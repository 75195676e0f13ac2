"""What covers each patch of an image: labels for the cells of a square grid, for a model that learns to see.

An answer about a whole image says little about any part of it.  To be asked at every patch what it shows is the
shortest way from a shape to its name; once the names are known, answers are soon found.
"""
from tinyscout.data.scenes import GRID_POSITIONS, bar_boxes, bounding_circle, choose, text_font

MIN_COVERAGE = 0.15                         # of a patch that an object must cover to give it its labels
FIRST_LABEL_PROB = 0.75, 0.6, 0.4, 0.4      # how often the first label is the target, in each stage of learning


def labelled_boxes(scene, stage=0):
    """[(labels, (left, top, right, bottom))] of all that a scene shows, in fractions of the image's side.

    labels  shape, colour, size and position of an object, and from stage 1 on how many have its shape and how many its
            colour; colour and height of a bar; letter or digit, and its colour
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
    """Each letter or digit where `scenes.render` writes it."""
    font = text_font(scene, size)
    left, top, right, bottom = font.getbbox(scene.text, anchor="mm")
    x, y = 0.5 + scene.shift[0], 0.5 + scene.shift[1]
    ends = [font.getlength(scene.text[:k]) / font.getlength(scene.text) for k in range(len(scene.text) + 1)]
    return [((letter, scene.colour), (x + (left + start * (right - left)) / size, y + top / size,
                                      x + (left + stop * (right - left)) / size, y + bottom / size))
            for letter, start, stop in zip(scene.text, ends, ends[1:], strict=False)]


def patch_labels(scene, grid, stage=0):
    """The labels of what covers the largest part of each patch, row by row; () if nothing covers much of it.

    scene Scene, grid int patches on a side  ->  list of grid * grid tuples of str, as `labelled_boxes` has them
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
    """What the tokens of a conversation's images learn to say: a list of str, "" for no target.

    scenes list of Scene, grid int patches on a side, stage of learning 0 to 3  ->  list of len(scenes) * (grid² + 1)
    The target of a patch is one of its labels, mostly the first: shape, colour of a bar, or letter; that of
    an image's end is the number of objects.  From stage 1 on the end of a second image is also asked what it has in
    common with the first, and from stage 2 on that of a single object for the object's labels.
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
    """The properties that two scenes of objects share, by the names that questions use: a list of str."""
    counts = len(one.objects), len(other.objects)
    if counts != (1, 1):
        return ["number"] if counts[0] == counts[1] else []
    first, second = one.objects[0], other.objects[0]
    fields = {"shape": "shape", "colour": "colour", "size": "size", "position": "cell"}
    return [name for name, field in fields.items() if getattr(first, field) == getattr(second, field)]


def _overlap(a, b, c, d):
    """The length that two intervals a..b and c..d share."""
    return max(0.0, min(b, d) - max(a, c))
