"""torchvision beside a torch without CUDA.

transformers' image processor needs torchvision, whose usual wheel is built for CUDA.  Beside a CPU torch its
compiled operators do not load, and describing one of them to torch (torchvision::nms) then fails the import.
Resizing and padding do not need them, so that one failure is passed over, for the length of the import.
"""
import contextlib

import pytest


def import_torchvision():
    """The module torchvision; skips the test, saying why, where it or what it needs is missing."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    with forgiving(torch):
        return pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=ImportError)


@contextlib.contextmanager
def forgiving(torch):
    """Inside, importing torchvision works beside a torch that was built without CUDA."""
    strict = torch.library.register_fake

    def register_fake(*args, **options):
        register = strict(*args, **options)

        def forgive(function):
            with contextlib.suppress(RuntimeError):     # "operator torchvision::nms does not exist"
                return register(function)
            return function

        return forgive

    torch.library.register_fake = register_fake
    try:
        yield
    finally:
        torch.library.register_fake = strict
