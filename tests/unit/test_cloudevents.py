"""CloudEvents 1.0: what the HTTP binding says comes in, what the Kafka binding says goes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.gateway import parse
from recado.gateway.envelope import Outline
from recado.gateway.problem import Problem
from recado.gateway.reader import Reader, Shape, Submission, new_ids
from recado.record import HEADER_ID
from recado.settings import Settings

SETTINGS = Settings(max_record_bytes=10_000)
OUTLINE = Outline("flask-topic", new_ids, 10_000)

EVENT = {"specversion": "1.0", "id": "A234-1234", "source": "/mycontext", "type": "com.example.someevent"}

#: The example of the HTTP binding, section 3.1.4, as a server gives it.
BINARY = [
    (b"ce-specversion", b"1.0"),
    (b"ce-type", b"com.example.someevent"),
    (b"ce-time", b"2018-04-05T03:56:24Z"),
    (b"ce-id", b"1234-1234-1234"),
    (b"ce-source", b"/mycontext/subcontext"),
    (b"content-type", b"application/json; charset=utf-8"),
]


def sent(body: bytes, headers: list[tuple[bytes, bytes]], query: str = "", topic: str = "orders") -> Submission:
    reader = Reader(topic, query, headers, settings=SETTINGS)
    reader.feed(body)
    return reader.finish()


def structured(event: Any, query: str = "", **more: bytes) -> Submission:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    headers = [(b"content-type", b"application/cloudevents+json; charset=UTF-8")]
    headers += [(name.replace("_", "-").encode(), value) for name, value in more.items()]
    return sent(body, headers, query)


def batch(events: Any) -> Submission:
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    return sent(body, [(b"content-type", b"application/cloudevents-batch+json")])


def refusal(call: Any, *arguments: Any, **named: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        call(*arguments, **named)
    assert 400 <= caught.value.status < 500
    return caught.value


def without(headers: list[tuple[bytes, bytes]], name: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0] != name]


# Binary mode


def test_binary_attributes_become_ce_headers_and_the_data_the_value():
    submission = sent(b'{"a" : 1}', BINARY)
    assert submission.shape is Shape.ONE
    (record,) = submission.records
    assert (record.topic, record.value, record.key) == ("orders", b'{"a" : 1}', None)
    assert sorted(record.headers) == sorted(
        [
            (HEADER_ID, record.id.encode()),
            ("ce_specversion", b"1.0"),
            ("ce_type", b"com.example.someevent"),
            ("ce_time", b"2018-04-05T03:56:24Z"),
            ("ce_id", b"1234-1234-1234"),
            ("ce_source", b"/mycontext/subcontext"),
            ("content-type", b"application/json; charset=utf-8"),
        ]
    )


def test_binary_extensions_come_along_and_percent_encoding_is_undone():
    (record,) = sent(b"", [*BINARY, (b"ce-comexampleextension1", b"Euro%20%E2%82%AC%20%F0%9F%98%80")]).records
    assert ("ce_comexampleextension1", "Euro € 😀".encode()) in record.headers


@pytest.mark.parametrize(
    ("value", "text"),
    [(b'"Euro"', b"Euro"), (b'"a \\"b\\" \\\\"', b'a "b" \\'), (b'"a%20b"', b"a b"), (b'a"b', b'a"b'), (b'"', b'"')],
)
def test_binary_attributes_in_quotes_of_older_senders_are_unquoted(value, text):
    (record,) = sent(b"", [*BINARY, (b"ce-subject", value)]).records
    assert ("ce_subject", text) in record.headers


def test_binary_partitionkey_is_the_key_unless_the_query_names_one():
    headers = [*BINARY, (b"ce-partitionkey", b"k%201")]
    assert sent(b"", headers).records[0].key == b"k 1"
    assert sent(b"", headers, "key=other").records[0].key == b"other"


@pytest.mark.parametrize("name", [b"ce-id", b"ce-source", b"ce-type"])
def test_binary_without_a_required_attribute_names_it(name):
    assert refusal(sent, b"", without(BINARY, name)).extensions == {"field": name.decode()}
    assert refusal(sent, b"", [*without(BINARY, name), (name, b"")]).extensions == {"field": name.decode()}


@pytest.mark.parametrize("version", [b"0.3", b"1.1", b"2", b"x", b""])
def test_binary_of_another_version_is_422(version):
    headers = [*without(BINARY, b"ce-specversion"), (b"ce-specversion", version)]
    assert refusal(sent, b"", headers).extensions == {"field": "ce-specversion"}


def test_ce_headers_without_a_version_are_no_event():
    (record,) = sent(b"x", without(BINARY, b"ce-specversion")).records
    assert not [name for name, _ in record.headers if name.startswith("ce_")]


@pytest.mark.parametrize("value", [b"%ff", b"a%0d%0aSet-Cookie: x", b"a%00", b"\xff"])
@pytest.mark.parametrize("name", [b"ce-partitionkey", b"ce-subject"])
def test_binary_attributes_are_text_without_line_breaks(name, value):
    # Kafka binding 3.2.3: attributes are UTF-8 text; the type system allows no control characters.
    assert refusal(sent, b"", [*BINARY, (name, value)]).extensions["field"] == name.decode()


def test_a_binary_attribute_stands_once():
    problem = refusal(sent, b"", [*BINARY, (b"ce-id", b"another")])
    assert problem.extensions["field"] == "ce-id"


# Structured mode


def test_structured_is_the_event_as_it_came():
    body = b'{"specversion" : "1.0", "id":"1","source":"/a","type":"t", "data": {"n": 1.10}}'
    submission = structured(body)
    assert submission.shape is Shape.ONE
    (record,) = submission.records
    assert (record.topic, record.value, record.key) == ("orders", body, None)
    assert record.headers == [
        (HEADER_ID, record.id.encode()),
        ("content-type", b"application/cloudevents+json; charset=UTF-8"),
    ]


def test_structured_partitionkey_is_the_key():
    assert structured({**EVENT, "partitionkey": "ñ"}).records[0].key == "ñ".encode()
    assert structured({**EVENT, "partitionkey": ""}).records[0].key in (b"", None)


def test_what_the_query_says_of_a_structured_event_is_done_or_refused():
    try:
        (record,) = structured(EVENT, "key=k&partition=2&id=me&timestamp=1767323045000").records
    except Problem as problem:
        assert problem.status == 422  # noqa: PT017  # either is true; only silence is not
        return
    assert (record.key, record.partition, record.id, record.timestamp_ms) == (b"k", 2, "me", 1767323045000)


def test_headers_asked_for_with_a_structured_event_are_kept():
    (record,) = structured(EVENT, recado_header_tenant=b"a").records
    assert ("tenant", b"a") in record.headers


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_structured_without_a_required_attribute_names_it(name):
    missing = {key: value for key, value in EVENT.items() if key != name}
    for event in (missing, {**EVENT, name: ""}, {**EVENT, name: 1}, {**EVENT, name: None}):
        assert refusal(structured, event).extensions["field"] == name


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 422), (b"1", 422), (b"null", 422), (b'{"specversion":"2.0"}', 422),
     (b"\xff", 400), (b'{"id":"\\ud800"}', 400), (b'{"id":NaN}', 400), (b'{"data":' + b"[" * 100_000, 400)],
)  # fmt: skip
def test_structured_that_is_no_event_is_refused(body, status):
    assert refusal(structured, body).status == status
    assert refusal(batch, b"[" + json.dumps(EVENT).encode() + b"," + body + b"]").status in (400, 422)


@pytest.mark.parametrize("key", [1, True, [], {}])
def test_a_partitionkey_is_a_text(key):
    assert refusal(structured, {**EVENT, "partitionkey": key}).extensions["field"] == "partitionkey"


# Batches


def test_each_event_of_a_batch_is_a_structured_record():
    first, second = json.dumps({**EVENT, "id": "1"}), '{ "partitionkey":"k",' + json.dumps({**EVENT, "id": "2"})[1:]
    submission = batch(f" [ {first} , {second} ] ".encode())
    assert submission.shape is Shape.ARRAY
    assert [record.value for record in submission.records] == [first.encode(), second.encode()]
    assert [record.key for record in submission.records] == [None, b"k"]
    assert {dict(record.headers)["content-type"] for record in submission.records} == {
        b"application/cloudevents+json; charset=UTF-8"
    }
    assert len({record.id for record in submission.records}) == 2


def test_a_bad_event_in_a_batch_is_placed():
    problem = refusal(batch, [EVENT, {**EVENT, "type": 1}])
    assert problem.extensions["field"] == "type"
    assert "record 1" in str(problem)
    assert refusal(batch, [EVENT, 1]).status == 422


def test_an_empty_batch_and_one_that_is_no_array_are_422():
    assert refusal(batch, []).code == "empty"
    assert refusal(batch, EVENT).status == 422


# Bounds, for every mode


@pytest.mark.parametrize("topic", [".", "a b", "x" * 250])
def test_an_illegal_topic_is_named_in_every_mode(topic):
    body = json.dumps(EVENT).encode()
    for headers, payload in (
        (BINARY, b""),
        ([(b"content-type", b"application/cloudevents+json")], body),
        ([(b"content-type", b"application/cloudevents-batch+json")], b"[" + body + b"]"),
    ):
        problem = refusal(sent, payload, headers, "", topic)
        assert (problem.status, problem.code) == (422, "illegal-topic")


def test_sizes_and_counts_are_bounded(monkeypatch):
    large = {**EVENT, "data": "x" * 10_000}
    assert refusal(structured, large).code == "record-too-large"
    assert refusal(batch, [EVENT, large]).code == "record-too-large"
    assert refusal(sent, b"x", [*BINARY, (b"ce-a", b"x" * 10_000)]).code == "record-too-large"
    monkeypatch.setattr(parse, "MAX_RECORDS", 2)
    assert refusal(batch, [EVENT] * 3).code == "too-many-records"


CE_HEADER = st.tuples(
    st.sampled_from([b"ce-id", b"ce-a", b"ce-", b"ce-partitionkey", b"ce-time"]), st.binary(max_size=9)
)


@given(st.lists(CE_HEADER, max_size=4), st.binary(max_size=40))
def test_noise_never_raises_anything_but_problem(extra, body):
    for headers in (
        [*BINARY, *extra],
        [(b"content-type", b"application/cloudevents+json")],
        [(b"content-type", b"application/cloudevents-batch+json")],
    ):
        try:
            sent(body, headers)
        except Problem as problem:
            assert problem.status < 500  # noqa: PT017  # both ways are right
