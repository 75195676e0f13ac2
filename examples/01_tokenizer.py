"""
Words from bytes
================

Train a tokenizer on the source code of Python's standard library, look at what it learned, and see what a larger
vocabulary buys.
"""
import sysconfig
from pathlib import Path
from pydoc_data.topics import topics

import matplotlib.pyplot as plt

from tinyscout.inputs.tokenizer import Tokenizer, train

sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
texts = [path.read_text(encoding="utf-8") for path in sources]
held_out, training = texts[::8], [text for n, text in enumerate(texts) if n % 8]
tokenizer = train(training, vocab_size=4096)
tokens = sorted(tokenizer.tokens, key=tokenizer.tokens.get)
print(f"{len(training)} files, {sum(map(len, training)):,} characters; {tokenizer.vocab_size} ids")

# %%
# Frequent pairs become tokens
# ----------------------------
# Token 256 was the first merge.  Indentation is merged first, `self` soon after, and whole English words much later.

for start in (256, 286, 556, 3256):
    print(f"{start:5}  " + " ".join(repr(token.decode(errors="replace")) for token in tokens[start:start + 8]))

# %%
# A line as the model sees it
# ---------------------------
# Each box is a token.  The llama is not in the training text: it is spelled in four bytes, none of which is a character
# alone.

line = "def encode(self, text):  # 12345 llamas 🦙"
colours = plt.get_cmap("Set3").colors
figure, axis = plt.subplots(figsize=(7.5, 0.8), num="A line of code, cut into tokens")
x = 0.0
for n, token in enumerate(tokenizer.token_bytes(tokenizer.encode(line))):
    label = token.decode().replace(" ", "·") if token.isascii() else token.hex()
    axis.add_patch(plt.Rectangle((x, 0), len(label), 1, facecolor=colours[n % 12]))
    axis.text(x + len(label) / 2, 0.5, label, family="monospace", size=8, color="black", ha="center", va="center")
    x += len(label) + 0.3
axis.set(xlim=(0, x), ylim=(0, 1))
axis.axis("off")
plt.show()
print(f"{len(line)} characters, {len(line.encode())} bytes, {n + 1} tokens")

# %%
# What a larger vocabulary buys
# -----------------------------
# The merges of a small vocabulary are the first merges of a large one, so one training gives the whole curve.  Each
# doubling saves less than the previous one, because only a few sequences are frequent.  Text that differs from the
# training data gains less.

merges = tokenizer.merge_table[:, :2].tolist()
sizes = [256, 320, 384, 512, 768, 1024, 1536, 2048, 3072, len(tokens)]
tokenizers = [Tokenizer({token: id for id, token in enumerate(tokens[:size])}, merges[:size - 256]) for size in sizes]
figure, axis = plt.subplots(figsize=(7.5, 3.6), num="Larger vocabularies put more bytes into a token")
for label, samples in {"code it has not seen": held_out, "English about Python": topics.values()}.items():
    sample = "".join(samples)
    ratio = [len(sample.encode()) / len(smaller.encode(sample)) for smaller in tokenizers]
    axis.semilogx(sizes, ratio, base=2, marker="o", label=label)
axis.set(xlabel="tokens in the vocabulary", ylabel="bytes per token")
axis.legend()
axis.grid(True)
plt.show()
