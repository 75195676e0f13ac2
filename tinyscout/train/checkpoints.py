"""The files of a training run.  A run that is interrupted and resumed ends with the same weights as one that is not.

    runs/name/step-000400/      a complete checkpoint in float32, with optimizer.safetensors
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

KEEP_LAST = 2           # checkpoints to keep: if the disk fails while one is written, the other is complete
STEP = re.compile(r"step-(\d{6,})")
OPTIMIZER = "optimizer.safetensors"


def unflatten(config: ScoutConfig, arrays: dict) -> Scout:
    """Convert a dict by path to a tree of weights."""
    return build(config, lambda path, shape: arrays[path])


def flatten(weights: Scout, config: ScoutConfig) -> dict:
    """Convert a tree of weights to a dict by path, with every matrix contiguous as (in, out), as training needs it."""
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
    """Write a checkpoint and remove old ones, except the last KEEP_LAST.

    weights tree, state_dict {name: array} of the optimizer and the adapters
    Raises OSError.  A checkpoint is complete or absent: it is written under another name and then renamed.
    """
    def write_extra(scratch):
        tokenizer.save(scratch)
        save_file({name: np.ascontiguousarray(a) for name, a in state_dict.items()}, scratch / OPTIMIZER)

    unfinished = Path(directory) / ".writing"
    shutil.rmtree(unfinished, ignore_errors=True)       # left by a run that was killed while writing
    save_checkpoint(unfinished, weights, config, "float32", write_extra=write_extra)
    target = Path(directory) / f"step-{step:06}"
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    for old in list(saved_steps(directory).values())[:-KEEP_LAST]:
        shutil.rmtree(old, ignore_errors=True)


def load_run(path: Path) -> tuple[ScoutConfig, dict, Tokenizer, dict]:
    """Load the files of `save_step`: config, weights as a dict by path, tokenizer, state_dict.

    Raises ValueError or OSError.
    """
    config = load_config(path)
    weights = flatten(load_weights(path, config, "float32"), config)
    try:
        state_dict = load_file(path / OPTIMIZER)
    except SafetensorError as error:
        raise ValueError(f"{path / OPTIMIZER} is damaged ({error}): delete {path} to resume from the previous "
                         "checkpoint") from None
    return config, {name: np.array(w) for name, w in weights.items()}, Tokenizer.load(path), state_dict


def open_run(directory: Path | str, recipe: Recipe):
    """Start a run: write recipe.json, or check that an existing one is identical.

    Raises OSError if the directory cannot be written, ValueError if it contains a run with another recipe.
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
                raise ValueError(f"{directory} was started with {name} {saved[name]}, not {value}: "
                                 "choose another --out")
        return
    if directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory} is not empty and is not a training run: choose another --out")
    with atomic_directory(directory) as scratch:
        (scratch / "recipe.json").write_text(json.dumps(recipe_to_dict(recipe), indent=2) + "\n", encoding="utf-8")
