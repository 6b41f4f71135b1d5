"""The feed: Kafka's own VerifiableProducer, which says of each record whether the brokers took it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable

from recado.errors import TortureBroken
from recado.supervisor import Supervisor
from recado.torture.programs import Surroundings

__all__ = ["Feed"]

#: Keys: few enough that a key's records follow one another closely.
KEYS = 40

#: How long it may take to end after SIGTERM, in seconds: it waits for its last records.
END_S = 40.0


class Feed:
    """Feeds topics until it is stopped. ``acked`` holds every place that a broker confirmed."""

    def __init__(self, surroundings: Surroundings, topics: Iterable[str], *, rate: float) -> None:
        topics = list(topics)
        share = max(1, int(rate / len(topics)))
        self.acked: set[tuple[str, int, int]] = set()
        self._others: list[str] = []
        self._lock = threading.Lock()
        programs = []
        for topic in topics:
            arguments = ["--topic", topic, "--acks", "-1", "--throughput", str(share), "--repeating-keys", str(KEYS)]
            command = ["kafka", "--config", "{config}", "verifiable-producer", *arguments]
            programs.append(surroundings.program(f"feed-{topic}", *command))
        self._running = Supervisor(programs, on_line=self._take, drain_s=END_S)

    def start(self) -> None:
        """Begin to feed."""
        self._running.start()

    def check(self) -> None:
        """Raise TortureBroken where it ended by itself."""
        if self._running.wait(0) is not None:
            raise TortureBroken("The feed ended by itself: " + " ".join(self._others[-5:]))

    def stop(self) -> None:
        """End it with SIGTERM; blocks until its last record is confirmed or given up."""
        self._running.end(hurry=threading.Event())

    def _take(self, _: str, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = {}
        with self._lock:
            if said.get("name") == "producer_send_success":
                self.acked.add((said["topic"], said["partition"], said["offset"]))
            elif said.get("name") != "startup_complete":
                self._others = [*self._others[-20:], line]
