"""The JSON form of a record in a request body, and its way to an ``Outgoing`` (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from recado.clock import wall_clock_ms
from recado.gateway.due import deferred
from recado.gateway.moment import checked_moment
from recado.gateway.problem import Problem, invalid
from recado.record import HEADER_ID, Outgoing
from recado.settings import TOPIC_RULE, is_topic_name

__all__ = ["Envelope", "Line", "Outline", "checked_key", "invalid", "open_envelope", "open_lines"]

#: What may stand in an id: it travels in a header and in URLs.
ID_RULE = "1 to 200 printable ASCII characters without spaces"

_ID = re.compile(r"[\x21-\x7e]{1,200}\Z")

#: The largest partition number that Kafka's protocol has room for.
LAST_PARTITION = 2**31 - 1

#: Header names and values that would break a line of somebody's log or protocol.
_LINE_BREAK = re.compile(r"[\r\n\0]")

#: What the header with a UUIDv7 adds to a record's size.
_FRAME_BYTES = len(HEADER_ID) + 36

_QUOTE = 0x22


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """One record as ``POST /send`` takes it. ``message`` stays raw, so that no digit of a number changes."""

    message: msgspec.Raw
    topic: str | None = None
    key: str | None = None
    headers: dict[str, str] | None = None
    partition: int | None = None
    timestamp: int | str | None = None
    id: str | None = None
    deliver_at: int | str | None = None
    delay: str | None = None


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """The commonest envelope, a text without extras: decoded at once, for requests of many records."""

    message: str
    topic: str | None = None
    key: str | None = None


class Outline(msgspec.Struct, frozen=True):
    """What the request says about every record in it, and who makes ids."""

    default_topic: str
    new_ids: Callable[[int], list[str]]
    max_record_bytes: int
    #: Headers for every record, such as a traceparent.
    headers: tuple[tuple[str, bytes], ...] = ()
    #: The clock that ``deliver_at`` and ``delay`` are measured by.
    now_ms: Callable[[], int] = wall_clock_ms


def open_envelope(envelope: Envelope, outline: Outline) -> Outgoing:
    """Check one envelope and make its record. Raises Problem that names the field."""
    topic = envelope.topic if envelope.topic is not None else outline.default_topic
    if not is_topic_name(topic):
        raise illegal_topic(topic)
    record_id = outline.new_ids(1)[0] if envelope.id is None else checked_id(envelope.id)
    headers = [(HEADER_ID, record_id.encode()), *outline.headers]
    if envelope.headers:
        if len(envelope.headers) > outline.max_record_bytes:  # before each is looked at
            raise record_too_large(len(envelope.headers), outline.max_record_bytes)
        headers += [checked_header(name, value) for name, value in envelope.headers.items()]
    record = Outgoing(
        topic,
        value_bytes(envelope.message),
        record_id,
        None if envelope.key is None else envelope.key.encode(),
        headers,
        -1 if envelope.partition is None else checked_partition(envelope.partition),
        0 if envelope.timestamp is None else checked_moment("timestamp", envelope.timestamp),
        envelope.id is not None,
    )
    check_size(record, outline.max_record_bytes)
    if envelope.deliver_at is None and envelope.delay is None:
        return record
    return deferred(record, envelope.deliver_at, envelope.delay, outline.now_ms())


def open_lines(lines: list[Line], outline: Outline, add: Callable[[Outgoing], None]) -> None:
    """Do what ``open_envelope`` does for many of the commonest envelopes, at a third of the cost."""
    topics: dict[str | None, str] = {None: outline.default_topic}
    spare_bytes = outline.max_record_bytes - _FRAME_BYTES
    common = outline.headers
    for line, record_id in zip(lines, outline.new_ids(len(lines)), strict=True):
        topic = topics.get(line.topic)
        if topic is None:
            topic = topics[line.topic] = _legal(line.topic)
        value, key = line.message.encode(), line.key
        headers = [(HEADER_ID, record_id.encode()), *common]
        record = Outgoing(topic, value, record_id, None if key is None else key.encode(), headers)
        if key is not None or common or len(value) > spare_bytes:
            check_size(record, outline.max_record_bytes)
        add(record)


def _legal(topic: str | None) -> str:
    if topic is None or not is_topic_name(topic):
        raise illegal_topic(topic or "")
    return topic


def value_bytes(message: msgspec.Raw) -> bytes | None:
    """A string's UTF-8 bytes, None for null, else the JSON without its spaces (digits as they were written)."""
    raw = bytes(message)
    if raw[0] == _QUOTE:
        if b"\\" not in raw:
            return raw[1:-1]
        text: str = msgspec.json.decode(raw, type=str)
        return text.encode()
    return None if raw == b"null" else msgspec.json.format(raw, indent=-1)


def illegal_topic(topic: str) -> Problem:
    """A topic name that Kafka would not allow."""
    return Problem(
        422, "illegal-topic", "Illegal topic name", f"topic: {topic[:300]!r} must be {TOPIC_RULE}.", field="topic"
    )


def checked_id(text: str) -> str:
    """A sender's own id."""
    if not _ID.match(text):
        raise invalid("id", f"must be {ID_RULE}.")
    return text


def checked_key(field: bytes) -> str:
    """An Idempotency-Key, without quotes around it (RFC 8941, 3.3.3): the record's id, which a worker knows again."""
    text = field.strip().decode("latin-1")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not _ID.match(text):
        raise invalid("idempotency-key", f"must be {ID_RULE}.")
    return text


def checked_partition(number: int) -> int:
    """A partition number; whether the topic has it is the intake's to say."""
    if not 0 <= number <= LAST_PARTITION:
        raise invalid("partition", f"{number} must be between 0 and {LAST_PARTITION}.")
    return number


def checked_header(name: str, value: str) -> tuple[str, bytes]:
    """One header of a record."""
    field = f"headers.{name}"
    if not name or _LINE_BREAK.search(name):
        raise invalid("headers", f"the name {name!r} must not be empty, nor hold CR, LF or NUL.")
    if name.lower() == HEADER_ID:
        raise invalid(field, "recado writes this header itself; use the field 'id'.")
    if _LINE_BREAK.search(value):
        raise invalid(field, "must not hold CR, LF or NUL.")
    return name, value.encode()


def check_size(record: Outgoing, max_bytes: int) -> None:
    """Refuse a record whose value, key and headers together exceed the limit."""
    size = len(record.value or b"") + len(record.key or b"")
    for name, value in record.headers:
        size += len(name) + len(value or b"")
    if size > max_bytes:
        raise record_too_large(size, max_bytes)


def record_too_large(size: int, max_bytes: int) -> Problem:
    """What to say of a record of so many bytes, or more."""
    detail = f"The record has {size} bytes; RECADO_MAX_RECORD_BYTES allows {max_bytes}."
    return Problem(413, "record-too-large", "Record too large", detail, field="message")
