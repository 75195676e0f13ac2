"""Shared code of `tinyscout needle` and `tinyscout nll`: arguments, the model, held-out text and the report."""
import argparse
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tinyscout.bench.machine import describe_machine, git_commit
from tinyscout.checkpoint.config_json import read_json
from tinyscout.cli import add_model_arguments, load_model, positive_int
from tinyscout.cli._format import parse_tokens
from tinyscout.data.corpus import load_corpus
from tinyscout.inputs.chat import BEGIN, special_token_id
from tinyscout.model import BUNDLED_MODEL
from tinyscout.train.batches import concat_texts
from tinyscout.train.log import save_figure
from tinyscout.train.recipe import recipe_from_dict


def add_arguments(sub):
    """Add the arguments of both commands."""
    add_model_arguments(sub, default=BUNDLED_MODEL)
    sub.add_argument("--text", action="append", metavar="PATH",
                     help="text files or directories; the held-out 5%% is used (repeatable; default: this Python's "
                     "standard library)")
    sub.add_argument("--train-length", type=parse_tokens, metavar="N",
                     help="context length the model was trained with (default: read from the recipe next to the "
                     "checkpoint)")
    sub.add_argument("--no-temperature", action="store_true", help="do not scale the queries of NoPE layers")
    sub.add_argument("--scale", type=nonnegative_float, metavar="A",
                     help="scale the queries of NoPE layers by 1 + A log(...)")
    sub.add_argument("--floor", type=positive_int, metavar="F", help="scale them from F tokens on")
    sub.add_argument("--seed", type=int, default=0, metavar="S", help="random seed of the texts (%(default)s)")
    sub.add_argument("--out", type=Path, metavar="DIR", help="write a report and a plot to this directory")


def nonnegative_float(text):
    """Parse a finite number of at least 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number of at least 0")
    return value


def load_with_temperature(args):
    """Load the model and set its temperature by the arguments.  Raises ValueError and the errors of `load_model`."""
    if args.no_temperature and (args.scale is not None or args.floor is not None):
        raise ValueError("--scale and --floor have no effect with --no-temperature")
    model = load_model(args)
    overrides = {"attn_temperature": not args.no_temperature and (model.config.text.attn_temperature
                                                                  or args.scale is not None),
                 "attn_temperature_scale": args.scale, "attn_temperature_floor": args.floor and float(args.floor)}
    changes = {name: value for name, value in overrides.items() if value is not None}
    return replace(model, config=replace(model.config, text=replace(model.config.text, **changes)))


def train_length(args):
    """Tokens of the longest row that the model was trained on, or None if unknown."""
    for directory in (Path(args.model).expanduser().resolve(), Path(args.model).expanduser().resolve().parent):
        if args.train_length is None and (directory / "recipe.json").is_file():
            return max(length for _, length in recipe_from_dict(read_json(directory / "recipe.json")).row_length)
    return args.train_length


def held_out_tokens(args, model):
    """The text that is held out of training, as tokens (n,), and the id of the begin-of-text token."""
    bos_id = special_token_id(BEGIN, model.tokenizer, model.config)
    return concat_texts(load_corpus(args.text).held_out, model.tokenizer, bos_id), bos_id


def new_report(args, model, command, **settings):
    """Make the report of a command, with empty rows."""
    text = model.config.text
    return {"command": command, "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": describe_machine(),
            "commit": git_commit(), "model": Path(args.model).expanduser().resolve().name, "backend": args.backend,
            "train_length": train_length(args), "seed": args.seed, "settings": settings,
            "plan": [layer._asdict() for layer in text.layers],
            "temperature": {"temperature": text.attn_temperature, "scale": text.attn_temperature_scale,
                            "floor": text.attn_temperature_floor},
            "rows": []}


def write_report(report, plot, directory):
    """Write the report as JSON and, with matplotlib, as an image that plot(figure, report) draws.  Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    name = report["command"]
    (directory / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    save_figure(directory / f"{name}.png", lambda figure: plot(figure, report))
