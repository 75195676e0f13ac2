"""What a mistake is, and the decorators that register one.

The name is made of the chapter and the function: `one_plus_weight` of "norm" is norm/one-plus-weight.  The docstring is
its sentence, which can follow "the same result as when ...".
"""
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from tinyscout.laws import overlay


class Setup(NamedTuple):
    """What the logits of a prompt depend on."""

    ops: Any                    # a backend
    config: Any                 # ScoutConfig
    weights: Any                # Scout
    tokens: Any                 # (T,) int
    images: list                # arrays (tiles, C, h, w)


class Mistake(NamedTuple):
    """One mistake, at one place."""

    name: str                   # chapter/slug
    sentence: str
    concerns: tuple[str, ...]   # operations of the reference, fields of the config, or weights
    field: str                  # of Setup: "ops", "config", "weights" or "images"
    apply: Callable             # that field's value  ->  the same with the mistake
    is_harmless: bool = False   # True if only rounding changes

    def plant(self, setup: Setup) -> Setup:
        """The setup with this mistake."""
        return setup._replace(**{self.field: self.apply(getattr(setup, self.field))})


MISTAKES: dict[str, Mistake] = {}


def register(chapter, f, concerns, field, apply, is_harmless=False):
    """Add a mistake to MISTAKES, under the name of its function."""
    name = f"{chapter}/{f.__name__.replace('_', '-')}"
    assert name not in MISTAKES, f"{name} is there twice"
    sentence = " ".join(f.__doc__.split())
    MISTAKES[name] = Mistake(name, sentence, concerns, field, apply, is_harmless)
    return f


def in_operation(chapter, operation):
    """Decorate f(ops, *arguments of the operation), which computes with the mistake; ops is the correct backend."""
    def decorate(f):
        return register(chapter, f, (operation,), "ops", lambda ops: overlay(ops, **{operation: partial(f, ops)}))
    return decorate


def in_operations(chapter, *operations, is_harmless=False):
    """Decorate f(ops), which returns several operations with the mistake as {name: function}."""
    def decorate(f):
        return register(chapter, f, operations, "ops", lambda ops: overlay(ops, **f(ops)), is_harmless)
    return decorate


def in_config(chapter, field):
    """Decorate f(text), which returns what a field of the TextConfig is with the mistake."""
    def decorate(f):
        return register(chapter, f, (field,), "config",
                        lambda config: replace(config, text=replace(config.text, **{field: f(config.text)})))
    return decorate


def in_weights(chapter, *paths):
    """Decorate f(weights), which returns the tree with the mistake; paths name the weights that change."""
    return lambda f: register(chapter, f, paths, "weights", f)


def in_images(chapter):
    """Decorate f(images), which returns a prompt's images with the mistake."""
    return lambda f: register(chapter, f, ("images",), "images", f)
