"""The image of the overview's prompt, in patches and in tokens, and the last token's attention to each."""
import base64
import io

import numpy as np

import tinyscout
from drawings import Canvas
from tinyscout import reference
from tinyscout.data.scenes import Scene, SceneObject, render
from tinyscout.inputs.chat import encode_chat
from tinyscout.nn import scout
from tinyscout.nn.text import attention_block, encode_positions, feed_forward_block, position_tables, project_qkv

OBJECTS = (SceneObject("square", "purple", "large", 2), SceneObject("cross", "green", "small", 3),
           SceneObject("circle", "orange", "large", 7))
QUESTION = "Where is the square?"
SIDE, GAP, TOP = 176, 12, 26    # pixels of a panel


def render_image():
    return render(Scene("objects", "white", OBJECTS), 64)


def encode_question(model, question):
    """The prompt of the overview with a question  ->  Prompt"""
    parts = [{"type": "image", "image": render_image()}, {"type": "text", "text": question}]
    return encode_chat([{"role": "user", "content": parts}], model.tokenizer, model.config)


def attend(model, tokens, images):
    """The attention weights of the last token in the last layer  ->  (H, T)"""
    t, w = model.config.text, model.weights.text
    x = scout.embed_inputs(tokens, images, model.weights, model.config)[None]
    positions = position_tables(0, len(tokens), t, x.dtype)
    for layer, block in zip(t.layers[:-1], w.blocks[:-1], strict=True):
        x = feed_forward_block(attention_block(x, block, layer, positions, t), block, t)
    normed = reference.rms_norm(x, w.blocks[-1].attention_norm, t.norm_eps)
    q, k, _ = project_qkv(normed, w.blocks[-1].attention, t)
    q, k = encode_positions(q, k, t.layers[-1], positions, t)
    keys = k[0].repeat(t.n_heads // t.n_kv_heads, axis=1)                       # (T, H, d)
    return reference.softmax(np.einsum("hd,thd->ht", q[0, -1], keys) / np.sqrt(t.head_dim))


def place(canvas, image, x, y, side):
    """Put pixels on a drawing, each a sharp square, as a PNG inside the page."""
    image.save(file := io.BytesIO(), "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    canvas.parts.append(f'<image x="{x}" y="{y}" width="{side}" height="{side}" style="image-rendering: pixelated" '
                        f'href="data:image/png;base64,{data}"/>')


def label(canvas, x, y, text):
    """Black text with a white rim, readable on any pixels."""
    canvas.parts.append(f'<text class="small" x="{x:g}" y="{y:g}" text-anchor="middle" style="fill: #111; '
                        f'paint-order: stroke; stroke: #fff; stroke-width: 3px">{text}</text>')


def draw():
    model = tinyscout.load(dtype="float32")
    image, v = render_image(), model.config.vision
    tokens, images = encode_question(model, QUESTION)
    weights = attend(model, tokens, images)
    head = weights[:, np.array(tokens) == model.config.patch_id].sum(axis=1).argmax()
    paid = weights[head][np.array(tokens) == model.config.patch_id]
    side = v.grid // v.pixel_shuffle_factor
    canvas = Canvas(3 * SIDE + 2 * GAP + 4, TOP + SIDE + 4, f"The image in {v.grid ** 2} patches, in {side ** 2} image "
                    "tokens, and the share of its attention that the last token pays to each of them")
    for n, title in enumerate((f"{v.grid ** 2} patches", f"{side ** 2} image tokens", "attention")):
        left = 2 + n * (SIDE + GAP)
        canvas.text(left, 16, title, "note")
        place(canvas, image, left, TOP, SIDE)
        cells = v.grid if n == 0 else side
        for cell in range(cells * cells):
            x, y, size = left + cell % cells * SIDE / cells, TOP + cell // cells * SIDE / cells, SIDE / cells
            if n == 2:
                canvas.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}" style="fill: #000; '
                                    f'fill-opacity: {0.72 * (1 - float(paid[cell] / paid.max())):.2f}"/>')
            canvas.rect(x, y, size, size, kind="frame", radius=0)
            if n == 1 or (n == 2 and paid[cell] >= 0.005):
                says = str(cell + 1) if n == 1 else f"{paid[cell]:.0%}"
                label(canvas, x + size / 2, y + size / 2 + 4, says)
    return canvas
