"""What a training keeps on disk: a checkpoint every so many steps, from which it goes on to the same weights.

    runs/mine/step-000400/      a checkpoint like any other, in float32, with optimizer.safetensors beside it
    runs/mine/recipe.json       the recipe
    runs/mine/log.csv           a line for every step
"""
import json
import re
import shutil
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tinyscout.checkpoint import load_config, load_weights, save_checkpoint
from tinyscout.checkpoint.atomic import atomic_directory
from tinyscout.inputs.tokenizer import Tokenizer
from tinyscout.nn.weights import build, named_arrays
from tinyscout.train.recipe import recipe_to_dict, recipe_from_dict

KEEP_LAST = 2                # checkpoints: should the disk fail while one is written, the other is whole
STEP = re.compile(r"step-(\d{6,})")
OPTIMIZER = "optimizer.safetensors"


def unflatten(config, arrays):
    """The tree of weights that a dict by path is."""
    return build(config, lambda path, shape: arrays[path])


def flatten(weights, config):
    """A dict by path of a tree's own arrays, each matrix (in, out) in memory, as training wants them."""
    arrays = {path: np.ascontiguousarray(w) for path, w in named_arrays(weights)}
    if config.text.tie_embeddings:
        del arrays["text.output"]
    return arrays


def saved_steps(directory):
    """{step: path} of the checkpoints that are whole, in order."""
    found = {int(match[1]): path for path in Path(directory).glob("step-*")
             if (match := STEP.fullmatch(path.name)) and (path / OPTIMIZER).is_file()}
    return dict(sorted(found.items()))


def save_step(directory, step, weights, config, tokenizer, state):
    """Write a checkpoint and remove those before the last.

    weights tree, state {name: array} of the optimizer and the adapters
    Raises OSError.  A checkpoint comes whole or not at all: it is written aside and then given its name.
    """
    def beside(scratch):
        tokenizer.save(scratch)
        save_file({name: np.ascontiguousarray(a) for name, a in state.items()}, scratch / OPTIMIZER)

    aside = Path(directory) / ".writing"
    shutil.rmtree(aside, ignore_errors=True)            # of a training that was killed here
    save_checkpoint(aside, weights, config, "float32", extra=beside)
    target = Path(directory) / f"step-{step:06}"
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    for old in list(saved_steps(directory).values())[:-KEEP_LAST]:
        shutil.rmtree(old, ignore_errors=True)


def load_run(path):
    """What `save_step` wrote: config, weights as a dict by path, tokenizer, state.  Raises ValueError or OSError."""
    config = load_config(path)
    weights = flatten(load_weights(path, config, "float32"), config)
    try:
        state = load_file(path / OPTIMIZER)
    except SafetensorError as error:
        raise ValueError(f"{path / OPTIMIZER} is damaged ({error}): without {path} the run goes on from the "
                         "checkpoint before") from None
    return config, {name: np.array(w) for name, w in weights.items()}, Tokenizer.load(path), state


def open_run(directory, recipe):
    """Write the recipe into a new run's directory, or hold it against the one that is there.

    Raises OSError where the directory cannot be written, ValueError where it holds a run of another recipe.
    """
    directory = Path(directory)
    file = directory / "recipe.json"
    if file.is_file():
        try:
            there = recipe_from_dict(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        ours, theirs = recipe_to_dict(recipe), recipe_to_dict(there)
        if changed := [name for name in ours if ours[name] != theirs[name]]:
            name = changed[0]
            raise ValueError(f"{directory} was begun with {name} {theirs[name]}, not {ours[name]}: "
                             "choose another --out")
        return
    if directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory} is not empty and holds no training: choose another --out")
    with atomic_directory(directory) as scratch:
        (scratch / "recipe.json").write_text(json.dumps(recipe_to_dict(recipe), indent=2) + "\n", encoding="utf-8")
