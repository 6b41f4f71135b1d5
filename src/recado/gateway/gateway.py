"""One gateway in one process: its settings, its connection to Kafka, and the answers that need no body."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import msgspec

from recado.gateway.answer import Answer
from recado.gateway.envelope import invalid
from recado.gateway.intake import Intake
from recado.gateway.parse import parse_query
from recado.kafka.abstract import Clients, Producer, Topics
from recado.kafka.clients import ClusterClients
from recado.outcomes.delay_service import DelayService
from recado.settings import Settings

__all__ = ["LEAST_REFRESH_S", "Connect", "Gateway", "MakeClients", "flush_answer"]

#: How a gateway comes to Kafka; tests pass the in-memory twin.
Connect = Callable[[Settings], tuple[Producer, Topics]]

#: How its delay line makes clients of its own, likewise.
MakeClients = Callable[[Settings], Clients]

#: Default and longest wait of ``POST /flush``, in seconds.
FLUSH_S = 30.0
MAX_FLUSH_S = 3600.0

#: A request that waits for nothing still gives an unknown topic so much time to be found, in seconds.
LEAST_REFRESH_S = 0.5

#: What the delay line may take to leave its group though no time is left, in seconds: others wait for its partitions.
LEAST_LEAVE_S = 2.0

_JSON = [(b"content-type", b"application/json")]


class Gateway:
    """Shared by the Flask routes and the ASGI front. Thread-safe; connects on first use, anew after a fork."""

    def __init__(self, settings: Settings, *, connect: Connect, clients: MakeClients = ClusterClients) -> None:
        self.settings = settings
        self._connect = connect
        self._clients = clients
        self._delays: DelayService | None = None
        self._lock = threading.Lock()
        self._intake: Intake | None = None
        # A producer's threads do not survive a fork: the child connects anew.
        os.register_at_fork(after_in_child=self._forget)
        #: Set by a shutdown: ready turns false, so that a load balancer sends nothing new.
        self.draining = False

    @property
    def intake(self) -> Intake:
        """The intake of this process. Blocks on first use until Kafka has answered, or for 2 s."""
        return self._intake or self._connected()

    def _connected(self) -> Intake:
        with self._lock:
            if self._intake is None:
                producer, topics = self._connect(self.settings)
                self._delays = DelayService(
                    clients=self._clients(self.settings),
                    catalog=topics,
                    max_record_bytes=self.settings.max_record_bytes,
                )
                self._delays.start()
                self._intake = Intake(producer=producer, topics=topics, delays=self._delays.topics)
            return self._intake

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._intake = self._delays = None

    def live(self) -> Answer:
        """The process answers: that is all that live means."""
        return Answer(200, _JSON, b'{"status":"live"}')

    def ready(self) -> Answer:
        """Whether requests should come here, and if not, why."""
        reasons = []
        if self.draining:
            reasons.append({"code": "draining", "detail": "This gateway is shutting down."})
        if not self.intake.topics.reachable:
            detail = f"No Kafka broker answers at {self.settings.bootstrap_servers}."
            reasons.append({"code": "kafka-unreachable", "detail": detail})
        body = msgspec.json.encode({"status": "not ready" if reasons else "ready", "reasons": reasons})
        return Answer(503 if reasons else 200, _JSON, body)

    def flush_timeout_s(self, query: str) -> float:
        """Read ``?timeout=``. Raises Problem."""
        text = parse_query(query, frozenset({"timeout"})).get("timeout")
        if text is None:
            return FLUSH_S
        try:
            timeout_s = float(text)
        except ValueError:
            raise invalid("timeout", f"{text[:60]!r} is not a number of seconds.") from None
        if not 0 <= timeout_s <= MAX_FLUSH_S:
            raise invalid("timeout", f"{text[:60]} must be 0 to {MAX_FLUSH_S:.0f} seconds.")
        return timeout_s

    def refresh_topics(self, wait_s: float) -> None:
        """Ask Kafka for its topics, and wait ``wait_s`` at most (a moment at least) for its answer."""
        asking = threading.Thread(target=self.intake.refresh, name="recado-refresh", daemon=True)
        asking.start()
        asking.join(wait_s or LEAST_REFRESH_S)

    def close(self, timeout_s: float) -> int:
        """Wait for what is outstanding; return how many records were given up unconfirmed."""
        if self._intake is None or self._delays is None:
            return 0
        # Both end at the same time: the line only moves what Kafka has already, so neither waits for the other.
        self._delays.stop()
        deadline = time.monotonic() + timeout_s
        left = self._intake.close(timeout_s)
        self._delays.join(max(LEAST_LEAVE_S, deadline - time.monotonic()))
        return left


def flush_answer(delivered: int, pending: int) -> Answer:
    """What ``POST /flush`` says."""
    if not pending:
        return Answer(200, _JSON, msgspec.json.encode({"status": "flushed", "delivered": delivered, "pending": 0}))
    body = {
        "type": "about:blank",
        "title": "Not flushed in time",
        "status": 504,
        "code": "flush-timeout",
        "detail": f"{pending} records still wait for Kafka's confirmation.",
        "delivered": delivered,
        "pending": pending,
    }
    return Answer(504, [(b"content-type", b"application/problem+json")], msgspec.json.encode(body))
