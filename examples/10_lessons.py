"""
What a small model learns from
==============================

Training needs no download: images are drawn, questions and answers follow from the drawn scenes, the text is Python's
standard library, and facts are planted in it.  Here are some examples of each, and then a model in its first seconds.
"""
import csv
import tempfile
from pathlib import Path
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np

from tinyscout.config import ScoutConfig, TextConfig, layer_plan
from tinyscout.data.corpus import Corpus
from tinyscout.data.dialogs import TASKS, ask
from tinyscout.data.needles import encode_lines, plant
from tinyscout.train import Recipe, train
from tinyscout.train.batches import train_tokenizer
from tinyscout.train.recipe import N_SPECIAL, with_special_ids

figure, grid = plt.subplots(4, 3, figsize=(9, 9), num="Twelve questions about images, with answers")
for n, (task, axis) in enumerate(zip(TASKS, grid.flat, strict=True)):
    question = ask(np.random.default_rng(n), task)
    left = 0
    for image in question.images:
        axis.imshow(image, extent=(left, left + 64, 64, 0))
        axis.plot(left + 64 * np.array([0, 1, 1, 0, 0]), [0, 0, 64, 64, 0], color="#7b7b7b", linewidth=0.5)
        left += 70
    axis.set(xlim=(-1, left - 5), ylim=(65, -1))
    axis.axis("off")
    axis.set_title("\n".join([*wrap(question.text, 38), question.answer]), fontsize=9)
plt.show()

# %%
# Needles in a haystack
# ---------------------
# A line with a random key and a random value is planted in a text, and a query for it further on.  Here a chunk has 64
# tokens, and every byte is a token.

vocab_size = 256 + N_SPECIAL
config = with_special_ids(ScoutConfig(TextConfig(
    dim=32, n_heads=2, n_kv_heads=1, head_dim=16, n_experts=4, hidden_dim=32, dense_dim=32, layers=layer_plan(4),
    rope_scaling=None, chunk_size=64, attn_temperature_floor=64.0), None), vocab_size)
recipe = Recipe(steps=120, text_tokens_per_step=512, row_length=((0.5, 64), (1.0, 128)), warmup=10)
tokenizer = train_tokenizer(config, None, recipe)             # no merges: only the bytes fit
page = Path(train_tokenizer.__code__.co_filename).read_text(encoding="utf-8")
row = np.array(tokenizer.encode(page)[:256])
planted = plant(np.random.default_rng(4), row, encode_lines(tokenizer), 3, config.text.chunk_size)
print(tokenizer.decode(list(planted.tokens)))

# %%
# The first seconds
# -----------------
# A model with four experts in each of four layers is trained as the command ``tinyscout train`` does it, on windows of
# one file.  The dotted line is the loss of a uniform guess, the logarithm of the vocabulary's size.

with tempfile.TemporaryDirectory() as directory:
    train(Path(directory) / "run", recipe, config, Corpus([("page", page)], [("page", page)]))
    with open(Path(directory) / "run" / "log.csv", newline="", encoding="utf-8") as file:
        log = list(csv.DictReader(file))

figure, axis = plt.subplots(figsize=(7, 2.6), num="Loss during training")
axis.plot([float(row["text"]) for row in log])
axis.axhline(np.log(vocab_size), linestyle=":", color="#7b7b7b")
axis.set(xlabel="step", ylabel="nats per token", ylim=(0, None))
plt.show()
