"""Scout on one sheet, from text and image to the next token; every size comes from the config."""
from drawings import Canvas
from tinyscout.config import SCOUT

TEXT, IMAGE, ATTENTION, EXPERTS = 1, 6, 2, 3    # tints
TIMES = " \u00d7 "


class Map(Canvas):
    """A canvas whose boxes are links to chapters."""

    def box(self, page, x, y, width, height, text, tint):
        self.parts.append(f'<a href="{page}.html">')
        self.rect(x, y, width, height, text, tint)
        self.parts.append("</a>")
        return self


def draw_inputs(canvas):
    """Two columns that meet: text on the left, an image on the right."""
    t, v = SCOUT.text, SCOUT.vision
    canvas.text(140, 18, '"Where is the square?"', anchor="middle")
    canvas.cells(388, 2, [[("", IMAGE)] * 3, [("", IMAGE)] * 3], 20)
    canvas.text(456, 18, "an image", "note").text(456, 36, f"up to {v.max_tiles} tiles", "note")
    canvas.arrow((140, 26), (140, 60)).arrow((418, 44), (418, 60))
    canvas.box("tokenizer", 30, 62, 220, 30, "tokenizer, chat format", TEXT)
    canvas.box("tiles", 308, 62, 220, 30, f"tiles of {v.tile_size}{TIMES}{v.tile_size}", IMAGE)
    canvas.arrow((140, 92), (140, 240)).arrow((418, 92), (418, 112))
    canvas.text(150, 172, "token ids (T,)", "note")
    size = v.patch_size
    canvas.box("patches", 308, 114, 220, 30, f"{v.grid ** 2} patches of {size}{TIMES}{size}", IMAGE)
    canvas.arrow((418, 144), (418, 164))
    canvas.box("vision", 308, 166, 220, 48, f"vision tower: {v.n_layers} layers\nwidth {v.dim:,}, {v.n_heads} heads",
               IMAGE)
    canvas.arrow((418, 214), (418, 240))
    canvas.box("linear", 30, 242, 220, 48, f"embedding: one row for\neach of {t.vocab_size:,} tokens", TEXT)
    canvas.box("vision", 308, 242, 220, 48, f"adapter, projector:\n{v.tokens_per_tile} vectors a tile", IMAGE)
    canvas.arrow((140, 290), (140, 320)).arrow((418, 290), (418, 320))
    canvas.box("fusion", 30, 322, 498, 30, "fusion: image vectors replace placeholders", IMAGE)
    canvas.arrow((140, 352), (140, 384))
    return canvas.text(152, 374, f"vectors (T, {t.dim:,}): the residual stream", "note")


def draw_layer(canvas, y):
    """One decoder layer: the stream on the left, two networks that read it and add to it."""
    t = SCOUT.text
    n_local = sum(layer.chunked for layer in t.layers)
    canvas.rect(30, y, 498, 306, kind="frame", radius=10)
    canvas.text(516, y + 22, f"decoder layer, {len(t.layers)} times", "title", "end")
    canvas.line((140, y), (140, y + 306), tint=TEXT)
    canvas.text(48, y + 148, "residual", "note").text(48, y + 166, "stream", "note")
    for top, page, text, tint in (
            (y + 34, "attention", f"attention: {t.n_heads} query heads,\n{t.n_kv_heads} key/value heads", ATTENTION),
            (y + 176, "moe", f"router: 1 of {t.n_experts} experts,\nand a shared expert", EXPERTS)):
        canvas.arrow((140, top + 12), (228, top + 12))
        canvas.box("norm", 230, top - 2, 100, 28, "norm", tint)
        canvas.arrow((280, top + 26), (280, top + 44))
        canvas.box(page, 230, top + 46, 284, 48, text, tint)
        canvas.arrow((230, top + 76), (154, top + 76), tint=tint)
        canvas.rect(128, top + 64, 24, 24, "+", radius=12)
    canvas.text(230, y + 146, f"{n_local} layers: RoPE, inside {t.chunk_size:,} tokens", "note")
    canvas.text(230, y + 164, f"{len(t.layers) - n_local} layers: no positions, all tokens", "note")
    return canvas.text(230, y + 290, f"each expert: {t.dim:,} to {t.hidden_dim:,} and back", "note")


def draw_output(canvas, y):
    t = SCOUT.text
    canvas.arrow((140, y), (140, y + 24))
    canvas.box("linear", 30, y + 26, 220, 48, f"norm, output matrix\n{t.dim:,}{TIMES}{t.vocab_size:,}", TEXT)
    canvas.arrow((140, y + 74), (140, y + 112))
    canvas.text(150, y + 98, f"{t.vocab_size:,} logits", "note")
    canvas.box("sampling", 30, y + 114, 220, 30, "softmax, sampling", TEXT)
    canvas.arrow((250, y + 129), (306, y + 129))
    canvas.text(316, y + 134, '"top"')
    canvas.line((140, y + 144), (140, y + 164), (12, y + 164), (12, 150), (132, 150), kind="arrow dashed")
    return canvas.text(152, y + 168, "the new token is appended, and the model runs again", "note")


def draw():
    canvas = Map(556, 880, "Scout from text and image to the next token: tokenizer and vision tower, fusion, "
                 f"{len(SCOUT.text.layers)} layers of attention and experts, logits, sampling")
    draw_inputs(canvas)
    draw_layer(canvas, 386)
    return draw_output(canvas, 692)
