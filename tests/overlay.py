"""A backend for a test: another one with a single name replaced."""
from types import ModuleType

from tinyscout import reference


def overlay(operation, function, base=reference):
    module = ModuleType("overlay")
    vars(module).update({**{name: getattr(base, name) for name in reference.__all__}, operation: function})
    return module
