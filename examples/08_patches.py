"""
An image in 727 tokens
======================

An image of any size becomes squares of one size, and then a row of tokens in the text.  The image of this example is
drawn below, 480 by 640 pixels.
"""
from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

from tinyscout.config import SCOUT
from tinyscout.inputs.image import choose_canvas, count_tokens, denormalize, split_into_tiles, tile_layout

sky = np.linspace((38, 44, 92), (244, 160, 112), 480)[:, None].repeat(640, axis=1).astype(np.uint8)
image = Image.fromarray(sky)
pen = ImageDraw.Draw(image)
pen.ellipse((470, 60, 540, 130), fill=(255, 236, 200))
pen.rectangle((0, 360, 640, 480), fill=(24, 52, 84))
for y in range(366, 480, 6):                            # moonlight: detail that shrinking loses
    half_width = 12 + abs(38 * np.sin(y))
    pen.line((505 - half_width, y, 505 + half_width, y), fill=(220, 206, 186), width=1)
pen.polygon([(196, 128), (0, 60), (0, 190)], fill=(255, 226, 150))
pen.polygon([(70, 400), (300, 380), (350, 480), (20, 480)], fill=(16, 24, 36))
pen.polygon([(160, 390), (175, 150), (215, 150), (230, 390)], fill=(240, 236, 228))
for y in (190, 270, 350):
    lean = (y - 150) / 16
    pen.polygon([(175 - lean, y), (215 + lean, y), (218 + lean, y + 40), (172 - lean, y + 40)], fill=(196, 60, 52))
pen.polygon([(168, 150), (195, 104), (222, 150)], fill=(60, 30, 40))

# %%
# Cut into tiles
# --------------
# The canvas is the smallest rectangle of tiles that holds the image: two by two.  The image is in its upper left
# corner, unscaled, and the rest is black.  A fifth tile shows the whole image, without keeping its aspect ratio.

tiles = split_into_tiles(image, SCOUT.vision)
figure, axes = plt.subplot_mosaic([[1, 2, 5, 5], [3, 4, 5, 5]], figsize=(7.6, 3.9), num="Four tiles and a global tile")
for number, pixels in enumerate(tiles.pixels, 1):
    axes[number].imshow(denormalize(pixels).transpose(1, 2, 0))
    axes[number].set(xticks=[], yticks=[], title=f"tile {number}" + (", the global tile" if number == 5 else ""))
plt.show()

# %%
# Lay out as tokens
# -----------------
# The text model reads 144 patch tokens for each tile, a separator after it, and a marker before the last tile.

for name, run in groupby(tile_layout(tiles.rows, tiles.cols, SCOUT.vision)):
    print(f"{len(list(run)):4} {name}")

# %%
# The cost of each size
# ---------------------
# The number of tokens for every size up to 2000 by 2000; the dot is our image.  Each terrace is a canvas.  An image too
# large for sixteen tiles is scaled down to the canvas that shrinks it least, which need not be the largest.

sizes = np.arange(8, 2001, 8)
price = [[count_tokens(*choose_canvas(h, w), SCOUT.vision) for w in sizes] for h in sizes]
figure, axis = plt.subplots(figsize=(5.6, 4.4), num="Tokens for each size of image")
terraces = axis.imshow(price, origin="lower", extent=(0, 2000, 0, 2000))
axis.plot(640, 480, "o", color="white", markeredgecolor="black")
axis.set(xlabel="width, pixels", ylabel="height, pixels", xticks=336 * np.arange(6), yticks=336 * np.arange(6))
figure.colorbar(terraces, label="tokens")
plt.show()
