"""What a handler may not return."""

from __future__ import annotations

import inspect
from typing import Any

from recado.errors import HandlerError

__all__ = ["refuse"]


def refuse(result: Any) -> None:
    """A coroutine that nobody awaits has done nothing: never take it for success."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise HandlerError("it returned an awaitable that nobody would await; declare it with `async def`")
