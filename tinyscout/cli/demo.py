"""Show what the small model in this package can do: answer questions about images it never saw, and complete code."""
from pathlib import Path

import numpy as np
from rich.columns import Columns
from rich.panel import Panel
from rich.text import Text

from tinyscout.cli import add_model_arguments, load_model, make_console
from tinyscout.data.dialogs import TASKS, ask, to_message
from tinyscout.inputs.chat import encode_chat, encode_prompt

EXAMPLE = """\
examples:
  tinyscout demo
  tinyscout demo --seed 7 --tasks number changed --save images/"""

CODE = "def __repr__(self):\n    return "
SIDE = 32               # side of an image on the terminal in pixels; a character shows two, one above the other


def add_arguments(sub):
    add_model_arguments(sub)
    sub.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"],
                     help="dtype of the weights (%(default)s)")
    sub.add_argument("--seed", type=int, default=0, metavar="S",
                     help="random seed of the images and questions (%(default)s)")
    sub.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", default=["colour", "count", "same"],
                     help=f"kinds of questions to ask: {', '.join(TASKS)} (colour count same)")
    sub.add_argument("--code", default=CODE, metavar="TEXT", help="the code to complete")
    sub.add_argument("--save", metavar="DIR", help="also write the images to this directory")


def run(args):
    model, console, rng = load_model(args, args.dtype), make_console(), np.random.default_rng(args.seed)
    if model.config.vision is None:
        raise ValueError("this model reads text only: the demo needs a model with vision")
    size = model.config.vision.tile_size
    for n, task in enumerate(args.tasks, 1):
        question = ask(rng, task, held_out=True, size=size)
        if args.save:
            save_images(question.images, Path(args.save).expanduser(), f"{n}-{task}")
        console.print(Columns([Panel(render_half_blocks(image), padding=0, expand=False)
                               for image in question.images]))
        reply = generate_answer(model, question)
        verdict = "correct" if reply == question.answer else f"correct answer: {question.answer}"
        console.print(f"[bold]{question.text}[/]  {reply}  [dim]({verdict})[/]\n")
    prompt = encode_prompt(args.code, [], model.tokenizer, model.config)
    completion = model.generate(prompt.tokens, max_new_tokens=24, temperature=0)
    console.print(Text(args.code), Text(model.tokenizer.decode(list(completion)), style="bold"), sep="")


def generate_answer(model, question):
    """Generate the model's answer to a question by greedy decoding."""
    prompt = encode_chat([to_message(question)], model.tokenizer, model.config)
    ids = model.generate(prompt.tokens, prompt.images, max_new_tokens=40, temperature=0)
    return model.tokenizer.decode([id for id in ids if id not in model.config.stop_ids])


def render_half_blocks(image):
    """Render an image as coloured half blocks."""
    pixels = np.asarray(image.resize((SIDE, SIDE)))
    text = Text()
    for upper, lower in zip(pixels[0::2].tolist(), pixels[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", f"rgb({','.join(map(str, above))}) on rgb({','.join(map(str, below))})")
        text.append("\n")
    return text[:-1]


def save_images(images, directory, name):
    """Write images as PNG files."""
    directory.mkdir(parents=True, exist_ok=True)
    for n, image in enumerate(images, 1):
        image.save(directory / f"{name}-{n}.png")
