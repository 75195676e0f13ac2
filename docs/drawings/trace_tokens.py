"""The tokens of the overview's prompt with their ids, and the row of vectors that they become."""
import tinyscout
from drawings import Canvas, trace_image

SPECIAL, TEXT, IMAGE = 0, 1, 6      # tints
CHAR, PAD, HEIGHT, GAP, WIDTH = 8.5, 12, 46, 6, 700      # pixels


def list_tokens():
    """[(piece, id as text, tint)], with the image's tokens as one."""
    model = tinyscout.load()
    tokens, _ = trace_image.encode_question(model, trace_image.QUESTION)
    n_patches, found = tokens.count(model.config.patch_id), []
    for token in tokens:
        piece = model.tokenizer.decode([token])
        if token == model.config.patch_id:
            entry = (f"{piece} \u00d7 {n_patches}", str(token), IMAGE)
        else:
            entry = (piece.replace("\n", "⏎").replace(" ", "␣"), str(token), SPECIAL if piece[:2] == "<|" else TEXT)
        if not found or entry[2] != IMAGE or entry != found[-1]:
            found.append(entry)
    return found


def draw():
    boxes, x, y = [], 2, 2
    for piece, token, tint in list_tokens():
        width = max(len(piece), len(token)) * CHAR + PAD
        if x + width > WIDTH:
            x, y = 2, y + HEIGHT + GAP
        boxes.append((x, y, width, piece, token, tint))
        x += width + GAP
    canvas = Canvas(WIDTH, y + HEIGHT + 2, "The tokens of the prompt, each with its id")
    for x, y, width, piece, token, tint in boxes:
        canvas.rect(x, y, width, HEIGHT, tint=tint)
        canvas.text(x + width / 2, y + 20, piece, anchor="middle").text(x + width / 2, y + 38, token, "small", "middle")
    return canvas
