"""Serving a producer's delivery reports, also those of one that has failed for good."""

from __future__ import annotations

import time
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException

__all__ = ["serve", "serve_all"]

#: Longest wait for one report, in seconds: who waits for all looks at its deadline then.
WAIT_S = 0.5


class Client(Protocol):
    """A producer of confluent_kafka."""

    def __len__(self) -> int: ...

    def poll(self, timeout: float, /) -> int: ...


def serve(client: Client, timeout_s: float) -> KafkaError | None:
    """Serve the reports that are there; wait so long for the first one. Returns the fatal error, once.

    A client that fails for good tells that to no ``error_cb``: ``poll`` raises it between two reports, and serves the
    rest when it is called again. (``flush`` calls for the rest at once, and each report of Python's ends in the error.)
    """
    try:
        client.poll(timeout_s)
    except KafkaException as error:
        failed: KafkaError = error.args[0]
        return failed
    return None


def serve_all(client: Client, timeout_s: float) -> None:
    """Serve until no report is missing. Raises KafkaException for what is fatal, and where it takes longer."""
    deadline = time.monotonic() + timeout_s
    while len(client):
        failed = serve(client, WAIT_S)
        if failed is None and time.monotonic() > deadline:
            failed = KafkaError(KafkaError._TIMED_OUT)
        if failed is not None:
            raise KafkaException(failed)
