"""Training: recipes, lessons, steps, and what is kept of them."""
from tinyscout.train.loop import train
from tinyscout.train.recipe import PRESETS, Recipe

__all__ = ["PRESETS", "Recipe", "train"]
