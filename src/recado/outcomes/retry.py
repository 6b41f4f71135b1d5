"""The copy of a failed record that waits for another attempt, and the record that a handler is given then (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.outcomes.delay import Delayed, delay
from recado.outcomes.group_topics import retry_topic
from recado.outcomes.history import HEADER_HISTORY, History, header_of
from recado.record import HEADER_ID, Outgoing, id_in

__all__ = ["id_of", "own_headers", "retry_copy", "retry_record"]


def retry_record(message: Message, history: History, partition: int) -> Outgoing:
    """The record for the group's retry topic: key, value and headers as they were, its history and its id beside them.

    Kafka stamps it when it lands there: by its own, perhaps old, timestamp it might be read as out of retention.
    """
    own_id = id_of(message, history)
    return Outgoing(
        retry_topic(history.group, history.topic),
        message.value(),
        own_id,
        message.key(),
        [*own_headers(message), (HEADER_ID, own_id.encode()), header_of(history)],
        partition,
    )


def retry_copy(message: Message, history: History, partition: int, now_ms: int) -> Delayed:
    """The same for the delay topic through which it comes to the retry topic when ``history.due_ms`` has come."""
    return delay(retry_record(message, history, partition), due_ms=history.due_ms, now_ms=now_ms)


def id_of(message: Message, history: History) -> str:
    """A record's id: its header, or where it stood first."""
    return id_in(headers_of(message)) or f"{history.topic}/{history.partition}/{history.offset}"


def own_headers(message: Message) -> Sequence[tuple[str, bytes | None]]:
    """A record's headers without those that a copy gets anew."""
    return [pair for pair in headers_of(message) if pair[0] not in (HEADER_ID, HEADER_HISTORY)]
