"""A durable HTTP front door for Kafka, and a Python worker that never loses a message."""

from __future__ import annotations

from importlib import import_module

#: As type checkers know it. The module of that name is left to them: loading it takes longer than all the rest here,
#: and Ctrl-C meanwhile would be a traceback.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flask import Flask

    from recado.done_rows import AlreadyDone, offset_table
    from recado.gateway.api import blueprint, create_app
    from recado.gateway.sender import Receipt, Sender
    from recado.outcomes import Backoff, Breaker, Reject, Retry
    from recado.record import Record
    from recado.worker import Worker

__all__ = [
    "AlreadyDone",
    "Backoff",
    "Breaker",
    "Receipt",
    "Record",
    "Reject",
    "Retry",
    "Sender",
    "Worker",
    "blueprint",
    "create_app",
    "offset_table",
    "serve",
]


#: Where each name lives. It is loaded when it is first asked for: a worker needs no Flask, a command hardly anything.
_HOMES = {
    "AlreadyDone": "recado.done_rows",
    "Backoff": "recado.outcomes",
    "Breaker": "recado.outcomes",
    "Receipt": "recado.gateway.sender",
    "Record": "recado.record",
    "Reject": "recado.outcomes",
    "Retry": "recado.outcomes",
    "Sender": "recado.gateway.sender",
    "Worker": "recado.worker",
    "blueprint": "recado.gateway.api",
    "create_app": "recado.gateway.api",
    "offset_table": "recado.done_rows",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def serve(app: Flask | Callable[[], Flask]) -> None:
    """Serve a Flask app that has recado's blueprint, until SIGTERM or Ctrl-C; then exit the process (0, 2 or 3).

    Given a function that makes the app, what is wrong with the settings is said in a line and exits with 2.
    """
    from recado.cli.gateway import serve as run  # the command line wires it; a library user never needs it

    run(app)
