"""Mistakes that people make with this model, each as a function that puts it into a backend, config, weights or images.

`MISTAKES` has them by name.  One that concerns operations can be compared with a backend under test, call by call:
`mistake.apply(reference).router` is a router with that mistake.  docs/mistakes.py measures all on one small model.
"""
from tinyscout.laws.mistakes import image, text  # noqa: F401  they fill MISTAKES
from tinyscout.laws.mistakes.registry import MISTAKES, Mistake, Setup

__all__ = ["MISTAKES", "Mistake", "Setup"]
