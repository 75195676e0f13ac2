"""How it gets fast: `c` and `cuda` are the reference with some of its names replaced; the other modules serve them.

A backend is a module with every name of `tinyscout.reference.__all__`.  It may have some more, which its users look for
with `getattr`: `Backend` lists them.
"""
from collections.abc import Callable
from typing import Any, Protocol


class Backend(Protocol):
    """The optional members of a backend.  One that has none of them is complete: the reference is such a backend."""

    device_note: str | None
    """A line about this machine that the user should see, such as that there is no GPU: `get_backend` prints it."""

    def decode(self, x: Any, w: Any, config: Any, cache: Any, iterate: Callable) -> Any:
        """All layers and the last norm for one token, in one call instead of operation by operation.

        x (1, 1, D) embedded token, w Text, config TextConfig, cache Cache or None, iterate as in `text_model`
        ->  (1, 1, D), or None if the backend cannot, and `text_model` goes on operation by operation

        It writes the token's keys and values to the layers of the cache; `text_model` advances the cache.  What it
        prepares for one model and one cache it keeps in `cache.backend_state`, which is None at first and which nobody
        else reads.  It must notice by itself that a call brings other weights than those that it prepared.
        """

    def versions(self) -> dict[str, dict[str, Callable]]:
        """The numbered kernels, from the formula to the fastest, which docs and benchmarks compare.

        ->  {operation: {name: a function of the operation's own signature}}
        """
