"""The sixteen vectors of an image in three orders: their own, reversed, and with each row reversed."""
import numpy as np

import tinyscout
from drawings import Canvas
from tinyscout.data.scenes import GRID_POSITIONS, Scene, SceneObject, render
from tinyscout.inputs.image import split_into_tiles
from tinyscout.nn.scout import image_features

SCENE = Scene("objects", "white", (SceneObject("square", "orange", "large", 1),
                                   SceneObject("cross", "green", "small", 2),
                                   SceneObject("circle", "blue", "large", 8)))
TINTS = (1, 3, 2)               # of the objects
CELL, GAP, TOP = 34, 30, 42     # pixels


def orders(side):
    """[(title, the vector at each place (side * side,))]"""
    n = np.arange(side * side)
    return [("own order", n), ("reversed", n[::-1]), ("rows reversed", n.reshape(side, side)[:, ::-1].reshape(-1))]


def find_tints(side):
    """The object of each token whose vector differs from that of an empty page, as a tint."""
    model = tinyscout.load(dtype="float32")
    images = [split_into_tiles(render(scene, model.config.vision.tile_size), model.config.vision).pixels
              for scene in (SCENE, SCENE._replace(objects=()))]
    features, empty = np.split(image_features(images, model.weights, model.config), 2)
    distance = np.linalg.norm(features - empty, axis=1)
    columns = round(len(GRID_POSITIONS) ** 0.5)
    centres = np.array([divmod(obj.cell, columns) for obj in SCENE.objects]) / columns * side + side / columns / 2 - 0.5
    places = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(1)
    return [TINTS[obj] if far else 0 for obj, far in zip(nearest, distance > 0.5 * distance.max(), strict=True)]


def draw():
    v = tinyscout.load().config.vision
    side = v.grid // v.pixel_shuffle_factor
    tints, size = find_tints(side), side * CELL
    canvas = Canvas(3 * size + 2 * GAP + 4, TOP + size + 26, "Grids of sixteen numbered vectors: in order, from the "
                    "last to the first, and with the vectors of each row from right to left")
    for n, (title, order) in enumerate(orders(side)):
        left = 2 + n * (size + GAP)
        canvas.text(left, 16, title, "title")
        canvas.cells(left, TOP - 16, [[(k, tints[k]) for k in row] for row in order.reshape(side, side)], CELL)
    return canvas.text(2, TOP + size + 8, "coloured: vectors under the square (orange), the cross (green), the circle "
                       "(blue)", "note")
