"""Talk with a model, and show it pictures."""
import contextlib
import sys
from pathlib import Path

from tinyscout.cli import BAD_INPUT, format_error, load_model, model_arguments, print_error, sampling
from tinyscout.cli.generate import Speed, stream
from tinyscout.inputs.chat import EOT, encode_chat, encode_turn
from tinyscout.inputs.image import open_image

EXAMPLE = """\
example:
  tinyscout chat --model scout/ --system "Answer in one sentence."

/help lists what can be said to the command itself."""

HELP = """\
/image FILE    show a picture with your next message
/system TEXT   tell the model how to behave, from your next message on
/reset         forget the conversation
/quit          leave, as Ctrl-D does; Ctrl-C stops a reply
//...          a message that begins with a slash"""


class Conversation:
    """What was said, and the model's memory of it: a turn reads only what is new.

    `format_error` and `shown` are all tokens and pictures so far, kept so that the memory can be made anew if it is lost;
    `unread` and `unseen` are those that the cache does not hold.  `last` is the token that ended the last reply, which
    a generator yields and never reads: the next turn begins with it.
    """

    def __init__(self, model, options, system=None):
        self.model, self.options, self.system_message = model, options, system
        self.reset()

    def reset(self):
        """Forget everything but the manner, which is said again."""
        self.cache, self.turns = self.new_cache(), 0
        self.history, self.pending_images, self.pending_messages, self.unseen, self.last = [], [], [], [], None
        self.pictures, self.system = [], self.system_message

    def new_cache(self):
        return self.model.new_cache(self.options.get("kv", "float32"))

    def set_system_message(self, text):
        """A system message, to go before the next one of the user."""
        self.system_message = self.system = text

    def add_image(self, file):
        """A picture for the next message.  Raises OSError or ValueError where it is none."""
        if self.model.config.vision is None:
            raise ValueError("this model reads text only: its config has no vision")
        self.pictures.append(open_image(file))

    def send(self, text):
        """Say something  ->  iterator over the tokens of the reply.

        A turn that fails before its first token has not been: the conversation is as before, and the system
        message and pictures wait for the next one.  A reply that is cut short stays, as far as it came.
        """
        prompt, options = self.encode(text), dict(self.options)
        if options.get("seed") is not None:
            options["seed"] += self.turns               # or every reply would be drawn alike
        tokens = self.model.generate(self.pending_messages + prompt.tokens, self.unseen + prompt.images,
                                     cache=self.cache,
                                     **options)
        return self.remembered(prompt, tokens)

    def remembered(self, prompt, tokens):
        """Pass the reply on, and keep the turn however it ends."""
        reply = []
        try:
            for token in tokens:
                reply.append(token)
                yield token
        finally:
            if reply:
                self.keep(prompt, reply)
            else:                                       # the cache may hold a part of it: all is to be read again
                self.cache, self.pending_messages, self.unseen = self.new_cache(), list(self.history), list(self.pending_images)

    def encode(self, text):
        """The new messages as a Prompt.  Changes nothing, and raises ValueError where there is nothing to say."""
        parts = [{"type": "image", "image": picture} for picture in self.pictures]
        parts += [{"type": "text", "text": text}] if text else []
        messages = [{"role": "system", "content": self.system}] if self.system else []
        messages.append({"role": "user", "content": parts})
        if not self.history:
            return encode_chat(messages, self.model.tokenizer, self.model.config)
        return encode_turn(messages, self.last, self.model.tokenizer, self.model.config)

    def keep(self, prompt, reply):
        """The turn has been: it is read up to its last token."""
        # a patch that the model itself made has no picture, and would ask for one if it were read again
        own = self.model.config.patch_id
        self.history += prompt.tokens + [token for token in reply[:-1] if token != own]
        self.pending_images += prompt.images
        self.last = self.model.tokenizer.special[EOT] if reply[-1] == own else reply[-1]
        self.pending_messages, self.unseen, self.pictures, self.system = [], [], [], None
        self.turns += 1


def arguments(sub):
    model_arguments(sub)
    sub.add_argument("--system", metavar="TEXT", help="how the model shall behave")


def run(args):
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  input() then has a history and can be edited
    talk = Conversation(load_model(args), sampling(args), args.system)
    shown = sys.stdin.isatty()
    if shown:
        print("/help lists the commands; Ctrl-D ends.")
    while True:
        try:
            line = input(f"{'▣ ' * len(talk.pictures)}> " if shown else "").strip()
            if line == "/quit":
                return
            if line or talk.pictures:
                handle_line(line, talk, args)
        except EOFError:
            return print() if shown else None
        except KeyboardInterrupt:
            print()                                     # the line, or the reply, is dropped; the conversation stays
        except BrokenPipeError:
            raise
        except BAD_INPUT as error:
            print_error(format_error(error))


def handle_line(line, talk, args):
    """Do what a line says: a command, or a message and its reply."""
    if not line.startswith("/") or line.startswith("//"):
        with Speed(args.quiet) as speed, contextlib.closing(talk.send(line.removeprefix("/"))) as reply:
            return stream(speed.counted(reply), talk.model)
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/image" and rest:
        talk.add_image(Path(rest.strip("\"'")).expanduser())
    elif name == "/system" and rest:
        talk.set_system_message(rest)
    elif name == "/reset":
        talk.reset()
    elif name == "/help":
        print(HELP)
    else:
        raise ValueError(f"no command {line!r}: /help lists them")
    return None
