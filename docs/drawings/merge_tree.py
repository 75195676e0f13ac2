"""The merges of a word by scout-mini's tokenizer, each below the two tokens that it joins."""
from itertools import pairwise

import tinyscout
from drawings import Canvas

WORD = " encoding"
CELL, HEIGHT, GAP, LEFT = 40, 28, 16, 92     # pixels: a byte, a token, between rows, the column of ranks
BYTE, MERGED, FINAL = 0, 2, 1               # tints


def merge(word):
    """Yield (rank, token, first byte, where its right half begins, stop byte) for each merge of a word."""
    tokenizer = tinyscout.load().tokenizer
    spelling = {id: token for token, id in tokenizer.tokens.items()}
    table = {(left, right): (rank, merged) for left, right, rank, merged in tokenizer.merge_table.tolist()}
    parts = [(tokenizer.tokens[bytes([byte])], n, n + 1) for n, byte in enumerate(word.encode())]
    while found := [(table[a[0], b[0]], n) for n, (a, b) in enumerate(pairwise(parts)) if (a[0], b[0]) in table]:
        (rank, merged), n = min(found)
        (_, start, middle), (_, _, stop) = parts[n:n + 2]
        parts[n:n + 2] = [(merged, start, stop)]
        yield rank, spelling[merged].decode(), start, middle, stop
    assert [part[0] for part in parts] == tokenizer.encode(word)


def show(text):
    return text.replace(" ", "␣")


def draw():
    steps = list(merge(WORD))
    height = 24 + (len(steps) + 1) * (HEIGHT + GAP)
    canvas = Canvas(LEFT + len(WORD) * CELL + 2, height, f"The bytes of {WORD!r} and the {len(steps)} merges that join "
                    "them, from the lowest rank to the highest")
    canvas.text(0, 14, "rank", "title").text(LEFT, 14, "bytes, and the tokens that they become", "title")
    bottoms = {(n, n + 1): 24 + HEIGHT for n in range(len(WORD))}       # of the newest box of each span
    boxes = [(n, n + 1, 24, letter, BYTE) for n, letter in enumerate(WORD)]
    inner = set()
    for number, (rank, token, start, middle, stop) in enumerate(steps, 1):
        y = 24 + number * (HEIGHT + GAP)
        for half in (start, middle), (middle, stop):
            x = LEFT + (half[0] + half[1]) / 2 * CELL
            canvas.line((x, bottoms[half]), (x, y), tint=MERGED)
            inner.add(half)
        bottoms[start, stop] = y + HEIGHT
        boxes.append((start, stop, y, token, MERGED))
        canvas.text(0, y + 19, rank)
    for start, stop, y, token, tint in boxes:
        canvas.rect(LEFT + start * CELL + 3, y, (stop - start) * CELL - 6, HEIGHT, show(token),
                    tint if (start, stop) in inner else FINAL)
    return canvas
