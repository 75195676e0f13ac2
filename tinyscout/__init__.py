"""tinyscout: Llama 4 Scout as a small readable codebase."""
from tinyscout.model import Model, load, random_model, save

__version__ = "0.1.0"
__all__ = ["Model", "load", "random_model", "save"]
