"""The fast backends: `c` and `cuda` are the reference with some functions replaced; the other modules support them.

A backend is a module with every name of `tinyscout.reference.__all__`.  It may have optional members, which callers
look up with `getattr`: `Backend` lists them.
"""
from collections.abc import Callable
from typing import Any, Protocol


class Backend(Protocol):
    """The optional members of a backend.  A backend without any of them is complete; the reference is one."""

    device_note: str | None
    """A line about this machine for the user, such as that it has no GPU: `get_backend` prints it."""

    def decode(self, x: Any, w: Any, config: Any, cache: Any, iterate: Callable) -> Any:
        """All layers and the last norm for one token, in one call instead of operation by operation.

        x (1, 1, D) embedded token, w Text, config TextConfig, cache Cache or None, iterate as in `text_model`
        ->  (1, 1, D), or None if the backend does not support it: `text_model` then runs operation by operation

        It writes the token's keys and values to the layers of the cache; `text_model` advances the cache.  It keeps
        what it prepares for one model and one cache in `cache.backend_state`, which is None at first and is for the
        backend only.  It must detect a call with other weights than those it prepared.
        """

    def versions(self) -> dict[str, dict[str, Callable]]:
        """The numbered kernels, from the formula to the fastest, which docs and benchmarks compare.

        ->  {operation: {name: a function with the operation's signature}}
        """
