"""Show how a text is split into tokens."""
import json
import sys

from rich.cells import cell_len
from rich.text import Text

from tinyscout.cli import CONTROL_PICTURES, make_console, read_text_arg
from tinyscout.inputs.tokenizer import Tokenizer

EXAMPLE = """\
examples:
  tinyscout tokenize "Roses are red" --model scout/
  tinyscout tokenize - --ids --model tokenizer.model < poem.txt"""

COLOURS = ("on color(24)", "on color(58)", "on color(53)", "on color(23)", "on color(88)")


def add_arguments(sub):
    sub.add_argument("text", metavar="TEXT", help="the text; - reads the standard input")
    sub.add_argument("--model", required=True, metavar="DIR",
                     help="checkpoint directory, or a tokenizer file")
    sub.add_argument("--ids", action="store_true", help="print only the ids, on one line")
    sub.add_argument("--special", action="store_true", help="read names such as <|eot|> as special tokens")


def run(args):
    tokenizer, text = Tokenizer.load(args.model), read_text_arg(args.text)
    ids = tokenizer.encode(text, special=args.special)
    if args.ids:
        print(*ids)
        return
    pieces = [to_visible(piece) for piece in tokenizer.token_bytes(ids)]
    if not sys.stdout.isatty():                     # one token per line, for the next program
        print(*(f"{id}\t{piece}" for id, piece in zip(ids, pieces, strict=True)), sep="\n")
        return
    console = make_console()
    for row in layout_boxes(ids, pieces, console.width):
        console.print(row, no_wrap=True, crop=False)
    n = len(text.encode())
    console.print(f"[dim]{len(ids):,} tokens, {len(text):,} characters, {n:,} bytes: "
                  f"{n / max(1, len(ids)):.2f} bytes per token[/]")


def to_visible(piece):
    """Show bytes as visible text: spaces as dots, and bytes that are not UTF-8 as hexadecimal."""
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in piece)
    visible = text.translate(CONTROL_PICTURES).replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
    return visible if visible.isprintable() else json.dumps(visible)[1:-1]


def layout_boxes(ids, pieces, width):
    """Arrange boxes in rows of at most `width` columns: pieces above, ids below."""
    cells: list[tuple] = []
    row_width = 0
    for n, (id, piece) in enumerate(zip(ids, pieces, strict=True)):
        size = max(cell_len(piece), len(str(id))) + 1
        if cells and row_width + size > width:
            yield join_boxes(cells)
            cells, row_width = [], 0
        cells.append((piece, str(id), size, COLOURS[n % len(COLOURS)]))
        row_width += size
    if cells:
        yield join_boxes(cells)


def join_boxes(cells):
    """Join boxes side by side into one text of two lines and an empty line."""
    top, bottom = Text(), Text()
    for piece, id, size, colour in cells:
        top.append(piece + " " * (size - 1 - cell_len(piece)), colour).append(" ")
        bottom.append(id.ljust(size), "dim")
    return Text("\n").join([top, bottom, Text()])
