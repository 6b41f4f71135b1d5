"""The parser: any bytes become checked records, or one Problem and none."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recado.gateway import envelope as envelopes
from recado.gateway import parse
from recado.gateway.envelope import Outline
from recado.gateway.parse import LineParser, parse_json, parse_query, parse_raw
from recado.gateway.problem import Problem
from recado.gateway.reader import new_ids
from recado.record import HEADER_ID, Outgoing

OUTLINE = Outline("flask-topic", new_ids, 1_000_000)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

#: JSON as people and programs write it: numbers that no float can hold, spaces anywhere.
NUMBER = st.from_regex(
    r"-?(0|[1-9]\d{0,40})(\.\d{1,20})?([eE][+-]?\d{1,4})?", fullmatch=True, alphabet="0123456789-+.eE"
)
LITERAL = (
    st.sampled_from(["null", "true", "false"])
    | NUMBER
    | TEXT.map(json.dumps)
    | TEXT.map(lambda text: json.dumps(text, ensure_ascii=False))
)
SPACE = st.text(" \t\n\r", max_size=3)


@st.composite
def spaced(draw: st.DrawFn, compact: str) -> str:
    """The same JSON with white space between its tokens."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\[\]{},:"]+', compact)
    return "".join(draw(SPACE) + token for token in tokens) + draw(SPACE)


def compact_json() -> st.SearchStrategy[str]:
    return st.recursive(
        LITERAL,
        lambda inner: (
            st.lists(inner, max_size=4).map(lambda items: "[" + ",".join(items) + "]")
            | st.dictionaries(TEXT, inner, max_size=4).map(
                lambda members: "{" + ",".join(f"{json.dumps(k)}:{v}" for k, v in members.items()) + "}"
            )
        ),
        max_leaves=12,
    )


def one(body: bytes, outline: Outline = OUTLINE) -> Outgoing:
    (record,), is_array = parse_json(body, outline)
    assert not is_array
    return record


def envelope(**fields: Any) -> bytes:
    return json.dumps({"message": "x", **fields}).encode()


def lines(chunks: list[bytes], outline: Outline = OUTLINE) -> list[Outgoing]:
    parser = LineParser(outline)
    for chunk in chunks:
        parser.feed(chunk)
    return parser.finish()


def refusal(call: Any, *arguments: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        call(*arguments)
    assert 400 <= caught.value.status < 500
    return caught.value


def sight(records: list[Outgoing]) -> list[tuple[Any, ...]]:
    """What a reader in Kafka would see, apart from the ids that were made up."""
    return [
        (r.topic, r.value, r.key, r.partition, r.timestamp_ms, [h for h in r.headers if h[0] != HEADER_ID])
        for r in records
    ]


def outcome(call: Any, *arguments: Any) -> Any:
    try:
        return sight(call(*arguments))
    except Problem as problem:
        return problem.status, problem.code, problem.extensions


# Values


@given(st.data())
def test_any_json_becomes_its_compact_form_with_every_digit(data):
    compact = data.draw(compact_json().filter(lambda text: text != "null" and text[0] != '"'))
    record = one(b'{"message":' + data.draw(spaced(compact)).encode() + b"}")
    assert record.value == compact.encode()


@given(TEXT, st.booleans())
def test_any_text_becomes_its_utf_8(text, ascii_only):
    body = json.dumps({"message": text, "key": text}, ensure_ascii=ascii_only).encode()
    record = one(body)
    assert record.value == record.key == text.encode()
    assert sight(lines([body])) == sight([record])


@pytest.mark.parametrize("message", [b"null", b" null ", b"\tnull\r\n"])
def test_null_is_a_tombstone(message):
    body = b'{"message":' + message + b',"key":"k"}'
    assert one(body).value is None
    assert one(b'{"message":"null"}').value == b"null"
    assert one(b'{"message":[null]}').value == b"[null]"


def test_an_empty_text_is_an_empty_value_and_no_tombstone():
    assert one(b'{"message":"","key":""}').value == b""
    assert one(b'{"message":"","key":""}').key == b""
    assert one(b'{"message":"","key":null}').key is None


def test_duplicate_members_and_order_inside_the_message_stay_as_they_were():
    assert one(b'{"message":{"b":1,"a":2,"b":3}}').value == b'{"b":1,"a":2,"b":3}'


# Fields


def test_defaults():
    record = one(b'{"message":"x"}')
    assert (record.topic, record.key, record.partition, record.timestamp_ms) == ("flask-topic", None, -1, 0)
    assert record.headers == [(HEADER_ID, record.id.encode())]


def test_null_is_as_good_as_absent_for_every_optional_field():
    absent = dict.fromkeys(["topic", "key", "headers", "partition", "timestamp", "id"])
    assert sight([one(envelope(**absent))]) == sight([one(envelope())])


def test_headers_keep_their_order_after_recados_own():
    outline = Outline("t", new_ids, 1_000, (("traceparent", b"00-x"),))
    record = one(b'{"message":1,"headers":{"b":"1","a":"\xc3\xb1"},"id":"me"}', outline)
    assert record.headers == [(HEADER_ID, b"me"), ("traceparent", b"00-x"), ("b", b"1"), ("a", "ñ".encode())]


@pytest.mark.parametrize(
    ("given_as", "milliseconds"),
    [
        (1, 1),
        (1767323045000, 1767323045000),
        ("2026-01-02T03:04:05Z", 1767323045000),
        ("2026-01-02T03:04:05.678Z", 1767323045678),
        ("2026-01-02T05:04:05+02:00", 1767323045000),
        ("2026-01-02T03:04:05.678999+00:00", 1767323045679),
    ],
)
def test_timestamps(given_as, milliseconds):
    assert one(envelope(timestamp=given_as)).timestamp_ms == milliseconds
    raw = parse_raw("t", b"", {"timestamp": str(given_as)}, [], OUTLINE)
    assert raw.timestamp_ms == milliseconds


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_iso_8601_is_the_same_moment_as_its_milliseconds(moment):
    record = one(envelope(timestamp=moment.isoformat()))
    assert abs(record.timestamp_ms - moment.timestamp() * 1000) <= 1


WRONG = {
    "topic": [1, 1.5, True, [], {}, "", ".", "..", "a/b", "a b", "ñ", "x" * 250, "a\n", "a\0"],
    "key": [1, 1.5, False, [], {}],
    "partition": ["1", 1.5, True, [], {}, -1, -2, 2**31, 10**30],
    "timestamp": [1.5, True, [], {}, 0, -1, 2**53, 10**30, "", "soon", "2026-01-02", "2026-01-02T03:04:05", "1e3",
                  "1969-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "2026-13-01T00:00:00Z"],
    "id": [1, 1.5, True, [], {}, "", " ", "a b", "ñ", "a\r\nb", "a\0", "x" * 201],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_field_is_named_in_every_form(field, value):
    body = envelope(**{field: value})
    problem = refusal(parse_json, body, OUTLINE)
    assert (problem.status, problem.extensions) == (422, {"field": field})
    assert field in str(problem)
    problem = refusal(parse_json, b"[" + envelope() + b"," + body + b"]", OUTLINE)
    assert (problem.status, problem.extensions) == (422, {"field": field, "index": 1})
    assert str(problem).startswith("record 1: ")
    problem = refusal(lines, [envelope() + b"\n\n" + body + b"\n" + envelope() + b"\n"])
    assert (problem.status, problem.extensions) == (422, {"field": field, "line": 3})
    assert str(problem).startswith("line 3: ")


@pytest.mark.parametrize("value", [1, "a", [], True, {"a": 1}, {"a": None}, {"a": []}])
def test_headers_of_a_wrong_type_are_named(value):
    for body in (envelope(headers=value), b"[" + envelope(headers=value) + b"]"):
        problem = refusal(parse_json, body, OUTLINE)
        assert problem.status == 422
        assert problem.extensions["field"].split(".")[0] == "headers"


@pytest.mark.parametrize("break_", ["\r\n", "\r", "\n", "\0"])
def test_line_breaks_in_headers_are_refused(break_):
    assert refusal(parse_json, envelope(headers={"h": f"a{break_}b"}), OUTLINE).extensions == {"field": "headers.h"}
    assert refusal(parse_json, envelope(headers={f"h{break_}": "a"}), OUTLINE).extensions == {"field": "headers"}
    assert refusal(parse_json, envelope(headers={"": "a"}), OUTLINE).extensions == {"field": "headers"}
    assert refusal(parse_json, envelope(headers={"Recado-ID": "a"}), OUTLINE).status == 422


def test_unknown_and_missing_members_are_named():
    assert refusal(parse_json, b'{"topic":"t"}', OUTLINE).extensions == {"field": "message"}
    assert refusal(parse_json, envelope(mesage=1), OUTLINE).extensions == {"field": "mesage"}
    assert refusal(parse_json, envelope(**{"a`b": 1}), OUTLINE).extensions == {"field": "a`b"}
    assert refusal(parse_json, envelope(Message=1), OUTLINE).extensions == {"field": "Message"}


@pytest.mark.parametrize("body", [b"1", b'"x"', b"true", b"null", b"[1]", b"[[]]", b'[{"message":1},null]'])
def test_an_envelope_is_an_object(body):
    assert refusal(parse_json, body, OUTLINE).status == 422


# Not JSON

NOT_JSON = [
    b"", b" ", b"{", b"}", b"nope", b"{'message':1}", b'{"message":}', b'{"message":1,}', b'{"message":1}}',
    b'{"message":1} x', b'{"message":NaN}', b'{"message":{"a":NaN}}', b'{"message":Infinity}', b'{"message":-Infinity}',
    b'{"message":01}', b'{"message":1.}', b'{"message":.5}', b'{"message":+1}', b'{"message":"a}', b'{"message":"\\x"}',
    b'{"message":"\\u12"}', b'{"message":"\x01"}', b'{"message":"\xff"}', b'{"message":"\xc3"}',
    b'{"message":"\xed\xa0\x80"}', b'{"message":"\\ud800"}', b'{"message":"\\udc00 "}', b'{"message":["\\ud800x"]}',
    b'{"message":1,"key":"\\ud800"}', b'{"message":{"\\ud800":1}}', b'{"message":1,"headers":{"a":"\\udfff"}}',
    b"\xef\xbb\xbf" + b'{"message":1}', b'{"message":truE}', b'{"message":nul}', b"[", b"[]]",
    b'{"message":' + b"[" * 100_000, b'{"message":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    '{"message":1}'.encode("utf-16"), b"\0", b'{"message":1}\0', b"/**/{}",
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:30]))
def test_what_is_not_json_is_400_in_every_form(body):
    assert (refusal(parse_json, body, OUTLINE).status, refusal(parse_json, body, OUTLINE).code) == (400, "invalid-json")
    assert refusal(parse_json, b"[" + envelope() + b"," + body + b"]", OUTLINE).status in (400, 422)
    if body.strip() and b"\n" not in body:
        problem = refusal(lines, [envelope() + b"\n" + envelope(partition=1) + b"\n" + body + b"\n" + envelope()])
        assert problem.status in ((400, 422) if body[:1] == b"[" else (400,))
        assert problem.extensions["line"] == 3


def test_an_empty_array_or_body_is_422():
    assert refusal(parse_json, b" [ ] ", OUTLINE).code == "empty"
    assert refusal(lines, []).code == "empty"
    assert refusal(lines, [b"\n\r\n  \n"]).code == "empty"


# NDJSON


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"a"}{"message":"b"}\n',
        b'{"message":"a"} {"message":"b"}\n\n',
        b'{"message":"a"} {"message":"b"}\n{"message":\n"c"}\n',
        b'{"message":\n"c"}\n',
        b'{"message":\n"c"}\n\n',
        b'{"message":1}{"message":2}\n',
        b'{"message":1} {"message":2}\n\n',
        b'{"message":1,"id":\n"c"}\n',
        b'{"message":"a"}\n[{"message":"b"}]\n',
        b'{"message":"a"} {"message":"b","topic":""}\n',
        b'{"message":{}\n}{"message":1}\n',
    ],
)
def test_a_line_holds_one_record_and_a_record_one_line(body):
    assert refusal(lines, [body]).status in (400, 422)


@pytest.mark.parametrize("odd", [b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xa0", b"\0", b"\xc2\x85", b"\xe2\x80\xa8"])
def test_white_space_that_json_does_not_know_is_400(odd):
    problem = refusal(lines, [b'{"message":"a"}\n' + odd + b"\n"])
    assert (problem.status, problem.extensions) == (400, {"line": 2})
    assert refusal(lines, [b'{"message":"a"}\n' + odd]).status == 400


def test_lines_may_end_in_crlf_and_the_last_one_in_nothing():
    assert [r.value for r in lines([b'{"message":"a"}\r\n\r\n{"message":2}\r\n{"message":"c"}'])] == [b"a", b"2", b"c"]


NDJSON_LINE = st.one_of(
    st.builds(lambda text: json.dumps({"message": text}).encode(), TEXT),
    st.builds(lambda text: json.dumps({"message": text, "key": text}, ensure_ascii=False).encode(), TEXT),
    st.builds(lambda inner: b'{"message": ' + inner.encode() + b"}", compact_json()),
    st.builds(lambda number: envelope(partition=number, id="i", headers={"a": "b"}), st.integers(0, 9)),
    st.sampled_from([b"", b" ", b"\r", b'{"message":"a","topic":"other"}']),
)

BAD_LINE = st.sampled_from(
    [b"{", b"\x0c", b'{"message":NaN}', b'{"message":1}{"message":2}', b'{"message":"\xff"}', b'{"message":1,"key":1}',
     b'{"message":"a","topic":""}', b'{"message":"a"} {"message":"b"}', b"[]", b'{"message":']
)  # fmt: skip


@st.composite
def cut(draw: st.DrawFn, body: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [body[start:end] for start, end in pairwise([0, *places, len(body)])]


@given(st.data(), st.lists(NDJSON_LINE, min_size=1, max_size=8), st.booleans())
def test_ndjson_gives_the_same_records_however_it_is_cut(data, content, last_newline):
    body = b"\n".join(content) + (b"\n" if last_newline else b"")
    chunks = data.draw(cut(body))
    assert outcome(lines, chunks) == outcome(lines, [body])
    single = [line for line in content if line.strip()]
    if single:
        assert sight(lines(chunks)) == sight([one(line) for line in single])


@given(st.data(), st.lists(NDJSON_LINE | BAD_LINE, min_size=1, max_size=6), BAD_LINE)
@example(None, [b'{"message":"a"} {"message":"b"}'], b"")
def test_a_bad_line_is_refused_however_the_body_is_cut(data, before, bad):
    body = b"\n".join([*before, bad, b'{"message":"z"}', b""])
    chunks = data.draw(cut(body)) if data else [body[:33], body[33:]]
    status = outcome(lines, chunks)[0]
    assert status in (400, 422), "taken, though a line is bad"


@given(st.lists(NDJSON_LINE.filter(bytes.strip), max_size=5), BAD_LINE)
def test_the_first_bad_line_is_named(before, bad):
    problem = refusal(lines, [b"\n".join([*before, bad, b'{"message":"z"}', b""])])
    assert problem.extensions["line"] == len(before) + 1
    assert str(problem).startswith(f"line {len(before) + 1}: ")


def test_a_long_line_in_tiny_chunks_costs_no_more_than_its_length():
    body = b'{"message":"' + b"x" * 900_000 + b'"}'
    began = time.process_time()
    assert len(lines([body[start : start + 16] for start in range(0, len(body), 16)])) == 1
    assert time.process_time() - began < 1.0, "joining chunk by chunk is quadratic: one client can hold the loop"


# Nothing but Problem


@given(st.binary(max_size=80))
@example(b"\x0c\n")
def test_random_bytes_never_raise_anything_but_problem(body):
    outcome(lambda: parse_json(body, OUTLINE)[0])
    outcome(lines, [body])
    outcome(lines, [body, body])


@given(st.lists(st.sampled_from(b'{}[]:,"\\ \n\x0cau01\xff-.e\xc3') | st.just(0x6E), max_size=30).map(bytes))
def test_random_json_like_bytes_never_raise_anything_but_problem(noise):
    for body in (noise, b'{"message":' + noise + b"}", b'{"message":"a","key":' + noise, b'[{"message":' + noise):
        outcome(lambda body=body: parse_json(body, OUTLINE)[0])
        outcome(lines, [body])


JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["message", "topic", "key", "headers", "partition", "timestamp", "id", "deliver_at", "delay", "x"]
        ),
        JSON_VALUE,
    )
)
def test_any_types_in_any_field_never_raise_anything_but_problem(fields):
    body = json.dumps(fields).encode("utf-8", "surrogatepass")
    single = outcome(lambda: parse_json(body, OUTLINE)[0])
    listed = outcome(lambda: parse_json(b"[" + body + b"]", OUTLINE)[0])
    lined = outcome(lines, [body])
    assert [type(result) for result in (single, listed, lined)] == [type(single)] * 3
    if isinstance(single, tuple):
        assert single[:2] == listed[:2] == lined[:2]


@given(st.text(max_size=30), st.binary(max_size=30))
def test_any_query_never_raises_anything_but_problem(text, body):
    try:
        query = parse_query(text, frozenset({"key", "partition", "timestamp", "id"}))
        parse_raw("t", body, query, [(b"recado-header-a", body)], OUTLINE)
    except Problem as problem:
        assert problem.status in (413, 422)  # noqa: PT017  # both ways are right


# Sizes


def test_a_record_is_measured_with_its_key_and_headers():
    own = len(HEADER_ID) + 36
    outline = Outline("t", new_ids, 100 + own)
    assert one(envelope(message="x" * 100), outline).value == b"x" * 100
    assert lines([envelope(message="x" * 100)], outline)
    assert parse_raw("t", b"x" * 100, {}, [], outline)
    for body in (
        envelope(message="x" * 101),
        envelope(message="x" * 100, key="k"),
        envelope(message="x" * 99, headers={"a": "b"}),
        envelope(message="ñ" * 51),
        envelope(message=["x" * 97]),
    ):
        for call in (one, lambda body, outline: lines([body], outline)):
            problem = refusal(call, body, outline)
            assert (problem.status, problem.code) == (413, "record-too-large")
    assert refusal(parse_raw, "t", b"x" * 101, {}, [], outline).status == 413
    assert refusal(parse_raw, "t", b"x" * 99, {"key": "kk"}, [], outline).status == 413
    assert refusal(parse_raw, "t", b"x" * 98, {}, [(b"recado-header-a", b"bb")], outline).status == 413


def test_a_trace_counts_and_the_line_of_a_large_record_is_named():
    outline = Outline("t", new_ids, 200, (("traceparent", b"x" * 55),))
    assert refusal(lines, [envelope(message="x" * 150)], outline).status == 413
    problem = refusal(lines, [envelope() + b"\n" + envelope(message="x" * 300) + b"\n"], outline)
    assert problem.extensions["line"] == 2


def test_too_many_records_are_413(monkeypatch):
    monkeypatch.setattr(parse, "MAX_RECORDS", 3)
    three = envelope() + b"\n" + envelope() + b"\n" + envelope() + b"\n"
    assert len(lines([three])) == 3
    assert len(parse_json(b"[" + three.strip().replace(b"\n", b",") + b"]", OUTLINE)[0]) == 3
    assert refusal(lines, [three + envelope()]).code == "too-many-records"
    assert refusal(lines, [three, envelope() + b"\n"]).code == "too-many-records"
    assert refusal(parse_json, b"[" + b",".join([envelope()] * 4) + b"]", OUTLINE).code == "too-many-records"
    nested = envelope(message=[{}] * 9)
    assert len(parse_json(b"[" + b",".join([nested] * 3) + b"]", OUTLINE)[0]) == 3, "braces are not records"


def test_too_many_headers_are_too_large_a_record_before_each_is_looked_at(monkeypatch):
    monkeypatch.setattr(envelopes, "checked_header", None)
    headers = {f"h{number}": "" for number in range(101)}
    assert refusal(one, envelope(headers=headers), Outline("t", new_ids, 100)).code == "record-too-large"


# Raw bodies and query strings


@given(st.binary(max_size=200))
def test_a_raw_body_is_the_value_whatever_it_is(body):
    assert parse_raw("t", body, {}, [], OUTLINE).value == body


@given(TEXT)
def test_a_key_in_the_query_is_its_utf_8(text):
    quoted = "".join(f"%{byte:02X}" for byte in text.encode())
    query = parse_query(f"key={quoted}", frozenset({"key"}))
    assert parse_raw("t", b"", query, [], OUTLINE).key == text.encode()


def test_header_names_of_a_raw_body():
    headers = [
        (b"content-type", b"image/png"),
        (b"recado-header-a-b", b"1"),
        (b"recado-header-a-b", b"2"),
        (b"x", b"y"),
    ]
    record = parse_raw("t", b"", {"id": "me"}, headers, OUTLINE)
    assert record.headers == [(HEADER_ID, b"me"), ("content-type", b"image/png"), ("a-b", b"1"), ("a-b", b"2")]
    for name in (b"recado-header-", b"recado-header-recado-id", b"recado-header-content-type"):
        assert refusal(parse_raw, "t", b"", {}, [(name, b"x")], OUTLINE).extensions["field"] == name.decode()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("partition=x", "partition"), ("partition=", "partition"), ("partition=-1", "partition"),
        ("partition=1.0", "partition"), ("partition=%2B1", "partition"), ("partition=٣", "partition"),
        ("partition=99999999999999999999", "partition"), ("partition=2147483648", "partition"),
        ("timestamp=", "timestamp"), ("timestamp=soon", "timestamp"), ("timestamp=0", "timestamp"),
        ("timestamp=2026-01-02T03:04:05", "timestamp"), ("id=", "id"), ("id=a%0d%0ab", "id"), ("id=a%20b", "id"),
        ("key=%ff", "key"), ("key=a&key=b", "key"), ("kye=a", "kye"), ("topic=a", "topic"), ("&", "?"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(query, field):
    def read() -> None:
        parse_raw("t", b"", parse_query(query, frozenset({"key", "partition", "timestamp", "id"})), [], OUTLINE)

    problem = refusal(read)
    assert (problem.status, problem.extensions["field"]) == (422, field)


@pytest.mark.parametrize("topic", ["", ".", "..", "a b", "ñ", "x" * 250, "a\n"])
def test_an_illegal_topic_in_the_path_is_named(topic):
    problem = refusal(parse_raw, topic, b"x", {}, [], OUTLINE)
    assert (problem.status, problem.code, problem.extensions) == (422, "illegal-topic", {"field": "topic"})


# Ids


def test_ids_are_uuids_of_version_7_and_never_the_same():
    ids = [record_id for count in (1, 1, 2, 1000, 1000) for record_id in new_ids(count)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)
    many = new_ids(1000)
    assert many == sorted(many)


@pytest.mark.parametrize(
    ("field", "value", "bounds"),
    [
        ("partition", 2147483648, "between 0 and 2147483647"),
        ("timestamp", 9223372036854775807, "between 1 and 9007199254740991"),
    ],
)
def test_a_number_that_is_too_large_is_told_both_bounds(field, value, bounds):
    assert bounds in str(refusal(one, envelope(**{field: value})))
