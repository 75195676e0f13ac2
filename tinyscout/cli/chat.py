"""Chat with a model, and show it images."""
import contextlib
import sys
from pathlib import Path

from tinyscout.cli import BAD_INPUT, add_generation_arguments, format_error, load_model, print_error, sampling_options
from tinyscout.cli.generate import Speed, stream
from tinyscout.inputs.chat import EOT, encode_chat, encode_turn
from tinyscout.inputs.image import open_image

EXAMPLE = """\
example:
  tinyscout chat --model scout/ --system "Answer in one sentence."

/help lists the commands that you can type in the chat."""

HELP = """\
/image FILE    show an image with your next message
/system TEXT   set a system message, which takes effect with your next message
/reset         forget the conversation
/quit          leave the chat, like Ctrl-D; Ctrl-C stops a reply
//...          send a message that begins with a slash"""


class Conversation:
    """The messages so far and the model's cache of them; each turn feeds the model only the new tokens.

    `history` and `history_images` hold all tokens and images so far, so that the cache can be rebuilt.
    `pending_tokens` and `pending_images` are those not yet in the cache.  `last_token` ended the last reply: the
    generator yields it without feeding it to the model, so the next turn begins with it.  `attachments` and
    `pending_system` are the images and the system message that precede the next message of the user.
    """

    def __init__(self, model, options, system=None):
        self.model, self.options, self.system_message = model, options, system
        self.reset()

    def reset(self):
        """Forget everything except the system message, which precedes the next message again."""
        self.cache, self.turns = self.new_cache(), 0
        self.history, self.history_images, self.last_token = [], [], None
        self.pending_tokens, self.pending_images = [], []
        self.attachments, self.pending_system = [], self.system_message

    def new_cache(self):
        return self.model.new_cache(self.options.get("kv_dtype", "float32"))

    def set_system_message(self, text):
        """Put a system message before the next message of the user."""
        self.system_message = self.pending_system = text

    def add_image(self, file):
        """Attach an image to the next message.  Raises OSError or ValueError if the file is not an image."""
        if self.model.config.vision is None:
            raise ValueError("this model reads text only: its config does not include vision")
        self.attachments.append(open_image(file))

    def send(self, text):
        """Send a message  ->  iterator over the tokens of the reply.

        If a turn fails before its first token, the conversation is unchanged, and the system message and the images
        are sent with the next message.  If a reply is interrupted, the tokens so far stay in the conversation.
        """
        prompt, options = self.encode(text), dict(self.options)
        if options.get("seed") is not None:
            options["seed"] += self.turns               # otherwise every turn would draw the same random numbers
        tokens = self.model.generate(self.pending_tokens + prompt.tokens, self.pending_images + prompt.images,
                                     cache=self.cache, **options)
        return self.record_reply(prompt, tokens)

    def record_reply(self, prompt, tokens):
        """Yield the tokens of the reply, and record the turn, even if it is interrupted."""
        reply = []
        try:
            for token in tokens:
                reply.append(token)
                yield token
        finally:
            if reply:
                self.record_turn(prompt, reply)
            else:                                       # the cache may hold a part of the turn: make a new one
                self.cache = self.new_cache()
                self.pending_tokens, self.pending_images = list(self.history), list(self.history_images)

    def encode(self, text):
        """Encode the new messages as a Prompt, without side effects.  Raises ValueError if there is nothing to send."""
        parts = [{"type": "image", "image": image} for image in self.attachments]
        parts += [{"type": "text", "text": text}] if text else []
        messages = [{"role": "system", "content": self.pending_system}] if self.pending_system else []
        messages.append({"role": "user", "content": parts})
        if not self.history:
            return encode_chat(messages, self.model.tokenizer, self.model.config)
        return encode_turn(messages, self.last_token, self.model.tokenizer, self.model.config)

    def record_turn(self, prompt, reply):
        """Add a finished turn to the history.  The cache holds the whole turn except its last token."""
        # drop patch tokens that the model itself generated: feeding them again would require an image
        patch_id = self.model.config.patch_id
        self.history += prompt.tokens + [token for token in reply[:-1] if token != patch_id]
        self.history_images += prompt.images
        self.last_token = self.model.tokenizer.special[EOT] if reply[-1] == patch_id else reply[-1]
        self.pending_tokens, self.pending_images, self.attachments, self.pending_system = [], [], [], None
        self.turns += 1


def add_arguments(sub):
    add_generation_arguments(sub)
    sub.add_argument("--system", metavar="TEXT", help="system message: how the model should behave")


def run(args):
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  gives input() a history and line editing
    conversation = Conversation(load_model(args, args.dtype), sampling_options(args), args.system)
    interactive = sys.stdin.isatty()
    if interactive:
        print("/help lists the commands; Ctrl-D ends.")
    while True:
        try:
            line = input(f"{'▣ ' * len(conversation.attachments)}> " if interactive else "").strip()
            if line == "/quit":
                return
            if line or conversation.attachments:
                handle_line(line, conversation, args)
        except EOFError:
            return print() if interactive else None
        except KeyboardInterrupt:
            print()                                     # drops the line or stops the reply; the conversation continues
        except BrokenPipeError:
            raise
        except BAD_INPUT as error:
            print_error(format_error(error))


def handle_line(line, conversation, args):
    """Run a command, or send a message and print the reply."""
    if not line.startswith("/") or line.startswith("//"):
        with Speed(args.quiet) as speed, contextlib.closing(conversation.send(line.removeprefix("/"))) as reply:
            return stream(speed.count(reply), conversation.model)
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    if name == "/image" and argument:
        conversation.add_image(Path(argument.strip("\"'")).expanduser())
    elif name == "/system" and argument:
        conversation.set_system_message(argument)
    elif name == "/reset":
        conversation.reset()
    elif name == "/help":
        print(HELP)
    else:
        raise ValueError(f"unknown command {line!r}: /help lists all commands")
    return None
