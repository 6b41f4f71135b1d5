"""A dead letter as it is read: where it stood and why it is there, in whichever family of headers (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.outcomes.dead_letter import HEADER_FAILURE
from recado.outcomes.history import Failure, history_of
from recado.record import HEADER_ID

__all__ = ["Letter", "letter_of"]

#: What stands in a list for a letter of which no header tells why.
UNTOLD = "unknown"


class Letter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a dead letter tells. ``topic``, ``partition`` and ``offset`` are its own: by these it is known."""

    topic: str
    partition: int
    offset: int
    #: When it became one, in milliseconds since the epoch; -1 where it has no timestamp.
    timestamp_ms: int
    id: str = ""
    #: Where the record stood first; empty and -1 where no header tells.
    source_topic: str = ""
    source_partition: int = -1
    source_offset: int = -1
    group: str = ""
    #: Why there was no further attempt, and the last error: its class, message and stack.
    reason: str = ""
    error_class: str = ""
    error_message: str = ""
    stack: str = ""
    #: What failed and where: letters with the same are of one kind.
    fingerprint: str = UNTOLD
    attempts: int = 0
    first_failure_ms: int = 0
    last_failure_ms: int = 0
    #: The newest failed attempts, oldest first.
    failures: tuple[Failure, ...] = ()


def letter_of(message: Message) -> Letter:
    """Read a dead letter; what its headers do not tell stays empty, and nothing in them is an error."""
    headers = {name: value or b"" for name, value in headers_of(message)}
    told: dict[str, object] = {}
    for read in (_spring, _connect, _kafka):  # the later is the more telling, should there be several
        told |= {name: value for name, value in read(headers).items() if value not in ("", -1)}
    history = history_of(message)
    if history is not None:
        told |= {
            "group": history.group,
            "source_topic": history.topic,
            "source_partition": history.partition,
            "source_offset": history.offset,
            "attempts": history.attempts,
            "first_failure_ms": history.first_failure_ms,
            "last_failure_ms": history.last_failure_ms,
            "failures": history.failures,
        }
    kind, timestamp_ms = message.timestamp()
    fingerprint = _text(headers.get(HEADER_FAILURE)) or str(told.get("error_class", "")) or UNTOLD
    return Letter(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp_ms=timestamp_ms if kind else -1,
        id=_text(headers.get(HEADER_ID)),
        fingerprint=fingerprint,
        **told,  # type: ignore[arg-type] # each reader gives what its header holds
    )


def _kafka(headers: Mapping[str, bytes]) -> dict[str, object]:
    def of(name: str) -> str:
        return _text(headers.get("__dlq.errors." + name))

    return {
        "source_topic": of("topic"),
        "source_partition": _number(of("partition")),
        "source_offset": _number(of("offset")),
        "group": of("group"),
        "reason": of("message"),
        "error_class": of("exception.class.name"),
        "error_message": of("exception.message"),
        "stack": of("exception.stacktrace"),
        "attempts": _number(of("delivery.count")),
        "first_failure_ms": _moment_ms(of("first.failure")),
        "last_failure_ms": _moment_ms(of("last.failure")),
    }


def _connect(headers: Mapping[str, bytes]) -> dict[str, object]:
    def of(name: str) -> str:
        return _text(headers.get("__connect.errors." + name))

    return {
        "source_topic": of("topic"),
        "source_partition": _number(of("partition")),
        "source_offset": _number(of("offset")),
        "group": of("connector.name"),
        "error_class": of("exception.class.name"),
        "error_message": of("exception.message"),
        "stack": of("exception.stacktrace"),
    }


def _spring(headers: Mapping[str, bytes]) -> dict[str, object]:
    def of(name: str) -> bytes:
        return headers.get("kafka_dlt-" + name, b"")

    return {
        "source_topic": _text(of("original-topic")),
        "source_partition": _big_endian(of("original-partition"), 4),
        "source_offset": _big_endian(of("original-offset"), 8),
        "group": _text(of("original-consumer-group")),
        "error_class": _text(of("exception-fqcn")),
        "error_message": _text(of("exception-message")),
        "stack": _text(of("exception-stacktrace")),
    }


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def _big_endian(value: bytes, size: int) -> int:
    return int.from_bytes(value) if len(value) == size else -1


def _moment_ms(text: str) -> int:
    return _or(lambda: round(datetime.fromisoformat(text).timestamp() * 1000), -1) if text else -1


def _or(read: Callable[[], int], otherwise: int) -> int:
    try:
        return read()
    except (ValueError, OverflowError, OSError):
        return otherwise
