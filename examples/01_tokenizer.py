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

from tinyscout.tokenizer import Tokenizer, train

sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
texts = [path.read_text(encoding="utf-8") for path in sources]
unseen, known = texts[::8], [text for n, text in enumerate(texts) if n % 8]
tokenizer = train(known, vocab_size=4096)
print(f"{len(known)} files, {sum(map(len, known)):,} characters; {tokenizer.vocab_size} ids")

# %%
# What stands together often
# --------------------------
# Token 256 was the first merge.  Indentation comes first, `self` soon after, and whole English words take their time.

learned = [token for token in sorted(tokenizer.tokens, key=tokenizer.tokens.get) if len(token) > 1]
for start in (0, 30, 300, 3000):
    print(f"{256 + start:5}  " + " ".join(repr(token.decode(errors="replace")) for token in learned[start:start + 8]))

# %%
# A line as the model sees it
# ---------------------------
# Each box is a token.  The llama was never seen: it is spelled in four bytes, none of which is a character alone.

line = "def encode(self, text):  # 12345 llamas 🦙"
pieces = tokenizer.pieces(tokenizer.encode(line))
colours = plt.get_cmap("Set3").colors
figure, axes = plt.subplots(figsize=(7.5, 0.8))
x = 0.0
for n, piece in enumerate(pieces):
    try:
        label = piece.decode().replace(" ", "·")
    except UnicodeDecodeError:
        label = piece.hex()
    axes.add_patch(plt.Rectangle((x, 0), len(label), 1, facecolor=colours[n % 12]))
    axes.text(x + len(label) / 2, 0.5, label, family="monospace", size=8, color="black", ha="center", va="center")
    x += len(label) + 0.3
axes.set(xlim=(0, x), ylim=(0, 1))
axes.axis("off")
plt.show()
print(f"{len(line)} characters, {len(line.encode())} bytes, {len(pieces)} tokens")

# %%
# What a larger vocabulary buys
# -----------------------------
# The merges of a small vocabulary are the first merges of a large one, so one training gives the whole curve.  Each
# doubling saves less than the one before: frequent things are few.  Other text than it was trained on gains less.

merges = tokenizer.pairs[:, :2].tolist()
by_id = {id: token for token, id in tokenizer.tokens.items()}
sizes = [256, 320, 384, 512, 768, 1024, 1536, 2048, 3072, len(by_id)]
samples = {"code it has not seen": "".join(unseen), "English about Python": "".join(topics.values())}
figure, axes = plt.subplots(figsize=(7.5, 3.6))
for label, sample in samples.items():
    ratio = []
    for size in sizes:
        part = Tokenizer({by_id[id]: id for id in range(size)}, merges[:size - 256])
        ratio.append(len(sample.encode()) / len(part.encode(sample)))
    axes.semilogx(sizes, ratio, base=2, marker="o", label=label)
    print(f"{label}: {ratio[0]:.2f} bytes per token with {sizes[0]} tokens, {ratio[-1]:.2f} with {sizes[-1]}")
axes.set(xlabel="tokens in the vocabulary", ylabel="bytes per token")
axes.legend()
axes.grid(True)
plt.show()
