"""tinyscout: Llama 4 Scout as a small readable codebase."""
__version__ = "0.1.0"
