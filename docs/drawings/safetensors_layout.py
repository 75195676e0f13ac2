"""The file of scout-mini: its header, its tensors, and the pages of it that one token of text needs."""
import json
from itertools import pairwise
from pathlib import Path

import numpy as np

import tinyscout
from drawings import Canvas
from tinyscout import reference
from tinyscout.checkpoint.safetensors_io import mmap_file
from tinyscout.nn import scout
from tinyscout.nn.text import text_model

FILE = Path(tinyscout.__file__).parent / "scout-mini" / "model.safetensors"
PAGE, COLUMNS, CELL = 4096, 80, 6       # bytes; pages in a row; pixels of a page
LEFT, TOP = 2, 150
KINDS = {"header": 4, "embedding, output": 1, "attention, shared": 2, "chosen experts": 3}      # tints
DEPENDS_ON = [FILE]


def read_header():
    """(bytes before the tensors, {name: entry} in the file's order)"""
    raw = FILE.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    return 8 + size, dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))


def choose_experts(token):
    """The expert of each layer that reads one token."""
    model, chosen = tinyscout.load(dtype="float32"), []

    class Recorder:
        def __getattr__(self, name):
            return getattr(reference, name)

        def router(self, *arguments):
            result = reference.router(*arguments)
            chosen.append(int(np.ravel(result[1])[0]))
            return result

    x = scout.embed_inputs([token], (), model.weights, model.config)
    text_model(x[None], model.weights.text, model.config.text, ops=Recorder())
    return chosen


def read_ranges(token):
    """Yield (first byte, stop byte, tint) of all that one token of text needs, with offsets in the file."""
    start, header = read_header()
    experts = choose_experts(token)
    yield 0, start, KINDS["header"]
    for name, entry in header.items():
        low, high = (start + offset for offset in entry["data_offsets"])
        if ".experts." in name:
            layer, size = int(name.split(".layers.")[1].split(".")[0]), (high - low) // entry["shape"][0]
            yield low + experts[layer] * size, low + (experts[layer] + 1) * size, KINDS["chosen experts"]
        elif "embed_tokens" in name:
            size = (high - low) // entry["shape"][0]
            yield low + token * size, low + (token + 1) * size, KINDS["embedding, output"]
        elif name.startswith("language_model"):
            yield low, high, KINDS["embedding, output" if "lm_head" in name else "attention, shared"]


def draw_strip(canvas, right):
    """The parts of the file in order, not to scale."""
    start, header = read_header()
    entry = next(entry for name, entry in header.items() if "gate_up" in name)
    canvas.text(LEFT, 14, "model.safetensors, not to scale", "title")
    for x, width, text, tint, byte in ((LEFT, 62, "length", 4, 0), (64, 110, "header", 4, 8),
                                       (174, 90, "embedding", 1, start), (264, 60, "…", 0, None),
                                       (324, right - 324, "gate_up_proj", 3, start + entry["data_offsets"][0])):
        canvas.rect(x, 42, width, 34, text, tint, radius=0)
        if byte is not None:
            canvas.text(x, 36, f"{byte:,}", "small")
    canvas.text(LEFT, 94, "8 bytes", "note").text(66, 94, f"JSON: {len(header)} tensors", "note")
    shape = " \u00d7 ".join(map(str, entry["shape"]))
    return canvas.text(326, 94, f"{entry['dtype']}, {shape}", "note")


def draw():
    right = LEFT + COLUMNS * CELL
    pages = -(-FILE.stat().st_size // PAGE)
    kind = np.zeros(pages, int)
    for low, high, tint in read_ranges(token=300):
        kind[low // PAGE:-(-high // PAGE)] = tint
    rows = -(-pages // COLUMNS)
    canvas = Canvas(right + 2, TOP + rows * CELL + 56, f"A safetensors file: length, header, tensors; and its {pages} "
                    f"pages, of which one token needs {np.count_nonzero(kind)}")
    draw_strip(canvas, right)
    canvas.text(LEFT, 124, f"the same file in {pages:,} pages of {PAGE:,} bytes", "title")
    canvas.text(LEFT, 142, f"one token of text needs {np.count_nonzero(kind)} of them", "note")
    for row in range(rows):
        line = kind[row * COLUMNS:(row + 1) * COLUMNS]
        edges = [0, *(np.flatnonzero(np.diff(line)) + 1), len(line)]
        for a, b in pairwise(edges):
            if line[a]:
                canvas.rect(LEFT + a * CELL, TOP + row * CELL, (b - a) * CELL, CELL, tint=line[a], radius=0)
    canvas.rect(LEFT, TOP, COLUMNS * CELL, rows * CELL, kind="frame", radius=0)
    x, y = LEFT, TOP + rows * CELL + 14
    for text, tint in {**KINDS, "not needed": 0}.items():
        if x + 26 + 6.4 * len(text) > right:
            x, y = LEFT, y + 22
        canvas.rect(x, y, 14, 14, tint=tint, kind="box" if tint else "frame", radius=2)
        canvas.text(x + 19, y + 12, text, "note")
        x += 34 + 6.4 * len(text)
    assert set(mmap_file(FILE)) == set(read_header()[1])
    return canvas
