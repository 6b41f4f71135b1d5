"""The catalog of topics: refreshed in the background, so that no request waits for metadata."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

from recado.kafka.blind import Lister

__all__ = ["ClusterTopics"]

#: Rest between two refreshes while the cluster answers, in seconds; a new topic is asked for at once.
REFRESH_S = 10.0

#: Rest between two tries while it does not: the first answer after an outage should come soon.
RETRY_S = 0.5

#: Longest wait for the cluster's answer, in seconds.
METADATA_TIMEOUT_S = 2.0

#: The same while reports are overdue: a broker that hangs should be noticed soon.
SUSPECT_TIMEOUT_S = 0.75


class ClusterTopics:
    """Knows the topics of a real cluster (the contract is ``abstract.Topics``).

    ``on_silence`` is called, from any thread, when the client gets no answer: perhaps only the client is to blame.
    """

    def __init__(self, client: Callable[[], Lister], *, on_silence: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._on_silence = on_silence
        # Set while a client's word is that no broker answers.
        self._unreachable = threading.Event()
        self._partitions: dict[str, int] = {}
        self._reachable = False
        self._closed = False
        self._suspected = False
        self._look = threading.Event()
        self._asking = threading.Lock()
        self._answered_at = float("-inf")
        self._thread = threading.Thread(target=self._keep_fresh, name="recado-topics", daemon=True)
        self._thread.start()

    def partitions(self, topic: str) -> int | None:
        """The topic's partition count as last seen, or None."""
        return self._partitions.get(topic)

    @property
    def reachable(self) -> bool:
        """Whether the cluster answered last time."""
        return self._reachable and not self._unreachable.is_set()

    @property
    def is_blank(self) -> bool:
        """Whether no topic is known, and the cluster cannot be asked."""
        return not (self._partitions or self.reachable)

    def names(self) -> list[str]:
        """Every topic last seen, sorted."""
        return sorted(self._partitions)

    def refresh(self) -> bool:
        """Ask the cluster now. Callers that come while one asks share its answer."""
        called_at = time.monotonic()
        with self._asking:
            if self._answered_at < called_at:
                self._ask()
            return self.reachable

    def suspect(self) -> None:
        """Look soon, and do not wait long for the answer."""
        self._suspected = True
        self._look.set()

    def report_unreachable(self) -> None:
        """A client says that no broker answers: believed until a refresh succeeds. From any thread."""
        self._unreachable.set()
        self._look.set()

    def close(self) -> None:
        """Ask the cluster no more (its thread ends within three seconds); what is known stays known."""
        self._closed = True
        self._look.set()

    def _ask(self) -> None:
        if self._closed:
            return
        asked_at = time.monotonic()
        timeout_s = SUSPECT_TIMEOUT_S if self._suspected else METADATA_TIMEOUT_S
        self._suspected = False
        try:
            found = self._client().list_topics(timeout=timeout_s)
        except KafkaException:
            found = None
        # Without brokers: they have all just come back, and their cluster does not count on them yet.
        if found is None or not found.brokers:
            self._reachable = False
            self._on_silence()
            return
        self._partitions = {name: len(topic.partitions) for name, topic in found.topics.items() if topic.error is None}
        self._answered_at = asked_at
        self._reachable = True
        self._unreachable.clear()

    def _keep_fresh(self) -> None:
        while not self._closed:
            self.refresh()
            if self.reachable:
                self._look.wait(REFRESH_S)
                self._look.clear()
            else:
                time.sleep(RETRY_S)
