"""
An image in the middle of a sentence
====================================

An image is split into tiles, encoded and fused into a row of tokens.  Then one patch of it is painted over, and the
logits show which tokens are affected: all after that tile, and none before it.
"""
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import tinyscout
from tinyscout.config import tiny_config
from tinyscout.inputs.image import denormalize, split_into_tiles, tile_layout
from tinyscout.nn.scout import embed_inputs

config = tiny_config(chunk_size=64)
config = replace(config, vision=replace(config.vision, tile_size=112))
model = tinyscout.random_model(config, seed=7)

image = Image.new("RGB", (224, 224), "#17324d")
pen = ImageDraw.Draw(image)
pen.ellipse((150, 20, 200, 70), fill="#ffd27d")
pen.polygon([(0, 224), (80, 70), (150, 224)], fill="#3f7f6f")
pen.polygon([(90, 224), (170, 110), (224, 200), (224, 224)], fill="#6fae75")
tiles = split_into_tiles(image, config.vision)
painted = tiles.pixels.copy()
painted[2, :, 42:56, 70:84] = 1             # one patch of the third tile, white

figure, axes = plt.subplots(1, 5, figsize=(9, 2), num="The five tiles, with a patch painted on one")
for n, (axis, pixels) in enumerate(zip(axes, painted, strict=True), 1):
    axis.imshow(denormalize(pixels).transpose(1, 2, 0))
    axis.set(xticks=[], yticks=[], title=f"tile {n}" + (", the global tile" if n == 5 else ""))
plt.show()

# %%
# Which tokens are affected
# -------------------------
# Here a tile has sixteen tokens (Scout has 144), and a separator follows each tile.  The encoder is bidirectional, so
# every vector of the third tile may change, including those above the painted patch.  The other tiles are encoded
# separately.  Later tokens are affected through the text model, which is causal.

ids = {"<|patch|>": config.patch_id, "<|image_start|>": config.image_start_id, "<|image_end|>": config.image_end_id,
       "<|image|>": 500, "<|tile_x_separator|>": 501, "<|tile_y_separator|>": 502}
layout = [ids[name] for name in tile_layout(tiles.rows, tiles.cols, config.vision)]
rng = np.random.default_rng(0)
tokens = np.array([*rng.integers(0, 400, 20), *layout, *rng.integers(0, 400, 20)])
starts = np.flatnonzero(tokens == config.patch_id)[::config.vision.tokens_per_tile]

before, after = ((embed_inputs(tokens, [pixels], model.weights, config), model.logits(tokens, [pixels]))
                 for pixels in (tiles.pixels, painted))
vector_changes, logit_changes = (np.abs(b - a).max(-1) for a, b in zip(before, after, strict=True))
figure, axes = plt.subplots(2, 1, figsize=(9, 3.6), sharex=True, height_ratios=(1, 2), num="Tokens affected by it")
changes, labels = (vector_changes, logit_changes), ("fused vector", "logits")
for axis, change, colour, label in zip(axes, changes, (0.6, 0.15), labels, strict=True):
    axis.bar(range(len(tokens)), change, width=1, color=plt.cm.viridis(colour))
    axis.set_ylabel(label)
    for start in starts:
        axis.axvspan(start - 0.5, start + 15.5, color="#e8a33d", alpha=0.18, zorder=0)
for n, start in enumerate(starts, 1):
    axes[0].text(start + 7.5, 1.04, f"tile {n}", ha="center", transform=axes[0].get_xaxis_transform())
axes[1].set(xlabel="position in the sequence", xlim=(-0.5, len(tokens) - 0.5))
plt.show()
print(f"the third tile begins at {starts[2]}; the first logits to move are those at {np.argmax(logit_changes > 1e-4)}")

# %%
# Changes below 1e-4 are rounding errors.  An expert multiplies all of its tokens in one product; if a later token is
# sent to another expert, the product has another size, and its sums are rounded in another order.
