"""Topic ids: a topic that was deleted and made anew has the same name, but another id (Kafka 2.8 and later)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from recado.kafka.quiet import Seldom, quiet_logger

__all__ = ["TopicIds", "id_of", "stamped", "unstamped"]

log = structlog.get_logger(__name__)

#: Rest between two questions, in seconds: each costs a few milliseconds and delays how soon a new log is noticed.
ASK_EVERY_S = 2.0

#: The same when something looks like a new log, in seconds.
HURRY_S = 0.1

#: How long the cluster may take to answer one, in seconds.
ANSWER_S = 3.0

#: A client that got no answer for so long is replaced, in seconds.
SILENT_S = 30.0

#: What a broker before 2.8 tells: an id of zeros.
NONE = "A" * 22

#: Begins the metadata of a committed offset; behind it comes the id, a semicolon, and what the caller stored.
MARK = "topic="


#: Answers to the question for a topic's id, though not with one.
_TOLD = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.UNSUPPORTED_VERSION,
}


class TopicIds:
    """Knows the ids of the topics that are read. One thread only; asks on a connection of its own."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._client = self._connected()
        #: When the last answer came, or the client was replaced for want of one.
        self._heard_at = time.monotonic()
        self._known: dict[str, str] = {}
        self._asked: dict[str, Future[TopicDescription]] = {}
        self._next_at = self._asking_since = 0.0
        self._seldom = Seldom()
        #: When the question was asked that ``changed`` answered last.
        self.asked_at = float("-inf")

    def _connected(self) -> AdminClient:
        return AdminClient(dict(self._config), logger=quiet_logger())

    def of(self, topic: str) -> str:
        """The id of a topic as it was when ``learn`` or ``begin`` noted it; empty when unknown."""
        return self._known.get(topic, "")

    def learn(self, topics: Iterable[str], *, keep: Iterable[str] = ()) -> dict[str, str]:
        """Ask now, and note the answers, except for topics in ``keep`` that are known; blocks for ``ANSWER_S``.

        A topic that may not be described, or is not there, has the id "" in the answer; one of which nobody told
        anything is left out, and the next question goes out by a new client: the broker that was asked may hang.
        """
        wanted, deadline = sorted(set(topics)), time.monotonic() + ANSWER_S
        found: dict[str, str] = {}
        silent = False
        for topic, future in self._ask(wanted).items():
            try:
                found[topic] = id_of(future.result(max(0.0, deadline - time.monotonic())))
            except (KafkaException, TimeoutError) as error:
                if isinstance(error, KafkaException) and error.args[0].code() in _TOLD:
                    found[topic] = ""
                else:
                    silent = True
                if self._seldom.now(topic):
                    log.warning(
                        "topic id unknown: should it be made anew, that goes unnoticed", topic=topic, error=error
                    )
        if silent:
            self._heard_at, self._client, self._asked = time.monotonic(), self._connected(), {}
        for topic in wanted:
            if topic not in keep or not self.of(topic):
                self._known[topic] = found.get(topic, "")
        return found

    def hurry(self) -> None:
        """Something looks like a new log: ask as soon as may be."""
        self._next_at = min(self._next_at, time.monotonic() + HURRY_S)

    def changed(self, topics: Iterable[str]) -> dict[str, str] | None:
        """The new ids of topics that were made anew; None when there is no answer just now. Never blocks."""
        if self._asked:
            return self._collect() if all(future.done() for future in self._asked.values()) else None
        now = time.monotonic()
        held = sorted(topics)
        if now >= self._next_at and held:
            self._next_at = now + ASK_EVERY_S
            self._asking_since = now
            self._asked = self._ask(held)
        return None

    def begin(self, topic: str, new_id: str) -> None:
        """Note that the topic of this id is the one that is read from now on."""
        self._known[topic] = new_id

    def close(self) -> None:
        """Ask no more: the client ends with its last reference."""
        del self._client

    def _collect(self) -> dict[str, str]:
        asked, self._asked, self.asked_at = self._asked, {}, self._asking_since
        changed = {}
        if any(future.exception() is None for future in asked.values()):
            self._heard_at = time.monotonic()
        for topic, future in asked.items():
            if future.exception() is None:  # deleted, or nobody answers: the next question tells
                found = id_of(future.result())
                if found and self.of(topic) not in ("", found):
                    changed[topic] = found
                elif found and topic in self._known:
                    # Unknown until now: without it no commit of this stay would say of which topic its map is.
                    self._known[topic] = found
        return changed

    def _ask(self, topics: list[str]) -> dict[str, Future[TopicDescription]]:
        if not topics:
            return {}
        if time.monotonic() - self._heard_at > SILENT_S:  # it may know no broker any more (see ``blind``)
            self._heard_at, self._client = time.monotonic(), self._connected()
        return self._client.describe_topics(TopicCollection(topics), request_timeout=ANSWER_S)


def stamped(topic_id: str, metadata: str) -> str:
    """The metadata of an offset in the topic of this id."""
    return f"{MARK}{topic_id};{metadata}" if topic_id else metadata


def unstamped(metadata: str) -> tuple[str, str]:
    """The topic id (empty: not told) and the caller's metadata."""
    head, separator, rest = metadata.partition(";")
    return (head.removeprefix(MARK), rest) if separator and head.startswith(MARK) else ("", metadata)


def id_of(description: TopicDescription) -> str:
    """A topic's id; empty where the broker has none."""
    found = str(description.topic_id)
    return "" if found == NONE else found
