"""Uploads that break off, headers that lie, bytes that are no text: refused by both fronts, nothing produced."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from tests.fronts import Answered, AsgiFront, FlaskFront, Gate, gate

LINE = b'{"message":"a"}\n'

Headers = list[tuple[str, str]]


@pytest.fixture(params=["flask", "asgi"])
def http(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Gate]:
    with gate(request.param, max_body_bytes=100_000, max_record_bytes=10_000) as opened:
        yield opened
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


@pytest.fixture(autouse=True)
def exceptions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the front logs as an exception: structlog may go past the standard library's log here."""
    seen: list[str] = []

    class Log:
        def exception(self, event: str, **fields: Any) -> None:
            seen.append(f"{event} {fields}")

    monkeypatch.setattr("recado.gateway.asgi.log", Log())
    yield seen
    assert seen == []


def refused(http: Gate, answer: Answered, status: int, field: str | None = None, code: str | None = None) -> Any:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert all(isinstance(problem[name], str) and problem[name] for name in ("title", "detail", "code"))
    assert field is None or problem["field"] == field
    assert code is None or problem["code"] == code
    assert http.kafka.produced == []
    return problem


class Gone(io.RawIOBase):
    """A body whose connection breaks after these bytes, as a WSGI server tells it: OSError, or just the end."""

    def __init__(self, sent: bytes, *, raises: bool) -> None:
        self._sent = io.BytesIO(sent)
        self._raises = raises

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._sent.readinto(buffer)
        if not count and self._raises:
            raise OSError("client went away")
        return count


def exchange(
    http: Gate, path: str, sent: bytes, headers: Headers, *, cut: str = "", wsgi: dict[str, Any] | None = None
) -> Answered:
    """Send these bytes under just these headers. ``cut``: how the server tells that the client went away."""
    front = http.front
    if isinstance(front, FlaskFront):
        target, _, query = path.partition("?")
        builder = EnvironBuilder(path=target, query_string=query, method="POST", headers=headers)
        environ = builder.get_environ()
        builder.close()
        # The builder knows better than the client that we play.
        environ.pop("CONTENT_LENGTH", None)
        if (length := dict(headers).get("Content-Length")) is not None:
            environ["CONTENT_LENGTH"] = length
        environ["wsgi.input"] = Gone(b"" if cut == "nothing" else sent, raises=cut == "raises")
        chunked = any(name.lower() == "transfer-encoding" for name, _ in headers)
        environ |= {"wsgi.input_terminated": chunked} if wsgi is None else wsgi
        body, status, answer_headers = run_wsgi_app(front._client.application, environ, buffered=True)
        named = {name.lower(): value for name, value in answer_headers}
        return Answered(int(status.split()[0]), named, b"".join(body))
    return asyncio.run_coroutine_threadsafe(_asgi(front, path, sent, headers, cut), front._loop).result(20)


async def _asgi(front: AsgiFront, path: str, sent: bytes, headers: Headers, cut: str) -> Answered:
    target, _, query = path.partition("?")
    scope = {
        "type": "http", "method": "POST", "path": target, "query_string": query.encode(), "scheme": "http",
        "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in headers], "http_version": "1.1",
    }  # fmt: skip
    half = len(sent) // 2
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": sent[:half], "more_body": True},
        {"type": "http.request", "body": sent[half:], "more_body": bool(cut)},
        {"type": "http.disconnect"},
    ]
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(event: dict[str, Any]) -> None:
        told.append(event)

    await front._front(scope, receive, send)
    named = {name.decode(): value.decode("latin-1") for name, value in told[0]["headers"]}
    return Answered(told[0]["status"], named, b"".join(event.get("body", b"") for event in told[1:]))


# Broken-off uploads

EVENT = b'{"specversion":"1.0","id":"1","source":"a","type":"t"}'

KINDS = {
    "raw": ("/send/flask-topic", "text/plain", b"0123456789"),
    "json": ("/send", "application/json", b'{"message":"0123456789"}'),
    "array": ("/send", "application/json", b'[{"message":"0"},{"message":"1"}]'),
    "ndjson": ("/send", "application/x-ndjson", LINE * 3),
    "event": ("/send/flask-topic", "application/cloudevents+json", EVENT),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", ["raises", "ends", "nothing"])
def test_an_upload_cut_before_its_content_length_is_400(http, kind, cut):
    path, media_type, body = KINDS[kind]
    headers = [("Content-Type", media_type), ("Content-Length", str(len(body)))]
    refused(http, exchange(http, path, body[:-4], headers, cut=cut), 400, code="body-incomplete")
    assert exchange(http, path, body, headers).status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_cut_where_its_content_would_be_whole_is_400(http, kind):
    path, media_type, body = KINDS[kind]
    headers = [("Content-Type", media_type), ("Content-Length", str(len(body) + 10))]
    refused(http, exchange(http, path, body, headers, cut="ends"), 400, code="body-incomplete")


@pytest.mark.parametrize("kind", KINDS)
def test_an_upload_cut_between_or_inside_chunks_is_400(http, kind):
    path, media_type, body = KINDS[kind]
    headers = [("Content-Type", media_type), ("Transfer-Encoding", "chunked")]
    for sent in (body, body[:-3], b""):
        refused(http, exchange(http, path, sent, headers, cut="raises"), 400, code="body-incomplete")
    assert exchange(http, path, body, headers).status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_compressed_upload_cut_anywhere_is_400(http, kind):
    path, media_type, body = KINDS[kind]
    packed = gzip.compress(body)
    for end in (0, 1, len(packed) // 2, len(packed) - 1):
        headers = [("Content-Type", media_type), ("Content-Length", str(end)), ("Content-Encoding", "gzip")]
        refused(http, exchange(http, path, packed[:end], headers), 400, code="body-incomplete")


def test_a_chunked_upload_on_a_wsgi_server_that_cannot_read_it_is_not_an_empty_record():
    with gate("flask") as http:
        headers = [("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked")]
        answer = exchange(http, "/send/flask-topic", b"value", headers, wsgi={})
        assert answer.status in (400, 411)
        assert http.kafka.produced == []


def test_an_empty_upload_that_is_meant_is_an_empty_value(http):
    assert exchange(http, "/send/flask-topic", b"", [("Content-Length", "0")]).status == 200
    assert http.kafka.produced[0].value == b""


# Framing


@pytest.mark.parametrize("length", ["-5", "abc", "5, 5", "+5", "5.0", "0x5", " "])
def test_a_content_length_that_is_no_number_is_400(http, length):
    if length == " " and isinstance(http.front, FlaskFront):
        pytest.skip("a WSGI server says the same of an empty length and of none")
    refused(http, exchange(http, "/send/flask-topic", b"01234", [("Content-Length", length)]), 400)


@pytest.mark.parametrize("name", ["content-length", "content-type", "content-encoding", "host"])
def test_a_header_that_must_stand_once_and_stands_twice_is_400(name):
    # A WSGI server has joined or chosen before the application sees it, so this is for the production server alone.
    with gate("asgi") as http:
        values = {"content-length": "5", "content-type": "text/plain", "content-encoding": "identity", "host": "a"}
        answer = exchange(http, "/send/flask-topic", b"01234", [(name, values[name])] * 2)
        refused(http, answer, 400, name)


@pytest.mark.parametrize("value", ["gzip, chunked", "chunked, chunked", "identity", "chunked;q=1", "xchunked"])
def test_a_transfer_encoding_other_than_chunked_is_400(http, value):
    refused(http, exchange(http, "/send/flask-topic", b"x", [("Transfer-Encoding", value)]), 400, "transfer-encoding")


def test_a_body_that_is_promised_too_large_is_refused_before_it_is_read(http):
    headers = [("Content-Type", "application/json"), ("Content-Length", "100001")]
    refused(http, exchange(http, "/send", b"", headers, cut="nothing"), 413, code="body-too-large")


# Text that is none


@pytest.mark.parametrize(
    "bad",
    [b'{"message":"\xff"}', b'{"message":"a","key":"\xc3("}', b'{"message":"a","\xff":1}', b'{"message":"\\ud800"}',
     b'{"message":["\\udfff"]}', b'{"message":"a","headers":{"\\ud800":"x"}}', b'{"message":NaN}',
     b'{"message":[-Infinity]}', b'{"message":"a","topic":"\\ud800"}', b'{"message":"a\x00b"}', b'{"message":"a"'],
)  # fmt: skip
@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_no_json_text_is_400_in_every_form(http, bad, compressed):
    def send(body: bytes, media_type: str) -> Answered:
        more = {"content_encoding": "gzip"} if compressed else {}
        packed = gzip.compress(body) if compressed else body
        return http.request("POST", "/send", packed, content_type=media_type, **more)

    refused(http, send(bad, "application/json"), 400, code="invalid-json")
    refused(http, send(b"[" + LINE.strip() + b"," + bad + b"]", "application/json"), 400, code="invalid-json")
    problem = refused(http, send(LINE * 2 + b"\n" + bad + b"\n" + LINE, "application/x-ndjson"), 400)
    assert problem["line"] == 4
    assert "line 4" in problem["detail"]


@pytest.mark.parametrize("blank", [b"\x0c", b"\x0b", b"\xc2\xa0", b"\x00"])
def test_a_blank_that_json_does_not_know_is_a_bad_line(http, blank):
    problem = refused(http, http.lines(LINE + blank + b"\n" + LINE), 400)
    assert problem["line"] == 2


def test_a_bad_line_in_the_middle_stops_all_even_after_a_thousand_good_ones(http):
    body = LINE * 1000 + b"nope\n" + LINE * 1000
    problem = refused(http, http.lines([body[start : start + 1000] for start in range(0, len(body), 1000)]), 400)
    assert problem["line"] == 1001


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b"[\n]"])
def test_an_empty_array_is_422(http, body):
    refused(http, http.send(body), 422, code="empty")


def test_an_empty_ndjson_body_is_422_and_an_empty_json_body_400(http):
    refused(http, http.lines(b""), 422, code="empty")
    refused(http, http.lines(b"\r\n\n"), 422, code="empty")
    refused(http, http.send(b""), 400, code="invalid-json")


@pytest.mark.parametrize("value", ["a\r\nb", "\n", "\r", "a\0"])
def test_cr_and_lf_in_names_and_values_are_refused_wherever_they_can_be_written(http, value):
    quoted = "".join(f"%{byte:02x}" for byte in value.encode())
    refused(http, http.send({"message": 1, "headers": {"h": value}}), 422, "headers.h")
    refused(http, http.send({"message": 1, "headers": {value: "h"}}), 422, "headers")
    refused(http, http.send({"message": 1, "id": value}), 422, "id")
    refused(http, http.send({"message": 1, "topic": value}), 422, "topic")
    refused(http, http.request("POST", f"/send/other?id={quoted}", b"x"), 422, "id")
    event = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "a", "ce_type": "t", "ce_subject": quoted}
    refused(http, http.request("POST", "/send/other", b"x", **event), 422, "ce-subject")


@pytest.mark.parametrize("topic", ["a%20b", "%C3%B1", "..", ".", "a%0d%0ab", "x" * 250, "a%3Fb", "a*"])
@pytest.mark.parametrize("media_type", ["text/plain", "application/cloudevents+json"])
def test_an_illegal_topic_in_the_path_is_422(http, topic, media_type):
    from urllib.parse import unquote

    body = json.dumps({"specversion": "1.0", "id": "1", "source": "a", "type": "t"}).encode()
    path = f"/send/{topic}" if isinstance(http.front, FlaskFront) else f"/send/{unquote(topic)}".replace("?", "%3F")
    problem = refused(http, http.request("POST", path, body, content_type=media_type), 422)
    assert (problem["code"], problem["field"]) == ("illegal-topic", "topic")


def test_a_binary_event_key_that_is_no_text_is_422(http):
    event = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "a", "ce_type": "t", "ce_partitionkey": "%ff"}
    refused(http, http.request("POST", "/send/other", b"x", **event), 422, "ce-partitionkey")


@pytest.mark.parametrize(("partition", "status"), [(0, 200), (2, 200), (3, 422), (-1, 422), (2**31, 422)])
def test_a_partition_must_be_there(http, partition, status):
    answers = [
        http.send({"message": 1, "partition": partition}),
        http.request("POST", f"/send/flask-topic?partition={partition}", b"x"),
        http.send([{"message": 1, "partition": partition}]),
    ]
    assert [answer.status for answer in answers] == [status] * 3
    if status != 200:
        assert {answer.json["field"] for answer in answers} == {"partition"}
        assert http.kafka.produced == []


def test_one_absent_partition_or_topic_among_many_stops_all_and_is_placed(http):
    many = [{"message": n, "partition": n % 3} for n in range(9)]
    problem = refused(http, http.send([*many, {"message": 1, "partition": 3}]), 422, "partition")
    assert problem["index"] == 9
    problem = refused(http, http.send([*many, {"message": 1, "topic": "nope"}, *many]), 404, "topic")
    assert problem["index"] == 9
    body = b"".join(json.dumps(record).encode() + b"\n" for record in [*many, {"message": 1, "topic": "nope"}])
    refused(http, http.lines(body), 404, "topic")


def test_the_largest_record_passes_and_one_byte_more_does_not(http):
    own = len("recado-id") + 36
    assert http.send({"message": "x" * (10_000 - own)}).status == 200
    http.kafka.produced.clear()
    refused(http, http.send({"message": "x" * (10_001 - own)}), 413, code="record-too-large")
    problem = refused(http, http.lines(LINE + json.dumps({"message": "x" * 10_000}).encode()), 413)
    assert problem["line"] == 2


def test_too_many_records_are_413(http, monkeypatch):
    monkeypatch.setattr("recado.gateway.parse.MAX_RECORDS", 10)
    refused(http, http.lines(LINE * 11), 413, code="too-many-records")
    refused(http, http.send([{"message": 1}] * 11), 413, code="too-many-records")
    assert http.lines(LINE * 10).status == 200
