"""A record's history: where it came from, and which attempts failed; it travels in one header (pure)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.outcomes.decide import describe

__all__ = [
    "HEADER_HISTORY",
    "Failure",
    "History",
    "began",
    "failed",
    "failure_of",
    "header_of",
    "history_of",
    "parked",
    "same_topic",
]

#: Header of a record in a retry topic or among dead letters: a ``History`` as JSON.
HEADER_HISTORY = "recado-history"

#: Failures that are told one by one, the newest, and how much of each error, in characters.
MAX_FAILURES = 10
MAX_ERROR = 200

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Failure(msgspec.Struct, frozen=True, gc=False):
    """One failed attempt: when, in milliseconds since the epoch, and why in one line."""

    at_ms: _Count
    error: str


class History(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a record stood first, and what became of it in one group."""

    group: str
    topic: str
    partition: _Count
    offset: _Count
    #: The record's own timestamp in milliseconds, -1 where it has none.
    timestamp_ms: int = -1
    #: Failed attempts since it came, or since it was redriven.
    attempts: _Count = 0
    #: The first and the last failure ever, in milliseconds since the epoch; 0 before one.
    first_failure_ms: _Count = 0
    last_failure_ms: _Count = 0
    #: The newest failures, oldest first.
    failures: tuple[Failure, ...] = ()
    #: When the next attempt is due, in milliseconds since the epoch; 0 where none is.
    due_ms: _Count = 0
    #: How often it was redriven, and which dead letter it was last, as topic/partition/offset.
    redriven: _Count = 0
    dead_letter: str = ""
    #: Its key's later records wait behind it, and it waits behind the earlier ones.
    parked: bool = False
    #: The id of the topic; empty where nobody told. One that was made anew has the same name and other records.
    topic_id: str = ""


_decode = msgspec.json.Decoder(History).decode
_encode = msgspec.json.Encoder().encode


def same_topic(one: str, other: str) -> bool:
    """Whether two ids of a name are of the same topic, as far as both are known: not of one that was made anew."""
    return not (one and other) or one == other


def history_of(message: Message) -> History | None:
    """Read a record's history; None where it has none, or none that is ours."""
    for name, value in reversed(headers_of(message)):
        if name == HEADER_HISTORY:
            try:
                return _decode(value or b"")
            except msgspec.DecodeError:
                return None
    return None


def began(message: Message, group: str, topic_id: str = "") -> History:
    """The history of a record that comes from its own topic."""
    kind, timestamp_ms = message.timestamp()
    place = (message.topic(), message.partition(), message.offset())
    return History(group, *place, timestamp_ms if kind else -1, topic_id=topic_id)


def failure_of(error: BaseException, now_ms: int) -> Failure:
    """What is told of a failed attempt."""
    return Failure(now_ms, describe(error)[:MAX_ERROR])


def failed(history: History, *failures: Failure, due_ms: int = 0) -> History:
    """The history with one or more failed attempts, oldest first, and when the next is due (0: never)."""
    return msgspec.structs.replace(
        history,
        attempts=history.attempts + len(failures),
        first_failure_ms=history.first_failure_ms or failures[0].at_ms,
        last_failure_ms=failures[-1].at_ms,
        failures=(*history.failures, *failures)[-MAX_FAILURES:],
        due_ms=due_ms,
    )


def parked(history: History) -> History:
    """The history of a record that waits in its key's order."""
    return history if history.parked else msgspec.structs.replace(history, parked=True)


def header_of(history: History) -> tuple[str, bytes]:
    """The header that carries a history."""
    return HEADER_HISTORY, _encode(history)
