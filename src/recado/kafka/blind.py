"""A client that knows no broker any more though Kafka answers others.

A cluster whose brokers have all just come back (a lone broker after a pause) may answer a metadata request with topics
but no brokers. librdkafka then forgets every broker, the bootstrap servers included, and never asks again (seen with
2.16; its issue 5301). Only another client helps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import ClusterMetadata

from recado.errors import RecadoError
from recado.kafka.quiet import Seldom

__all__ = ["Blindness", "Lister"]

log = structlog.get_logger(__name__)

#: How long a client and another one beside it may take to answer, in seconds.
OWN_TIMEOUT_S = 1.0
OTHER_TIMEOUT_S = 3.0

#: Rest between two looks, in seconds: twice as long each time that Kafka answers nobody, up to the longest.
REST_S = 1.0
LONGEST_REST_S = 15.0


class Lister(Protocol):
    """What it asks of a client."""

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata: ...


class Blindness:
    """Finds out whether a client is blind, on a thread of its own. Thread-safe; ``suspect`` never blocks."""

    def __init__(self, other: Callable[[], Lister]) -> None:
        self._other = other
        self._lock = threading.Lock()
        self._is_looking = False
        self._look_at = 0.0
        self._rest_s = REST_S
        self._seldom = Seldom()

    def suspect(self, client: Lister, on_blind: Callable[[], None]) -> None:
        """Look soon, unless it did a moment ago; ``on_blind`` is called, from any thread, if the client is blind."""
        with self._lock:
            if self._is_looking or time.monotonic() < self._look_at:
                return
            self._is_looking = True
        looking = threading.Thread(target=self._look, args=(client, on_blind), name="recado-blindness", daemon=True)
        try:
            looking.start()
        except RuntimeError as error:  # the system has no thread left
            self._cannot_look(error)
            self._end_look()

    def _look(self, client: Lister, on_blind: Callable[[], None]) -> None:
        try:
            sees = _sees(client, OWN_TIMEOUT_S)
            is_blind = not sees and self._others_see() and not _sees(client, OWN_TIMEOUT_S)
            self._rest_s = REST_S if sees or is_blind else min(2 * self._rest_s, LONGEST_REST_S)
            if is_blind:
                on_blind()
        finally:
            self._end_look()

    def _end_look(self) -> None:
        self._look_at = time.monotonic() + self._rest_s
        self._is_looking = False

    def _others_see(self) -> bool:
        try:
            other = self._other()
        except (KafkaException, RecadoError) as error:
            self._cannot_look(error)
            return False
        return _sees(other, OTHER_TIMEOUT_S)

    def _cannot_look(self, error: Exception) -> None:
        if self._seldom.now("cannot look"):
            log.error("no second client can be made to see whether Kafka answers others", error=str(error))


def _sees(client: Lister, timeout_s: float) -> bool:
    """Tell whether a client is told of brokers."""
    try:
        return bool(client.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False
