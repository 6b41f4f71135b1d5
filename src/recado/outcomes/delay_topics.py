"""The delay topics in Kafka: made when they are first needed, emptied of what has moved on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from recado.errors import KafkaUnreachable, RecadoError
from recado.kafka.abstract import Clients, Topics
from recado.outcomes.delay import LEVELS, levels_up_to
from recado.outcomes.group_topics import roomy

__all__ = ["DelayTopics"]

log = structlog.get_logger(__name__)

#: Partitions of a delay topic: one gateway's line outruns several of them, so they only decide how many gateway
#: processes can share one level, and 9 levels with 3 each keep 27 processes busy.
PARTITIONS = 3

#: What Kafka is told of a delay topic. Time must never delete what has not moved on, however long no gateway runs: the
#: line deletes what lies behind its committed offsets, as Kafka Streams does with its repartition topics. Segments of
#: 64 MB, because only whole ones are given back.
CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.bytes": "67108864",
    "message.timestamp.type": "CreateTime",
}

#: How long a topic that was created may take to be told of, in seconds, and the rest between two looks.
KNOWN_S = 5.0
KNOWN_LOOK_S = 0.02


class DelayTopics:
    """Knows which delay topics there are and makes those that are needed. Thread-safe; only ``make`` blocks."""

    def __init__(
        self,
        *,
        clients: Clients,
        topics: Topics,
        max_record_bytes: int,
        on_made: Callable[[], None] = lambda: None,
    ) -> None:
        self._clients = clients
        self._topics = topics
        self._max_record_bytes = max_record_bytes
        self._on_made = on_made
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._sources: set[str] = set()
        self._failure: RecadoError | None = None

    def there(self) -> list[str]:
        """The delay topics that the catalog knows."""
        return [level.topic for level in LEVELS if self._topics.partitions(level.topic) is not None]

    def want(self, topic: str, source: str = "") -> bool:
        """Ask for a delay topic and those below it; True when ``make`` has to be called first.

        They will take what a plain topic takes, and what ``source`` does; all that come later share them.
        """
        if self._topics.partitions(topic) is not None:
            return False
        self._sources.add(source)
        self._wanted.add(topic)
        return True

    def make(self) -> None:
        """Create what was asked for. Blocks for some seconds at most; ``check`` tells what came of it."""
        with self._lock:
            if not self._wanted:
                return
            wanted = sorted(self._wanted)
            self._failure = None
            try:
                largest = [self._clients.takes_bytes(source) for source in sorted({"", *self._sources})]
                config = roomy(CONFIG, self._max_record_bytes, *largest)
                for topic in wanted:
                    self._make_ladder(topic, config)
            except RecadoError as error:
                self._failure = error
                log.warning("delay topics cannot be created", topics=" ".join(wanted), error=str(error))
            self._wanted.difference_update(wanted)
            self._wait_for(wanted)
        self._on_made()

    def check(self, topic: str) -> None:
        """Raise why a delay topic is not there: NotAllowed, KafkaUnreachable."""
        if self._topics.partitions(topic) is None:
            waiting = KafkaUnreachable(f"topic {topic} is being created; nothing was accepted. Send again in a moment.")
            raise self._failure or waiting

    def _wait_for(self, wanted: list[str]) -> None:
        """A broker answers that a topic was created some moments before it tells of it."""
        deadline = time.monotonic() + KNOWN_S
        while self._topics.refresh() and any(self._topics.partitions(topic) is None for topic in wanted):
            if self._failure is not None or time.monotonic() > deadline:
                return
            time.sleep(KNOWN_LOOK_S)

    def _make_ladder(self, topic: str, config: Mapping[str, str]) -> None:
        for level in levels_up_to(topic):
            if self._topics.partitions(level.topic) is None and self._clients.create_topic(
                level.topic, partitions=PARTITIONS, config=config
            ):
                log.info("delay topic created", topic=level.topic, partitions=PARTITIONS)
