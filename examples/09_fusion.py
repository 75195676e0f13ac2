"""
A picture in the middle of a sentence
=====================================

A picture is cut, encoded and fused into a row of tokens.  Then one patch of it is painted over, and the logits show who
has seen the difference: everybody after that tile, and nobody before it.
"""
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import tinyscout
from tinyscout.config import mini
from tinyscout.image import cut_tiles, tile_layout, to_levels
from tinyscout.scout import embed, image_features

config = mini(chunk=64)
config = replace(config, vision=replace(config.vision, tile_size=112))
model = tinyscout.random_model(config, seed=7)

picture = Image.new("RGB", (224, 224), "#17324d")
pen = ImageDraw.Draw(picture)
pen.ellipse((150, 20, 200, 70), fill="#ffd27d")
pen.polygon([(0, 224), (80, 70), (150, 224)], fill="#3f7f6f")
pen.polygon([(90, 224), (170, 110), (224, 200), (224, 224)], fill="#6fae75")
tiles = cut_tiles(picture, config.vision)
painted = tiles.pixels.copy()
painted[2, :, 42:56, 70:84] = 1             # one patch of the third tile, white

figure, axes = plt.subplots(1, 5, figsize=(9, 2))
for n, (axis, pixels) in enumerate(zip(axes, painted, strict=True)):
    axis.imshow(to_levels(pixels).transpose(1, 2, 0))
    axis.set(xticks=[], yticks=[], title=f"tile {n + 1}" + (", the whole" if n == 4 else ""))
plt.show()

# %%
# Where it stands
# ---------------
# Sixteen tokens to a tile here (Scout has 144), and a separator after each.  ``embed`` looks every token up and then
# overwrites the patch tokens with the picture's vectors: that is all of early fusion.

ids = {"<|patch|>": config.patch_id, "<|image_start|>": config.image_start_id, "<|image_end|>": config.image_end_id,
       "<|image|>": 500, "<|tile_x_separator|>": 501, "<|tile_y_separator|>": 502}
layout = [ids[name] for name in tile_layout(tiles.rows, tiles.cols, config.vision)]
rng = np.random.default_rng(0)
tokens = np.array([*rng.integers(0, 400, 20), *layout, *rng.integers(0, 400, 20)])
patch = tokens == config.patch_id

features = image_features([tiles.pixels], model.weights, config)
x = embed(tokens, [tiles.pixels], model.weights, config)
print(f"{len(tokens)} tokens, {patch.sum()} of them patches; features {features.shape}, fused {x.shape}")
assert np.array_equal(x[patch], features)

# %%
# Who notices
# -----------
# The encoder reads a tile in all directions, so every token of the third tile may change, also those above the painted
# patch.  Other tiles are encoded without it.  What comes after hears of it through the text model, and what comes
# before cannot, since the text model only looks back.

before = model.logits(tokens, [tiles.pixels])
after = model.logits(tokens, [painted])
moved = np.abs(after - before).max(-1)
vectors = np.abs(embed(tokens, [painted], model.weights, config) - x).max(-1)

figure, (fused, axis) = plt.subplots(2, 1, figsize=(9, 3.6), sharex=True, height_ratios=(1, 2))
colours = plt.get_cmap("viridis")((0.15, 0.6))
place = np.arange(len(tokens))
for panel, size, colour, label in [(fused, vectors, colours[1], "fused vector"), (axis, moved, colours[0], "logits")]:
    panel.bar(place, size, width=1, color=colour)
    panel.set_ylabel(label)
for n, start in enumerate(np.flatnonzero(patch)[::config.vision.tokens_per_tile]):
    for panel in (fused, axis):
        panel.axvspan(start - 0.5, start + config.vision.tokens_per_tile - 0.5, color="#e8a33d", alpha=0.18, zorder=0)
    fused.text(start + 7.5, 1.04, f"tile {n + 1}", ha="center", transform=fused.get_xaxis_transform())
axis.set(xlabel="position in the sequence", xlim=(-0.5, len(tokens) - 0.5))
plt.show()

first = np.flatnonzero(patch)[2 * config.vision.tokens_per_tile]
print(f"the third tile begins at {first}; the first logits to move are those at {np.flatnonzero(moved > 1e-4)[0]}")
print(f"largest change before it: {moved[:first].max():.0e}; from there on: {moved[first:].max():.2f}")

# %%
# The change before it is not quite zero, and not the picture's doing.  An expert takes all of its tokens in one matrix
# product; when a later token is sent elsewhere the product has another size, and its sums are rounded in another order.
