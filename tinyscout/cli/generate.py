"""Generate a continuation of a text, which may have images before it."""
import sys
import time
from itertools import chain, islice

from tinyscout.cli import (
    add_generation_arguments,
    load_model,
    print_error,
    read_text_arg,
    sampling_options,
    write_stdout,
)
from tinyscout.inputs.chat import Prompt, encode_chat, encode_prompt

EXAMPLE = """\
examples:
  tinyscout generate "The lighthouse" --model scout/ --temperature 0
  tinyscout generate "What is this?" --image cat.png --chat --model scout/
  cat story.txt | tinyscout generate - --model scout/"""


def add_arguments(sub):
    sub.add_argument("prompt", metavar="PROMPT", help="the text to continue; - reads the standard input")
    sub.add_argument("--image", action="append", default=[], metavar="FILE",
                     help="put an image before the text (repeatable)")
    add_generation_arguments(sub)
    mode = sub.add_mutually_exclusive_group()
    mode.add_argument("--chat", action="store_true", help="treat the prompt as a chat message and answer it")
    mode.add_argument("--raw", action="store_true",
                      help="add nothing to the prompt, and read names such as <|eot|> in it as special tokens")


def run(args):
    text, model = read_text_arg(args.prompt), load_model(args, args.dtype)
    prompt = encode(text, args, model)
    tokens = model.generate(prompt.tokens, prompt.images, **sampling_options(args))
    with Speed(args.quiet) as speed:
        stream(speed.count(tokens), model)


def encode(text, args, model):
    """Encode the prompt: a text to continue, a chat message (--chat), or text with special tokens (--raw)."""
    if args.raw:
        if args.image:
            raise ValueError("--raw does not work with --image: an image needs special tokens around it")
        return Prompt(model.tokenizer.encode(text, special=True), [])
    if not args.chat:
        return encode_prompt(text, args.image, model.tokenizer, model.config)
    parts = [{"type": "image", "image": file} for file in args.image] + [{"type": "text", "text": text}]
    return encode_chat([{"role": "user", "content": parts}], model.tokenizer, model.config)


def stream(tokens, model):
    """Write tokens as they are generated, but never half a character; end with a line break, even if interrupted."""
    decoder, first = model.tokenizer.stream(), list(islice(tokens, 1))      # if that fails, nothing is written
    try:
        for token in chain(first, tokens):
            if token not in model.config.stop_ids:
                write_stdout(decoder.push(token))
    finally:
        write_stdout(decoder.flush() + "\n")


class Speed:
    """Count tokens, and print the speed at the end.  The time of the first token includes the prompt."""

    def __init__(self, quiet):
        self.quiet, self.times = quiet, [time.perf_counter()]

    def count(self, tokens):
        for token in tokens:
            self.times.append(time.perf_counter())
            yield token

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        n = len(self.times) - 1
        if self.quiet or n == 0 or not (kind is None or kind is KeyboardInterrupt):
            return
        first, decoding = self.times[1] - self.times[0], self.times[-1] - self.times[1]
        rate = f", then {(n - 1) / decoding:.1f} per second" if n > 1 and decoding > 0 else ""
        sys.stdout.flush()
        print_error(f"{n} token{'s' * (n > 1)}, the first after {first:.2f} s{rate}")
