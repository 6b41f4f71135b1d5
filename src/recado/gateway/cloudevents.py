"""CloudEvents 1.0 over HTTP, landed by the CloudEvents Kafka protocol binding (pure).

Sources: the CloudEvents HTTP binding 1.0.2 (modes by Content-Type and ``ce-`` headers) and the Kafka binding 1.0.2
(binary mode: attributes as ``ce_`` headers, ``datacontenttype`` as ``content-type``; structured mode: the whole event
as the value; the ``partitionkey`` extension as the record's key).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from recado.gateway.envelope import Outline, check_size, illegal_topic, invalid
from recado.gateway.parse import check_count, check_text
from recado.gateway.problem import Problem
from recado.record import HEADER_CONTENT_TYPE, HEADER_ID, Outgoing
from recado.settings import is_topic_name

__all__ = ["BATCH", "STRUCTURED", "binary_headers", "is_binary", "parse_batch", "partition_key"]

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LINE_BREAK = re.compile(rb"[\r\n\0]")

#: Attributes that every event must have.
_REQUIRED = ("specversion", "id", "source", "type")


def is_binary(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request carries an event in binary mode."""
    return any(name == b"ce-specversion" for name, _ in headers)


def binary_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[tuple[str, bytes], ...], bytes | None]:
    """The record headers of a binary-mode event, and its partition key. Raises Problem for a missing attribute."""
    attributes: dict[str, bytes] = {}
    for field, value in headers:
        if not field.startswith(b"ce-"):
            continue
        name = field[3:].decode("latin-1")
        if not name or name in attributes:
            raise invalid(f"ce-{name}", "must name an attribute, and each only once.")
        attributes[name] = _attribute(name, value)
    for name in _REQUIRED:
        if not attributes.get(name):
            raise invalid(f"ce-{name}", "is missing: every CloudEvent has it.")
    if attributes["specversion"] != b"1.0":
        raise invalid("ce-specversion", "must be 1.0.")
    return tuple((f"ce_{name}", value) for name, value in attributes.items()), attributes.get("partitionkey")


def _attribute(name: str, value: bytes) -> bytes:
    """Undo what the HTTP binding does to a text (3.1.3.2): quotes as older senders put them, percent-encoding."""
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = _ESCAPED.sub(rb"\1", value[1:-1])
    value = unquote_to_bytes(value)
    try:
        value.decode()
    except UnicodeDecodeError:
        raise invalid(f"ce-{name}", "is not UTF-8.") from None
    if _LINE_BREAK.search(value):
        raise invalid(f"ce-{name}", "must not hold CR, LF or NUL.")
    return value


def partition_key(body: bytes) -> str | None:
    """Check one event in JSON format and return its ``partitionkey``."""
    check_text(body)
    key: str | None = _event(body, "body").get("partitionkey")
    return key


def parse_batch(topic: str, body: bytes, outline: Outline) -> list[Outgoing]:
    """Make a record of each event of a batch."""
    check_text(body)
    try:
        raws = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise Problem(422, "invalid-field", "A field is wrong", "body: a batch is a JSON array of events.") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, "invalid-json", "Not JSON", f"The body is not JSON: {error}.") from None
    if not raws:
        raise Problem(422, "empty", "Nothing to send", "The batch holds no event.")
    check_count(len(raws))
    return [
        _record(topic, bytes(raw), _event(bytes(raw), f"record {index}"), outline) for index, raw in enumerate(raws)
    ]


def _event(raw: bytes, where: str) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise invalid(where, f"an event is a JSON object with members that JSON can hold ({error}).") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, "invalid-json", "Not JSON", f"The body is not JSON: {error}.") from None
    for name in _REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            raise invalid(name, f"is missing in {where}, or not a text: every CloudEvent has it.")
    if event["specversion"] != "1.0":
        raise invalid("specversion", "must be 1.0.")
    if not isinstance(event.get("partitionkey"), str | None):
        raise invalid("partitionkey", f"must be a text in {where}.")
    return event


def _record(topic: str, raw: bytes, event: dict[str, Any], outline: Outline) -> Outgoing:
    if not is_topic_name(topic):
        raise illegal_topic(topic)
    record_id = outline.new_ids(1)[0]
    key = event.get("partitionkey")
    headers = [
        (HEADER_ID, record_id.encode()),
        *outline.headers,
        (HEADER_CONTENT_TYPE, f"{STRUCTURED}; charset=UTF-8".encode()),
    ]
    record = Outgoing(topic, raw, record_id, None if key is None else key.encode(), headers)
    check_size(record, outline.max_record_bytes)
    return record
