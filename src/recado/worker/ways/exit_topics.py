"""The topics of a group into which records leave their partition: made on a thread when they are first needed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import structlog

from recado.errors import KafkaUnreachable, RecadoError
from recado.kafka.abstract import Outlet
from recado.kafka.quiet import Seldom
from recado.outcomes.delay import is_delay_topic
from recado.outcomes.delay_topics import DelayTopics
from recado.outcomes.group_topics import CONFIG, roomy

__all__ = ["ExitTopics"]

log = structlog.get_logger(__name__)

#: Rest before the next try where no broker answers, in seconds, and between two looks for a topic that was created.
AGAIN_S = 1.0
LOOK_S = 0.1


class ExitTopics:
    """Tells how many partitions a group's topic has, and makes it where it is not there. Loop thread only."""

    def __init__(
        self, *, outlet: Callable[[], Outlet], delay_topics: Callable[[], DelayTopics], max_record_bytes: int
    ) -> None:
        self._outlet = outlet
        self._delay_topics = delay_topics
        self._max_record_bytes = max_record_bytes
        self._wanted: dict[str, RecadoError | None] = {}
        self._queue: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._seldom = Seldom()

    def partitions(self, topic: str, source: str) -> int | None:
        """How many it has; None while it is being made, with as many as the topic ``source``. Never blocks.

        Raises why it cannot be made, and forgets that: who asks again lets it be tried again.
        """
        count = self._outlet().topics.partitions(topic)
        if count is not None:
            return count
        if topic in self._wanted:
            if (failure := self._wanted[topic]) is not None:
                del self._wanted[topic]
                raise failure
            return None
        self._wanted[topic] = None
        self._queue.put((topic, source))
        if self._thread is None:
            self._thread = threading.Thread(target=self._make_all, name="recado-exit-topics", daemon=True)
            self._thread.start()
        return None

    def close(self) -> None:
        """Make no more."""
        self._closed.set()
        self._queue.put(None)

    def _make_all(self) -> None:
        while (asked := self._queue.get()) is not None and not self._closed.is_set():
            topic, source = asked
            try:
                if is_delay_topic(topic):
                    self._make_delay(topic, source)
                else:
                    self._make(topic, source)
            except RecadoError as error:
                self._wanted[topic] = error
            except Exception as error:  # the thread makes every other topic, too, and this one when asked again
                log.exception("topic cannot be created", topic=topic)
                self._wanted[topic] = RecadoError(f"creating topic {topic}: {type(error).__name__}: {error}")

    def _make_delay(self, topic: str, source: str) -> None:
        delay_topics = self._delay_topics()
        while not self._closed.is_set() and delay_topics.want(topic, source):
            delay_topics.make()
            try:
                delay_topics.check(topic)
            except KafkaUnreachable as error:
                if self._seldom.now(topic):
                    log.warning("topic cannot be created now", topic=topic, error=str(error), again_s=AGAIN_S)
                self._closed.wait(AGAIN_S)
        self._wanted.pop(topic, None)

    def _make(self, topic: str, source: str) -> None:
        outlet = self._outlet()
        while not self._closed.is_set():
            outlet.topics.refresh()
            count = outlet.topics.partitions(source)
            if outlet.topics.partitions(topic) is not None:
                self._wanted.pop(topic, None)
                return
            try:
                if count is not None:
                    config = roomy(CONFIG, self._max_record_bytes, outlet.clients.takes_bytes(source))
                    if outlet.clients.create_topic(topic, partitions=count, config=config):
                        log.info("topic created", topic=topic, partitions=count)
                time.sleep(LOOK_S)  # a broker says that a topic was created some moments before it tells of it
            except KafkaUnreachable as error:
                if self._seldom.now(topic):
                    log.warning("topic cannot be created now", topic=topic, error=str(error), again_s=AGAIN_S)
                self._closed.wait(AGAIN_S)
