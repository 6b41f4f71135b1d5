"""Tells a gateway that it is in the child of a fork, for as long as it is open."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["ForkHook"]


class ForkHook:
    """Calls ``forget`` in the child of every fork until ``end``.

    A hook cannot be taken back from the interpreter. This one is small, and lets a closed gateway go.
    """

    def __init__(self, forget: Callable[[], object]) -> None:
        self._forget: Callable[[], object] | None = forget
        #: What children have of their parents', as ``forget`` returned it; kept, as no client ends without its threads.
        self._inherited: list[object] = []
        os.register_at_fork(after_in_child=self._in_child)

    def end(self) -> None:
        """Call it no more."""
        self._forget = None

    def _in_child(self) -> None:
        if self._forget is not None:
            self._inherited.append(self._forget())
