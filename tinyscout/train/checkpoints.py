"""The files of a training: a checkpoint every so many steps, from which it goes on to the same weights.

    runs/name/step-000400/      a checkpoint like any other, in float32, with optimizer.safetensors in it
    runs/name/recipe.json       the recipe
    runs/name/log.csv           a line for every step
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
from tinyscout.config import ScoutConfig
from tinyscout.inputs.tokenizer import Tokenizer
from tinyscout.nn.weights import Scout, build, named_arrays
from tinyscout.train.recipe import Recipe, recipe_from_dict, recipe_to_dict

KEEP_LAST = 2           # checkpoints: if the disk fails while one is written, the other is complete
STEP = re.compile(r"step-(\d{6,})")
OPTIMIZER = "optimizer.safetensors"


def unflatten(config: ScoutConfig, arrays: dict) -> Scout:
    """The tree of weights of a dict by path."""
    return build(config, lambda path, shape: arrays[path])


def flatten(weights: Scout, config: ScoutConfig) -> dict:
    """A dict by path of a tree's own arrays, each matrix (in, out) in memory, as training wants them."""
    arrays = {path: np.ascontiguousarray(w) for path, w in named_arrays(weights)}
    if config.text.tie_embeddings:
        del arrays["text.output"]
    return arrays


def saved_steps(directory: Path | str) -> dict[int, Path]:
    """{step: path} of the complete checkpoints, in order."""
    steps = {int(match[1]): path for path in Path(directory).glob("step-*")
             if (match := STEP.fullmatch(path.name)) and (path / OPTIMIZER).is_file()}
    return dict(sorted(steps.items()))


def save_step(directory: Path | str, step: int, weights: Scout, config: ScoutConfig, tokenizer: Tokenizer,
              state_dict: dict):
    """Write a checkpoint and remove those before the last.

    weights tree, state_dict {name: array} of the optimizer and the adapters
    Raises OSError.  A checkpoint is complete or absent: it is written under another name and then renamed.
    """
    def write_extra(scratch):
        tokenizer.save(scratch)
        save_file({name: np.ascontiguousarray(a) for name, a in state_dict.items()}, scratch / OPTIMIZER)

    unfinished = Path(directory) / ".writing"
    shutil.rmtree(unfinished, ignore_errors=True)       # of a training that was killed while it wrote
    save_checkpoint(unfinished, weights, config, "float32", write_extra=write_extra)
    target = Path(directory) / f"step-{step:06}"
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    for old in list(saved_steps(directory).values())[:-KEEP_LAST]:
        shutil.rmtree(old, ignore_errors=True)


def load_run(path: Path) -> tuple[ScoutConfig, dict, Tokenizer, dict]:
    """What `save_step` wrote: config, weights as a dict by path, tokenizer, state_dict.

    Raises ValueError or OSError.
    """
    config = load_config(path)
    weights = flatten(load_weights(path, config, "float32"), config)
    try:
        state_dict = load_file(path / OPTIMIZER)
    except SafetensorError as error:
        raise ValueError(f"{path / OPTIMIZER} is damaged ({error}): without {path} the run goes on from the "
                         "checkpoint before") from None
    return config, {name: np.array(w) for name, w in weights.items()}, Tokenizer.load(path), state_dict


def open_run(directory: Path | str, recipe: Recipe):
    """Write the recipe into a new run's directory, or compare it with the one that the directory has.

    Raises OSError if the directory cannot be written, ValueError if it holds a run of another recipe.
    """
    directory = Path(directory)
    file = directory / "recipe.json"
    if file.is_file():
        try:
            saved = recipe_to_dict(recipe_from_dict(json.loads(file.read_text(encoding="utf-8"))))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        for name, value in recipe_to_dict(recipe).items():
            if value != saved[name]:
                raise ValueError(f"{directory} was begun with {name} {saved[name]}, not {value}: choose another --out")
        return
    if directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory} is not empty and holds no training: choose another --out")
    with atomic_directory(directory) as scratch:
        (scratch / "recipe.json").write_text(json.dumps(recipe_to_dict(recipe), indent=2) + "\n", encoding="utf-8")
