"""Dead letters: the copy of a record that a group gave up, with the reason in headers that others know (pure).

``kafka`` are the names of KIP-1191 (https://cwiki.apache.org/confluence/display/KAFKA/KIP-1191) and more of that kind;
``connect`` those of Kafka Connect's error handling, ``spring`` those of Spring Kafka, where a partition is an int32 and
an offset or a timestamp an int64, big-endian.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from recado.clock import date_of
from recado.kafka.abstract import Message
from recado.outcomes.decide import describe, text_of
from recado.outcomes.group_topics import dead_letter_topic
from recado.outcomes.history import History, header_of
from recado.outcomes.retry import id_of, own_headers
from recado.record import HEADER_ID, Outgoing

__all__ = ["FAMILIES", "HEADER_FAILURE", "Cause", "cause_of", "dead_letter"]

#: Header with a failure's fingerprint: what failed, and in which function.
HEADER_FAILURE = "recado-failure"

#: How much of a stack a dead letter carries, in characters: the end, where the error is.
MAX_STACK = 4_000


class Cause(NamedTuple):
    """Why a record is a dead letter."""

    #: In one line, for a person.
    reason: str
    #: The exception's class with its module, its message, its stack as text, and ``Class in module.function``.
    error_class: str
    message: str
    stack: str
    fingerprint: str


def cause_of(error: BaseException, reason: str) -> Cause:
    """What a dead letter tells of the exception that ended its last attempt."""
    kind = type(error)
    is_known = kind.__module__ in ("builtins", "__main__")
    name = kind.__qualname__ if is_known else f"{kind.__module__}.{kind.__qualname__}"
    place = _place(error)
    return Cause(
        reason,
        name,
        text_of(error),
        _stack(error),
        f"{name} in {place}" if place else name,
    )


def _stack(error: BaseException) -> str:
    try:
        stack = "".join(traceback.format_exception(error))
    except Exception:  # an exception that it was raised from cannot be told, perhaps
        stack = "".join(traceback.format_tb(error.__traceback__)) + describe(error)
    return stack[-MAX_STACK:].encode("utf-8", "replace").decode()


def _place(error: BaseException) -> str:
    """The innermost function that is not a library's: where a person would look first."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__", "?"))
        if module.partition(".")[0] != "recado" and "site-packages" not in frame.f_code.co_filename:
            return f"{module}.{frame.f_code.co_qualname}"
    return ""


def dead_letter(
    message: Message, history: History, cause: Cause, *, partition: int, family: str = "kafka", trimmed: bool = False
) -> Outgoing:
    """The record for the group's dead-letter topic: the same key, value, headers and id, and why it is there.

    ``trimmed`` leaves out the stack and shortens the rest, for a record that would be too large otherwise.
    """
    if trimmed:
        cause = cause._replace(stack="", message=cause.message[:100], reason=cause.reason[:200])
        history = msgspec.structs.replace(history, failures=())
    own_id = id_of(message, history)
    reason = [(HEADER_ID, own_id.encode()), (HEADER_FAILURE, cause.fingerprint.encode()), header_of(history)]
    return Outgoing(
        dead_letter_topic(history.group, history.topic),
        message.value(),
        own_id,
        message.key(),
        [*own_headers(message), *reason, *FAMILIES[family](history, cause)],
        partition,
    )


def _kafka(history: History, cause: Cause) -> list[tuple[str, bytes]]:
    return _named(
        "__dlq.errors.",
        {
            "topic": history.topic,
            "partition": history.partition,
            "offset": history.offset,
            "timestamp": history.timestamp_ms,
            "group": history.group,
            "delivery.count": history.attempts,
            "message": cause.reason,
            "exception.class.name": cause.error_class,
            "exception.message": cause.message,
            "exception.stacktrace": cause.stack,
            "first.failure": _moment(history.first_failure_ms),
            "last.failure": _moment(history.last_failure_ms),
        },
    )


def _connect(history: History, cause: Cause) -> list[tuple[str, bytes]]:
    return _named(
        "__connect.errors.",
        {
            "topic": history.topic,
            "partition": history.partition,
            "offset": history.offset,
            "connector.name": history.group,
            "task.id": 0,
            "stage": "TASK_PUT",
            "class.name": "recado.Worker",
            "exception.class.name": cause.error_class,
            "exception.message": cause.message,
            "exception.stacktrace": cause.stack,
        },
    )


def _spring(history: History, cause: Cause) -> list[tuple[str, bytes]]:
    return [
        ("kafka_dlt-original-topic", history.topic.encode()),
        ("kafka_dlt-original-partition", history.partition.to_bytes(4)),
        ("kafka_dlt-original-offset", history.offset.to_bytes(8)),
        ("kafka_dlt-original-timestamp", history.timestamp_ms.to_bytes(8, signed=True)),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", history.group.encode()),
        ("kafka_dlt-exception-fqcn", cause.error_class.encode()),
        ("kafka_dlt-exception-message", cause.message.encode(errors="replace")),
        ("kafka_dlt-exception-stacktrace", cause.stack.encode(errors="replace")),
    ]


#: How each family of headers tells a reason.
FAMILIES: dict[str, Callable[[History, Cause], list[tuple[str, bytes]]]] = {
    "kafka": _kafka,
    "connect": _connect,
    "spring": _spring,
}


def _named(prefix: str, values: dict[str, str | int]) -> list[tuple[str, bytes]]:
    return [(prefix + name, str(value).encode(errors="replace")) for name, value in values.items() if value != ""]


def _moment(at_ms: int) -> str:
    at = date_of(at_ms) if at_ms else None  # none beyond the calendar: a history that somebody else wrote
    return "" if at is None else at.isoformat(timespec="milliseconds")
