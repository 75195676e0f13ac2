"""Training: recipes, batches, steps, checkpoints and the log."""
from tinyscout.train.loop import train
from tinyscout.train.recipe import PRESETS, Recipe

__all__ = ["PRESETS", "Recipe", "train"]
