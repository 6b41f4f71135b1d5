"""Reads one send request: its heading decides how the body becomes records (pure; the fronts feed it)."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import msgspec
import uuid_utils

from recado.gateway import cloudevents
from recado.gateway.encoding import Decoder, decoder, incomplete, too_large
from recado.gateway.envelope import Outline, checked_key
from recado.gateway.idempotency.keys import Key, record_keys, request_key
from recado.gateway.parse import JSON, NDJSON, LineParser, parse_json, parse_query, parse_raw
from recado.gateway.problem import Problem, invalid
from recado.record import Outgoing
from recado.settings import Settings

__all__ = ["Reader", "Shape", "Submission"]

#: Longest wait that ``Prefer: wait=`` may ask for, in seconds; more is cut to this.
MAX_WAIT_S = 300.0

RAW_PARAMETERS = frozenset({"key", "partition", "timestamp", "id", "deliver_at", "delay"})
NO_PARAMETERS: frozenset[str] = frozenset()

NDJSON_TYPES = frozenset({NDJSON, "application/ndjson", "application/jsonl"})

#: The counted bits start with a zero, so that counting up never overflows.
_COUNTER_MASK = 0x7FFF_FFFF_FFFF

_topic = attrgetter("topic")

_WAIT = re.compile(rb"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)
_MINIMAL = re.compile(rb"(?:^|[,;])\s*return\s*=\s*\"?minimal\"?\s*(?:$|[,;])", re.IGNORECASE)
_ASYNC = re.compile(rb"(?:^|[,;])\s*respond-async\s*(?:$|[,;])", re.IGNORECASE)
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Shape(Enum):
    """The form of an answer that is not a problem: it follows the form of the request."""

    ONE = "one"
    ARRAY = "array"
    LINES = "lines"
    SUMMARY = "summary"


class Submission(NamedTuple):
    """What a request asks for: these records, confirmed within ``wait_s`` seconds, answered in ``shape``."""

    records: list[Outgoing]
    shape: Shape
    wait_s: float
    #: How many records go to each topic.
    topics: dict[str, int]
    #: The sender wants no more than that the records are safe (``Prefer: respond-async``).
    is_async: bool = False
    #: What must not be sent twice.
    keys: Sequence[Key] = ()


def new_ids(count: int) -> list[str]:
    """New UUIDv7s: their time bounds every later search for the record (RFC 9562, 5.7).

    Many at once share one UUID's random bits, its last 48 counted up (RFC 9562, 6.2, method 2).
    """
    first = str(uuid_utils.uuid7())
    if count == 1:
        return [first]
    start = int(first[24:], 16) & _COUNTER_MASK
    return [first[:24] + "%012x" % number for number in range(start, start + count)]  # noqa: UP031  # twice as fast


class Reader:
    """One request being read: ``feed`` its body, then ``finish``. Every call may raise Problem. Not thread-safe.

    ``topic`` is the one in the path (a raw body) or None (the body is JSON). Header names are lower-case bytes, as
    ASGI gives them.
    """

    # One of these lives per request: no reference may lead back to it, or the garbage collector pays for each.
    __slots__ = ("_async", "_chunks", "_decoder", "_fields", "_hash", "_headers", "_lines", "_minimal", "_outline",
                 "_parse", "_query", "_received", "_topic", "_wait_s", "expected", "is_compressed", "size")  # fmt: skip

    def __init__(
        self, topic: str | None, query: str, headers: Iterable[tuple[bytes, bytes]], *, settings: Settings
    ) -> None:
        self._topic = topic
        self._headers = list(headers)
        self._fields = fields = dict(self._headers)
        if len(fields) != len(self._headers) or b"transfer-encoding" in fields:
            _check_framing(self._headers, fields)
        self._wait_s = settings.wait_s
        self._minimal = self._async = False
        if b"prefer" in fields:
            self._read_preferences(b", ".join(value for name, value in self._headers if name == b"prefer"))
        #: The body's length by Content-Length, or None.
        self.expected = _content_length(fields, settings.max_body_bytes)
        self._received = 0
        #: Bytes of the body so far, decompressed.
        self.size = 0
        self._outline = _outline(fields, settings)
        self._hash = None
        if b"idempotency-key" in fields:
            self._hash = hashlib.sha256(repr((topic, query, fields.get(b"content-type"))).encode())
        self._query = parse_query(query, NO_PARAMETERS if topic is None else RAW_PARAMETERS) if query else {}
        #: The body comes compressed: a small piece may be a large one.
        self.is_compressed = b"content-encoding" in fields
        self._decoder: Decoder = decoder(fields.get(b"content-encoding", b""), settings.max_body_bytes)
        self._chunks: list[bytes] = []
        self._lines: LineParser | None = None
        self._parse = self._parser(fields.get(b"content-type", b""))

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body as they came."""
        self._received += len(chunk)
        decoded = self._decoder.feed(chunk)
        self.size += len(decoded)
        if self._hash is not None:
            self._hash.update(decoded)
        if self._lines is None:
            self._chunks.append(decoded)
        else:
            self._lines.feed(decoded)

    def finish(self) -> Submission:
        """The body is complete, says the server; what was promised must have come."""
        if self.expected is not None and self._received < self.expected:
            raise incomplete(f"Content-Length promised {self.expected} bytes, {self._received} came.")
        self._decoder.finish()
        records, shape = self._parse(self)
        if self._minimal and shape is not Shape.ONE:
            shape = Shape.SUMMARY
        keys = self._keys(records)
        if len(records) == 1:
            return Submission(records, shape, self._wait_s, {records[0].topic: 1}, self._async, keys)
        return Submission(records, shape, self._wait_s, Counter(map(_topic, records)), self._async, keys)

    def _keys(self, records: list[Outgoing]) -> Sequence[Key]:
        if self._hash is not None:
            key = checked_key(self._fields[b"idempotency-key"])
            return request_key(key, self._hash.digest(), len(records))
        own = [index for index, record in enumerate(records) if record.is_own_id]
        return record_keys(records, own) if own else ()

    def _read_preferences(self, prefer: bytes) -> None:
        if wait := _WAIT.search(prefer):
            self._wait_s = min(float(wait.group(1)), MAX_WAIT_S)
        self._minimal = _MINIMAL.search(prefer) is not None
        self._async = _ASYNC.search(prefer) is not None

    def _parser(self, content_type: bytes) -> Callable[[Reader], tuple[list[Outgoing], Shape]]:
        media_type = _media_type(content_type)
        if self._topic is not None:
            if media_type == cloudevents.BATCH:
                return Reader._events
            if media_type == cloudevents.STRUCTURED:
                return Reader._event
            return Reader._event_in_headers if b"ce-specversion" in self._fields else Reader._raw
        if media_type == JSON or media_type.endswith("+json"):
            return Reader._json
        if media_type in NDJSON_TYPES:
            self._lines = LineParser(self._outline)
            return Reader._ndjson
        detail = f"Content-Type {media_type[:60]!r} is not one of {JSON}, {NDJSON}. To send a body as it is, "
        detail += "POST it to /send/TOPIC."
        raise Problem(415, "unsupported-media-type", "Unsupported media type", detail, field="content-type")

    def _json(self) -> tuple[list[Outgoing], Shape]:
        records, is_array = parse_json(self._body(), self._outline)
        return records, Shape.ARRAY if is_array else Shape.ONE

    def _ndjson(self) -> tuple[list[Outgoing], Shape]:
        assert self._lines is not None
        return self._lines.finish(), Shape.LINES

    def _raw(self) -> tuple[list[Outgoing], Shape]:
        assert self._topic is not None
        return [parse_raw(self._topic, self._body(), self._query, self._headers, self._outline)], Shape.ONE

    def _event_in_headers(self) -> tuple[list[Outgoing], Shape]:
        assert self._topic is not None
        attributes, key = cloudevents.binary_headers(self._headers)
        query = self._query if key is None else {"key": key.decode(), **self._query}
        outline = msgspec.structs.replace(self._outline, headers=self._outline.headers + attributes)
        return [parse_raw(self._topic, self._body(), query, self._headers, outline)], Shape.ONE

    def _event(self) -> tuple[list[Outgoing], Shape]:
        assert self._topic is not None
        body = self._body()
        key = cloudevents.partition_key(body)
        query = self._query if key is None else {"key": key, **self._query}
        return [parse_raw(self._topic, body, query, self._headers, self._outline)], Shape.ONE

    def _events(self) -> tuple[list[Outgoing], Shape]:
        assert self._topic is not None
        for name in self._query:
            raise invalid(name, "cannot be said of a batch: every event has its own.")
        return cloudevents.parse_batch(self._topic, self._body(), self._outline), Shape.ARRAY

    def _body(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)


@lru_cache(maxsize=256)
def _media_type(content_type: bytes) -> str:
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


@lru_cache(maxsize=16)
def _plain_outline(topic: str, max_record_bytes: int) -> Outline:
    return Outline(topic, new_ids, max_record_bytes)


def _check_framing(headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> None:
    """Refuse what two servers in a row could read in two ways (RFC 9112, 3.2 and 6.1)."""
    for name in (
        b"host",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"transfer-encoding",
        b"idempotency-key",
    ):
        if sum(found == name for found, _ in headers) > 1:
            field = name.decode()
            raise Problem(400, "bad-request", "Bad request", f"{field} stands more than once.", field=field)
    if fields.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        detail = "Transfer-Encoding may only be chunked; compress with Content-Encoding."
        raise Problem(400, "bad-request", "Bad request", detail, field="transfer-encoding")


def _outline(fields: dict[bytes, bytes], settings: Settings) -> Outline:
    trace: tuple[tuple[str, bytes], ...] = ()
    parent = fields.get(b"traceparent")
    if parent is not None and _TRACEPARENT.match(parent):
        state = fields.get(b"tracestate")
        trace = (("traceparent", parent), *((("tracestate", state),) if state else ()))
    if b"idempotency-key" in fields:
        ids = _ids_of(checked_key(fields[b"idempotency-key"]))
        return Outline(settings.topic, ids, settings.max_record_bytes, trace)
    if not trace:
        return _plain_outline(settings.topic, settings.max_record_bytes)
    return Outline(settings.topic, new_ids, settings.max_record_bytes, trace)


def _ids_of(key: str) -> Callable[[int], list[str]]:
    """The ids of a request's records: the key itself, then ``key.1``, ``key.2``. Every try gets the same."""
    numbers = itertools.count()
    return lambda count: [f"{key}.{number}" if number else key for number in itertools.islice(numbers, count)]


def _content_length(fields: dict[bytes, bytes], max_bytes: int) -> int | None:
    text = fields.get(b"content-length")
    if text is None:
        return None
    if not text.isdigit():
        raise Problem(400, "bad-request", "Bad request", "Content-Length is not a number.", field="content-length")
    if int(text) > max_bytes:
        raise too_large(max_bytes)
    return int(text)
