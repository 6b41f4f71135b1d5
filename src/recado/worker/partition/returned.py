"""A record that comes back for another attempt: where it stands in the retry topic, and what it was first."""

from __future__ import annotations

from typing import NamedTuple

from recado.kafka.abstract import Message
from recado.outcomes.history import History, history_of
from recado.record import TopicPartition

__all__ = ["Origin", "Returned", "origin_of", "returned"]


class Origin(NamedTuple):
    """Where a record stood first."""

    topic: str
    partition: int
    offset: int
    #: Its timestamp there in milliseconds; -1 where it has none.
    timestamp_ms: int


class Returned:
    """A consumed record of a retry topic, with its history. It is a ``Message``: its offset is the retry topic's."""

    __slots__ = (
        "_message",
        "headers",
        "history",
        "key",
        "leader_epoch",
        "offset",
        "partition",
        "timestamp",
        "topic",
        "value",
    )

    def __init__(self, message: Message, history: History) -> None:
        self._message = message
        self.history = history
        self.topic, self.partition, self.offset = message.topic, message.partition, message.offset
        self.key, self.value, self.headers = message.key, message.value, message.headers
        self.leader_epoch, self.timestamp = message.leader_epoch, message.timestamp

    def __len__(self) -> int:
        return len(self._message)


def returned(message: Message, group: str, home: TopicPartition) -> Returned | None:
    """Read a record of a retry topic; None where another group's or topic's stands in the topic of the same name.

    One without a history was put there by hand: it stands for itself.
    """
    history = history_of(message)
    if history is None:
        kind, timestamp_ms = message.timestamp()
        history = History(group, home.topic, home.partition, message.offset(), timestamp_ms if kind else -1)
    elif (history.group, history.topic) != (group, home.topic):
        return None
    return Returned(message, history)


def origin_of(message: Message) -> Origin:
    """Where a record stood first, whichever way it came: what a handler sees as its place."""
    if isinstance(message, Returned):
        history = message.history
        return Origin(history.topic, history.partition, history.offset, history.timestamp_ms)
    kind, timestamp_ms = message.timestamp()
    return Origin(message.topic(), message.partition(), message.offset(), timestamp_ms if kind else -1)
