"""The tokens of a conversation, a row for each message, encoded by encode_chat with scout-mini's tokenizer."""
import tinyscout
from drawings import Canvas
from drawings.trace_image import render_image
from tinyscout.inputs.chat import EOT, HEADER_END, HEADER_START, encode_chat

ID, TEXT, IMAGE, MODEL = 0, 1, 6, 3     # tints
ANSWER = "top"
COLUMNS = (2, 116, 188, 288, 324)       # left edges of the header's four boxes and of the content
HEIGHT, ROW, TOP, WIDTH = 24, 56, 48, 572


def encode():
    """Lists of (token id, piece), one for each message, in the order of the prompt; the first is the start alone."""
    model = tinyscout.load()
    messages = [{"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": [{"type": "image", "image": render_image()},
                                             {"type": "text", "text": "Where is the square?"}]},
                {"role": "assistant", "content": ANSWER}]
    tokens = encode_chat(messages, model.tokenizer, model.config).tokens
    rows = [[]]
    for token in tokens:
        piece = model.tokenizer.decode([token])
        if piece == HEADER_START:
            rows.append([])
        rows[-1].append(piece)
    return rows


def group(row):
    """(text, number of tokens, tint) of the boxes of one message."""
    end = row.index(HEADER_END)
    yield HEADER_START, 1, ID
    yield "".join(row[1:end]), end - 1, TEXT
    yield HEADER_END, 1, ID
    content = row[end + 1:]
    blank = next(n for n in range(1, len(content) + 1) if "".join(content[:n]) == "\n\n")
    yield "⏎⏎", blank, TEXT
    content = content[blank:]
    image = [piece for piece in content if piece.startswith("<|") and piece != EOT]
    if image:
        yield "image", len(image), IMAGE
    words = [piece for piece in content if not piece.startswith("<|")]
    if words:
        yield "".join(words), len(words), TEXT
    if EOT in content:
        yield EOT, 1, ID


def draw_row(canvas, y, row, written):
    """written: the model generates the content"""
    x = COLUMNS[0]
    for n, (text, count, tint) in enumerate(group(row)):
        width = COLUMNS[n + 1] - x - 4 if n + 1 < len(COLUMNS) else len(text) * 6.7 + 8
        canvas.rect(x, y, width, HEIGHT, tint=MODEL if written and n >= 4 else tint)
        canvas.text(x + width / 2, y + 16, text, "small", "middle")
        canvas.text(x + width / 2, y + HEIGHT + 14, count, "small", "middle")
        x += width + 4
    return canvas


def draw():
    start, *rows = encode()
    canvas = Canvas(WIDTH, TOP + ROW * len(rows) + 28, "The token layout of a conversation: a header, the content and "
                    "an end token for each message, and an empty header at the end")
    canvas.rect(2, 4, 130, HEIGHT).text(67, 20, start[0], "small", "middle").text(140, 20, "1", "small")
    for n, row in enumerate(rows):
        draw_row(canvas, TOP + ROW * n, row, n == 2)
    x, y = 2, TOP + ROW * len(rows) + 6
    for text, tint in (("special, set by id", ID), ("encoded text", TEXT), ("an image's tokens", IMAGE),
                       ("written by the model", MODEL)):
        canvas.rect(x, y, 14, 14, tint=tint, radius=2).text(x + 19, y + 12, text, "note")
        x += 32 + 6.6 * len(text)
    return canvas
