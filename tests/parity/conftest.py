"""transformers imports torchvision where there is one: here, once, in the way that works beside a CPU torch."""
from contextlib import suppress

from .torchvision_on_cpu import forgiving

with suppress(ImportError):
    import torch

    with forgiving(torch):
        import torchvision  # noqa: F401
