"""A durable HTTP front door for Kafka, and a Python worker that never loses a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recado.done_rows import AlreadyDone, offset_table
from recado.gateway.api import blueprint, create_app
from recado.gateway.sender import Receipt, Sender
from recado.outcomes import Backoff, Breaker, Reject, Retry
from recado.record import Record
from recado.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

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


def serve(app: Flask | Callable[[], Flask]) -> None:
    """Serve a Flask app that has recado's blueprint, until SIGTERM or Ctrl-C; then exit the process (0, 2 or 3).

    Given a function that makes the app, what is wrong with the settings is said in a line and exits with 2.
    """
    from recado.cli.gateway import serve as run  # the command line wires it; a library user never needs it

    run(app)
