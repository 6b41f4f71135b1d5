"""From the bytes of a request to checked records (pure): all of them, or a Problem and none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from recado.gateway.due import deferred
from recado.gateway.envelope import (
    Envelope,
    Line,
    Outline,
    check_size,
    checked_id,
    checked_partition,
    illegal_topic,
    open_envelope,
    open_lines,
)
from recado.gateway.moment import moment_in, typed_moment
from recado.gateway.problem import Problem, invalid
from recado.record import HEADER_CONTENT_TYPE, HEADER_ID, Outgoing
from recado.settings import is_topic_name

__all__ = ["JSON", "NDJSON", "LineParser", "decoded", "parse_json", "parse_query", "parse_raw"]

JSON = "application/json"
NDJSON = "application/x-ndjson"

#: Records that one request may hold: each costs memory and an answer.
MAX_RECORDS = 100_000

#: ``Recado-Header-NAME: value`` on a raw body becomes the record header ``name``.
RECORD_HEADER_PREFIX = b"recado-header-"

#: White space as JSON knows it (RFC 8259, 2); ``bytes.strip`` alone would take form feeds for it, too.
WHITE_SPACE = b" \t\r\n"

T = TypeVar("T")

_one = msgspec.json.Decoder(Envelope)
_lines = msgspec.json.Decoder(Line)
_many = msgspec.json.Decoder(list[Envelope])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_PATH = re.compile(r" - at `\$?(?:\[(\d+|\.\.\.)\])?\.?(.*?)`$")
_UNKNOWN = re.compile(r"unknown field `(.*)`")
_MISSING = re.compile(r"missing required field `(.*?)`")


def parse_json(body: bytes, outline: Outline) -> tuple[list[Outgoing], bool]:
    """Read one envelope or an array of them; tell whether it was an array."""
    check_text(body)
    is_array = body.lstrip(b" \t\r\n")[:1] == b"["
    if not is_array:
        return [open_envelope(decoded(_one.decode, body), outline)], False
    if body.count(b"{") > MAX_RECORDS:  # as many records, or large ones: tell before each becomes an object
        check_count(len(decoded(_raws.decode, body)))
    envelopes = decoded(_many.decode, body)
    if not envelopes:
        raise Problem(422, "empty", "Nothing to send", "The array holds no record.")
    check_count(len(envelopes))
    records = []
    for index, envelope in enumerate(envelopes):
        try:
            records.append(open_envelope(envelope, outline))
        except Problem as problem:
            raise _placed(problem, f"record {index}", index=index) from None
    return records, True


class LineParser:
    """Reads NDJSON as it arrives: ``feed`` the chunks, then ``finish`` for the records. Not thread-safe."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._decoder = msgspec.json.Decoder(Envelope)
        self._rest = bytearray()
        self._lines = 0
        self.records: list[Outgoing] = []

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, wherever they were cut."""
        cut = chunk.rfind(b"\n")
        if cut < 0:
            self._rest += chunk
            return
        block, self._rest = bytes(self._rest) + chunk[: cut + 1], bytearray(chunk[cut + 1 :])
        self._read(block)

    def finish(self) -> list[Outgoing]:
        """The last line needs no newline. Raises Problem when there was no record at all."""
        if self._rest.strip(WHITE_SPACE):
            self._read(bytes(self._rest) + b"\n")
        if not self.records:
            raise Problem(422, "empty", "Nothing to send", "The body holds no record.")
        return self.records

    def _read(self, block: bytes) -> None:
        lines = block.count(b"\n")
        check_count(len(self.records) + lines)
        before = len(self.records)
        try:
            self._decode(block, lines)
        except Problem as problem:
            if "line" in problem.extensions:
                raise
            line = self._lines + _line_of(block, len(self.records) - before)
            raise _placed(problem, f"line {line}", line=line) from None
        self._lines += lines

    def _decode(self, block: bytes, lines: int) -> None:
        """Add the records of a block of so many lines. A Problem is of the record after the last added."""
        outline, add = self._outline, self.records.append
        try:
            found = _lines.decode_lines(block)
        except msgspec.ValidationError:
            pass  # not only texts, or with extras
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._find_bad_line(block)
        else:
            if not _is_one_a_line(block, lines, len(found)):
                self._find_bad_line(block)
            open_lines(found, outline, add)
            return
        try:
            block.decode()
            envelopes = self._decoder.decode_lines(block)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            self._find_bad_line(block)
        if not _is_one_a_line(block, lines, len(envelopes)):
            self._find_bad_line(block)
        for envelope in envelopes:
            add(open_envelope(envelope, outline))

    def _find_bad_line(self, block: bytes) -> NoReturn:
        for number, line in enumerate(block.split(b"\n"), self._lines + 1):
            if not line.strip(WHITE_SPACE):
                continue
            try:
                check_text(line)
                decoded(_one.decode, line)
            except Problem as problem:
                raise _placed(problem, f"line {number}", line=number) from None
        raise AssertionError("a block that does not decode has a line that does not")


def parse_raw(
    topic: str, body: bytes, query: dict[str, str], headers: Iterable[tuple[bytes, bytes]], outline: Outline
) -> Outgoing:
    """Make one record of a raw body: its bytes are the value."""
    if not is_topic_name(topic):
        raise illegal_topic(topic)
    record_id = checked_id(query["id"]) if "id" in query else outline.new_ids(1)[0]
    pairs: list[tuple[str, bytes]] = [(HEADER_ID, record_id.encode()), *outline.headers]
    pairs += _record_headers(headers)
    record = Outgoing(
        topic,
        body,
        record_id,
        query["key"].encode() if "key" in query else None,
        pairs,
        checked_partition(_whole("partition", query["partition"])) if "partition" in query else -1,
        moment_in("timestamp", query["timestamp"]) if "timestamp" in query else 0,
        "id" in query,
    )
    check_size(record, outline.max_record_bytes)
    at = query.get("deliver_at")
    return deferred(record, None if at is None else typed_moment(at), query.get("delay"), outline.now_ms())


def _record_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, bytes]]:
    pairs = []
    for name, value in headers:
        if name == b"content-type":
            pairs.append((HEADER_CONTENT_TYPE, value))
        if not name.startswith(RECORD_HEADER_PREFIX):
            continue
        short = name[len(RECORD_HEADER_PREFIX) :].decode("latin-1")
        if short in ("", HEADER_ID, HEADER_CONTENT_TYPE):
            raise invalid(name.decode("latin-1"), "must name a header that recado does not write itself.")
        pairs.append((short, value))
    return pairs


def parse_query(query: str, allowed: frozenset[str]) -> dict[str, str]:
    """Read a query string strictly: an unknown or repeated parameter, or one that is not UTF-8, is an error."""
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise invalid(name[:60] or "?", f"is not a parameter here; these are: {known}.")
        if name in found:
            raise invalid(name, "stands more than once.")
        try:
            found[name] = unquote_to_bytes(value.replace("+", " ")).decode()
        except UnicodeDecodeError as error:
            raise invalid(name, "is not UTF-8.") from error
    return found


def check_text(body: bytes) -> None:
    """Refuse bytes that are not UTF-8: JSON is nothing else (RFC 8259)."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        detail = f"The body is not UTF-8: {error.reason} at byte {error.start}."
        raise Problem(400, "invalid-json", "Not JSON", detail) from None


def check_count(count: int) -> None:
    """Refuse more records than one request may hold."""
    if count > MAX_RECORDS:
        detail = f"The request holds more than {MAX_RECORDS} records; send them in several."
        raise Problem(413, "too-many-records", "Too many records", detail)


def decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    """Decode JSON; what is wrong is a Problem that names the field."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from None
    except msgspec.DecodeError as error:
        raise Problem(400, "invalid-json", "Not JSON", f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise Problem(400, "invalid-json", "Not JSON", "The body is nested too deeply.") from None


def _wrong_field(text: str) -> Problem:
    where: dict[str, Any] = {}
    field = "body"
    if path := _PATH.search(text):
        text = text[: path.start()]
        field = path.group(2).partition("[")[0] or "body"  # of headers[...] the field is headers
        if (path.group(1) or "").isdigit():
            where["index"] = int(path.group(1))
    if named := _UNKNOWN.search(text) or _MISSING.search(text):
        field = named.group(1)
    prefix = f"record {where['index']}: " if where else ""
    problem = invalid(field, text[0].lower() + text[1:] + ".", **where)
    return _placed(problem, prefix[:-2]) if prefix else problem


def _whole(field: str, text: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
        raise invalid(field, f"{text[:60]!r} is not a whole number.")
    return int(text)


def _is_one_a_line(block: bytes, lines: int, found: int) -> bool:
    """Tell whether the ``found`` objects in ``block`` stand one on a line: none on two, no two on one."""
    # A line of whole objects starts and ends with a brace, and an object that spans lines breaks that on one of them.
    if found == lines == block.count(b"}\n{") + 1 and block[:1] == b"{" and block[-2:] == b"}\n":
        return True
    full = [stripped for line in block.split(b"\n") if (stripped := line.strip(WHITE_SPACE))]
    return found == len(full) and all(line[:1] == b"{" and line[-1:] == b"}" for line in full)


def _line_of(block: bytes, index: int) -> int:
    """The number (from 1) of the line in ``block`` that holds the ``index``-th record, blank lines counted."""
    full = [number for number, line in enumerate(block.split(b"\n"), 1) if line.strip(WHITE_SPACE)]
    return full[index]


def _placed(problem: Problem, where: str, **extensions: Any) -> Problem:
    merged = {**problem.extensions, **extensions}
    return Problem(problem.status, problem.code, problem.title, f"{where}: {problem}", **merged)
