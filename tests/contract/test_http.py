"""One suite for both fronts: what a request gets, and what Kafka gets."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator

import pytest
import zstandard

from recado.errors import DeliveryFailed, DeliveryUnknown, NotAllowed, RecordTooLarge, UnknownTopic
from tests.fronts import Gate, gate


@pytest.fixture(params=["flask", "asgi"])
def http(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Gate]:
    with gate(request.param, max_body_bytes=100_000, max_record_bytes=10_000) as opened:
        yield opened
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


def refused(http: Gate, answer, status: int, field: str | None = None, code: str | None = None) -> dict:
    """A problem document that names the field, and nothing produced."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert {"title", "detail", "code"} <= problem.keys()
    if field is not None:
        assert problem["field"] == field
        assert field in problem["detail"].lower()
    if code is not None:
        assert problem["code"] == code
    assert http.kafka.produced == []
    return problem


def test_a_string_becomes_its_bytes_and_is_answered_with_its_place(http):
    answer = http.send({"message": "Hola Kafka", "topic": "flask-topic"})
    assert answer.status == 200
    (record,) = http.kafka.produced
    assert record.value == b"Hola Kafka"
    assert answer.json == {
        "status": "delivered", "id": record.id, "topic": "flask-topic", "partition": 0, "offset": 0,
        "timestamp": 1_700_000_000_000,
    }  # fmt: skip
    assert ("recado-id", record.id.encode()) in record.headers


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (b'"a\\n\\u00e9\\ud83d\\ude00"', "a\né😀".encode()),
        (
            b'{"a" : [1, 1.10, 1e400, 123456789012345678901234567890]}',
            b'{"a":[1,1.10,1e400,123456789012345678901234567890]}',
        ),
        (b"null", None),
        (b"true", b"true"),
        (b'""', b""),
        (b" 12 ", b"12"),
    ],
)
def test_values_keep_every_digit(http, message, value):
    assert http.send(b'{"message":' + message + b"}").status == 200
    assert http.kafka.produced[0].value == value


def test_all_fields_reach_kafka(http):
    answer = http.send(
        {
            "message": 1, "topic": "flask-topic", "key": "k", "headers": {"a": "ñ"}, "partition": 2,
            "timestamp": "2026-01-02T03:04:05Z", "id": "my-id-1",
        },
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )  # fmt: skip
    assert answer.status == 200
    (record,) = http.kafka.produced
    assert (record.key, record.partition, record.timestamp_ms, record.id) == (b"k", 2, 1767323045000, "my-id-1")
    assert ("a", "ñ".encode()) in record.headers
    assert ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") in record.headers


def test_an_array_is_answered_in_its_order(http):
    answer = http.send([{"message": "a"}, {"message": "b", "key": "k"}])
    assert [result["offset"] for result in answer.json] == [0, 1]
    assert [record.value for record in http.kafka.produced] == [b"a", b"b"]


def test_ndjson_is_answered_in_ndjson_however_it_was_cut(http):
    body = b'{"message":"a"}\n\n{"message":{"b":1}}\n{"message":"c","key":"k"}'
    answer = http.lines([body[:7], body[7:30], body[30:]])
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [result["status"] for result in answer.lines] == ["delivered"] * 3
    assert [record.value for record in http.kafka.produced] == [b"a", b'{"b":1}', b"c"]
    assert len({record.id for record in http.kafka.produced}) == 3


def test_minimal_answers_many_with_one_summary(http):
    answer = http.lines(b'{"message":"a"}\n' * 5, prefer="return=minimal")
    assert answer.json == {
        "status": "delivered",
        "records": 5,
        "delivered": 5,
        "accepted": 0,
        "failed": 0,
        "unknown": 0,
    }
    assert answer.headers["preference-applied"] == "return=minimal"


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_compressed_bodies(http, encoding, compress):
    assert http.lines(compress(b'{"message":"a"}\n' * 3), content_encoding=encoding).status == 200
    assert len(http.kafka.produced) == 3
    http.kafka.produced.clear()
    refused(http, http.lines(compress(b'{"message":"a"}\n' * 3)[:-5], content_encoding=encoding), 400)
    refused(http, http.lines(b"plain", content_encoding=encoding), 400)
    refused(http, http.lines(compress(b" " * 200_000), content_encoding=encoding), 413, code="body-too-large")


def test_a_raw_body_is_the_value_byte_for_byte(http):
    answer = http.request(
        "POST", "/send/flask-topic?key=k%C3%B1&partition=1&timestamp=1767323045000&id=x1", b"\x00\xff",
        content_type="image/png", Recado_Header_Source="cam 1",
    )  # fmt: skip
    assert answer.status == 200
    (record,) = http.kafka.produced
    assert (record.value, record.key, record.partition, record.id) == (b"\x00\xff", "kñ".encode(), 1, "x1")
    assert ("content-type", b"image/png") in record.headers
    assert ("source", b"cam 1") in record.headers


def test_cloudevents_in_three_modes(http):
    attributes = {"ce_id": "1", "ce_source": "/a", "ce_type": "t", "ce_specversion": "1.0", "ce_partitionkey": "p"}
    assert http.request("POST", "/send/other", b"<x/>", content_type="text/xml", **attributes).status == 200
    event = {"id": "2", "source": "/a", "type": "t", "specversion": "1.0", "data": {"n": 1}, "partitionkey": "q"}
    body = json.dumps(event).encode()
    assert http.request("POST", "/send/other", body, content_type="application/cloudevents+json").status == 200
    batch = b"[" + body + b"]"
    answer = http.request("POST", "/send/other", batch, content_type="application/cloudevents-batch+json")
    assert [result["status"] for result in answer.json] == ["delivered"]
    binary, structured, batched = http.kafka.produced
    assert binary.value == b"<x/>"
    assert binary.key == b"p"
    assert {"ce_id": b"1", "ce_type": b"t", "content-type": b"text/xml"}.items() <= dict(binary.headers).items()
    assert (structured.value, structured.key, batched.value) == (body, b"q", body)
    http.kafka.produced.clear()
    refused(http, http.request("POST", "/send/other", b"x", ce_specversion="1.0", ce_id="1"), 422, "ce-source")
    refused(http, http.request("POST", "/send/other", b"{}", content_type="application/cloudevents+json"), 422)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"message":NaN}', b'{"message":Infinity}', b'{"message":"\xff"}', b'{"message":"\\ud800"}',
     b'{"message":{"a":"\\udc00 "}}', b'{"message":1}}', b"nope", b'{"message":' + b"[" * 5000 + b"]" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_not_json_is_400(http, body):
    refused(http, http.send(body), 400, code="invalid-json")
    refused(http, http.lines(b'{"message":"fine"}\n' + body.replace(b"\n", b"") + b"x\n"), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [("topic", 1), ("topic", None.__class__.__name__ + "!"), ("topic", ""), ("topic", "a/b"), ("topic", "."),
     ("topic", "x" * 250), ("key", 1), ("key", {}), ("headers", []), ("headers", {"a": 1}), ("partition", "1"),
     ("partition", 1.5), ("partition", -1), ("partition", 3), ("partition", 2**40), ("partition", True),
     ("timestamp", True), ("timestamp", 0), ("timestamp", -5), ("timestamp", "yesterday"),
     ("timestamp", "2026-01-02T03:04:05"), ("timestamp", []), ("id", 1), ("id", ""), ("id", "a b"), ("id", "ñ"),
     ("id", "x" * 201), ("mesage", "typo"), ("delay", "10"), ("delay", "-1s"), ("delay", "1h30m"),
     ("delay", "31d"), ("delay", 10), ("deliver_at", "2026-01-02T03:04:05"), ("deliver_at", 0), ("deliver_at", 2**52)],
)  # fmt: skip
def test_a_wrong_field_is_named(http, field, value):
    refused(http, http.send({"message": "x", field: value}), 422, field if field != "headers" else None)
    problem = refused(http, http.send([{"message": "x"}, {"message": "x", field: value}]), 422)
    assert problem["index"] == 1
    lines = b'{"message":"x"}\n\n' + json.dumps({"message": "x", field: value}).encode() + b'\n{"message":"x"}\n'
    problem = refused(http, http.lines(lines), 422)
    assert problem.get("line", 3) == 3


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "\0"])
def test_line_breaks_in_header_values_are_refused(http, value):
    refused(http, http.send({"message": 1, "headers": {"h": value}}), 422, "headers.h")
    refused(http, http.send({"message": 1, "headers": {"recado-id": "forged"}}), 422, "headers.recado-id")


def test_message_is_required_and_envelopes_are_objects(http):
    refused(http, http.send({"topic": "flask-topic"}), 422, "message")
    refused(http, http.send([]), 422, code="empty")
    refused(http, http.lines(b"\n \n"), 422, code="empty")
    refused(http, http.send([1]), 422)
    refused(http, http.send(b'"x"'), 422)
    refused(http, http.lines(b'{"message":1}{"message":2}\n'), 400)


def test_the_media_type_and_the_encoding_must_be_known(http):
    refused(http, http.send({"message": 1}, content_type="text/plain"), 415)
    refused(http, http.send({"message": 1}, content_encoding="br"), 415, "content-encoding")
    refused(http, http.send({"message": 1}, idempotency_key="k k"), 422, "idempotency-key")


def test_bodies_and_records_that_are_too_large(http):
    refused(http, http.send({"message": "x" * 10_001}), 413, code="record-too-large")
    refused(http, http.request("POST", "/send/other", b"x" * 10_001), 413, code="record-too-large")
    refused(http, http.send({"message": "x" * 100_001}), 413, code="body-too-large")
    refused(http, http.lines([b'{"message":"' + b"x" * 60_000, b"x" * 60_000], transfer_encoding="chunked"), 413)


def test_query_parameters_are_checked(http):
    refused(http, http.request("POST", "/send/other?kye=a", b"x"), 422, "kye")
    refused(http, http.request("POST", "/send/other?key=a&key=b", b"x"), 422, "key")
    refused(http, http.request("POST", "/send/other?key=%FF", b"x"), 422, "key")
    refused(http, http.request("POST", "/send/other?partition=-1", b"x"), 422, "partition")
    refused(http, http.request("POST", "/send/other?partition=1", b"x"), 422, "partition")
    refused(http, http.request("POST", "/send/other?timestamp=soon", b"x"), 422, "timestamp")
    refused(http, http.request("POST", "/send?key=a", b"{}", content_type="application/json"), 422, "key")


def test_an_unknown_topic_is_404_and_one_made_meanwhile_is_found(http):
    problem = refused(http, http.send({"message": 1, "topic": "nope"}), 404, "topic", "unknown-topic")
    assert "--create --topic nope" in problem["detail"]
    refused(http, http.request("POST", "/send/nope", b"x"), 404)
    refused(http, http.send([{"message": 1}, {"message": 1, "topic": "nope"}]), 404, "topic")
    http.kafka.later["nope"] = 1
    assert http.send({"message": 1, "topic": "nope"}).status == 200


def test_kafkas_own_topics_are_403(http):
    refused(http, http.send({"message": 1, "topic": "__consumer_offsets"}), 403, "topic", "not-allowed")


def test_no_broker_is_503_with_retry_after(http):
    http.kafka.reachable = False
    answer = http.send({"message": 1})
    refused(http, answer, 503, code="kafka-unreachable")
    assert int(answer.headers["retry-after"]) >= 1
    ready = http.request("GET", "/health/ready")
    assert (ready.status, ready.json["reasons"][0]["code"]) == (503, "kafka-unreachable")
    assert http.request("GET", "/health/live").status == 200


def test_silence_is_504_unknown_after_the_wait(http):
    http.kafka.fate = lambda number, record: None
    answer = http.send({"message": 1}, prefer="wait=0")
    assert answer.status == 504
    assert answer.json["status"] == "unknown"
    assert answer.json["id"] == http.kafka.produced[0].id
    many = http.lines(b'{"message":1}\n' * 2, prefer="wait=0, return=minimal")
    assert (many.status, many.json["unknown"], many.json["delivered"]) == (504, 2, 0)
    flush = http.request("POST", "/flush?timeout=0")
    assert (flush.status, flush.json["pending"]) == (504, 3)
    http.kafka.speak()
    flush = http.request("POST", "/flush")
    assert (flush.status, flush.json) == (200, {"status": "flushed", "delivered": 3, "pending": 0})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(UnknownTopic("gone"), 404, "unknown-topic"), (NotAllowed("acl"), 403, "not-allowed"),
     (RecordTooLarge("big"), 413, "record-too-large"), (DeliveryFailed("no"), 422, "delivery-failed")],
)  # fmt: skip
def test_what_kafka_refuses_is_never_200(http, error, status, code):
    http.kafka.fate = lambda number, record: error
    answer = http.send({"message": 1})
    assert (answer.status, answer.json["code"], answer.json["id"]) == (status, code, http.kafka.produced[0].id)
    assert answer.headers["content-type"] == "application/problem+json"


def test_different_fates_are_207_and_each_tells_its_own(http):
    fates = {b"a": (0, 7, 1), b"b": RecordTooLarge("big"), b"c": DeliveryUnknown("?")}
    http.kafka.fate = lambda number, record: fates[record.value]
    body = b'{"message":"a"}\n{"message":"b"}\n{"message":"c"}\n'
    answer = http.lines(body)
    assert answer.status == 207
    assert [result["status"] for result in answer.lines] == ["delivered", "failed", "unknown"]
    answer = http.lines(body, prefer="return=minimal")
    assert answer.status == 207
    assert {k: answer.json[k] for k in ("status", "delivered", "failed", "unknown")} == {
        "status": "mixed", "delivered": 1, "failed": 1, "unknown": 1,
    }  # fmt: skip


def test_flush_checks_its_timeout(http):
    for text in ("x", "-1", "nan", "1e9"):
        refused(http, http.request("POST", f"/flush?timeout={text}"), 422, "timeout")


def test_the_other_routes(http):
    http.send({"message": 1})
    metrics = http.request("GET", "/metrics")
    assert b'recado_gateway_records_total{fate="delivered",topic="flask-topic"}' in metrics.body
    assert http.request("GET", "/openapi.json").json["openapi"].startswith("3.1")
    docs = http.request("GET", "/docs")
    assert docs.headers["content-type"].startswith("text/html")
    assert b"POST /send" in docs.body
    assert http.request("HEAD", "/health/live").body == b""
    assert http.request("GET", "/send").status == 405
    assert http.request("GET", "/nowhere").json["code"] == "not-found"


def test_doubtful_framing_is_refused(http):
    answer = http.send({"message": 1}, transfer_encoding="gzip, chunked")
    refused(http, answer, 400, "transfer-encoding")
