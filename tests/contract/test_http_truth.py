"""What both fronts answer while Kafka is slow, silent, away or back: in time, and true."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from recado.errors import Backpressure, RecordTooLarge
from recado.gateway.gateway import Gateway
from recado.gateway.server import gateway_of
from tests.fronts import FlaskFront, Gate, gate
from tests.programs import eventually

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

#: What a busy machine may add to an answer that is due.
SLACK_S = 0.9


@pytest.fixture(params=["flask", "asgi"])
def http(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Gate]:
    with gate(request.param) as opened:
        yield opened
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def gateway(http: Gate) -> Gateway:
    return (
        gateway_of(http.front._client.application) if isinstance(http.front, FlaskFront) else http.front._front._gateway
    )


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


def silent(number: int, record: Any) -> None:
    return None


# Waiting


def test_the_answer_waits_for_the_report_and_no_longer(http, background):
    http.kafka.fate = silent
    waiting = background.submit(http.send, {"message": "late"})
    eventually(lambda: http.kafka.silent)
    assert not waiting.done()
    http.kafka.speak()
    answer = waiting.result(2)
    assert (answer.status, answer.json["status"]) == (200, "delivered")


@pytest.mark.parametrize("kind", ["flask", "asgi"])
@pytest.mark.parametrize("form", ["one", "array", "lines", "minimal", "raw"])
def test_without_a_report_the_answer_is_504_at_the_wait(kind, form):
    with gate(kind, wait_s=0.3) as http:
        http.kafka.fate = silent
        calls = {
            "one": lambda: http.send({"message": 1}),
            "array": lambda: http.send([{"message": 1}, {"message": 2}]),
            "lines": lambda: http.lines(b'{"message":1}\n'),
            "minimal": lambda: http.lines(b'{"message":1}\n', prefer="return=minimal"),
            "raw": lambda: http.request("POST", "/send/other", b"x"),
        }
        answer, took = timed(calls[form])
    assert answer.status == 504
    assert b'"unknown"' in answer.body
    assert 0.29 <= took <= 0.3 + SLACK_S


def test_prefer_wait_counts_seconds(http):
    http.kafka.fate = silent
    answer, took = timed(lambda: http.send({"message": 1}, prefer="wait=1"))
    assert answer.status == 504
    assert 0.99 <= took <= 1 + SLACK_S


@pytest.mark.parametrize(
    ("prefer", "longest"),
    [("wait=0", 0.0), ('wait="0"', 0.0), ("respond-async, wait=0", 0.0), ("WAIT = 0", 0.0), ("foo; wait=0", 0.0),
     ("return=minimal,wait=0", 0.0), ("wait=soon", 0.3), ("wait=-1", 0.3), ("waiting=0", 0.3), ("", 0.3)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["flask", "asgi"])
def test_preferences_are_read_as_rfc_7240_writes_them(kind, prefer, longest):
    with gate(kind, wait_s=0.3) as http:
        http.kafka.fate = silent
        answer, took = timed(lambda: http.send({"message": 1}, prefer=prefer))
        assert answer.status == 504
        assert longest - 0.01 <= took <= longest + (0.25 if not longest else SLACK_S)


@pytest.mark.parametrize("prefer", ["wait=300", "wait=999999999", "respond-async", "handling=strict", '"', "=;,"])
def test_a_preference_never_changes_the_truth(http, prefer):
    answer = http.send({"message": 1}, prefer=prefer)
    assert (answer.status, answer.json["status"]) == (200, "delivered")


def test_respond_async_without_a_spool_waits_for_kafka(http):
    assert http.send({"message": 1}, prefer="respond-async").status == 200


def test_partly_confirmed_in_time_is_207_and_each_record_says_its_own(http):
    http.kafka.fate = lambda number, record: None if number % 2 else (0, number, 5)
    answer = http.send([{"message": n} for n in range(4)], prefer="wait=0")
    if answer.status == 504:  # the answer came before the first report: true, too
        return
    assert answer.status == 207
    assert {result["status"] for result in answer.json} == {"delivered", "unknown"}


def test_results_keep_the_requests_order_though_reports_come_in_another(http, background):
    http.kafka.fate = silent
    waiting = background.submit(http.send, [{"message": f"m{n}", "id": f"id-{n}"} for n in range(20)])
    eventually(lambda: len(http.kafka.silent) == 20)
    http.kafka.silent.reverse()
    http.kafka.speak()
    assert [result["id"] for result in waiting.result(5).json] == [f"id-{n}" for n in range(20)]
    assert [result["offset"] for result in waiting.result(5).json] == list(range(20))


def test_many_at_once_get_their_own_answer(http, background):
    lock = threading.Lock()
    places: dict[str, int] = {}

    def fate(number: int, record: Any) -> tuple[int, int, int]:
        with lock:
            return (0, places.setdefault(record.id, len(places)), 1)

    http.kafka.fate = fate

    def client(number: int) -> tuple[str, Any]:
        return f"id-{number}", http.send({"message": number, "id": f"id-{number}"})

    for record_id, answer in background.map(client, range(300)):
        assert answer.status == 200
        assert (answer.json["id"], answer.json["offset"]) == (record_id, places[record_id])
    assert len(http.kafka.produced) == 300
    assert gateway(http).intake._open == set()


def test_a_client_that_waits_does_not_hold_up_others(http, background):
    http.kafka.fate = lambda number, record: None if record.value == b"slow" else (0, number, 1)
    slow = [background.submit(http.send, {"message": "slow"}, prefer="wait=5") for _ in range(20)]
    eventually(lambda: len(http.kafka.silent) == 20)
    answer, took = timed(lambda: http.send({"message": "quick"}))
    assert (answer.status, took < 1) == (200, True)
    answer, took = timed(lambda: http.request("GET", "/health/live"))
    assert (answer.status, took < 1) == (200, True)
    http.kafka.speak()
    assert {waiting.result(5).status for waiting in slow} == {200}


def test_a_full_queue_is_429_with_retry_after_in_every_form(http):
    http.kafka.fate = lambda number, record: Backpressure("full")
    for answer in (
        http.send({"message": 1}),
        http.send([{"message": 1}] * 2),
        http.lines(b'{"message":1}\n' * 2),
        http.lines(b'{"message":1}\n' * 2, prefer="return=minimal"),
    ):
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1


def test_a_refused_record_names_itself_and_its_topic(http):
    http.kafka.fate = lambda number, record: RecordTooLarge("topic other: too large")
    answer = http.request("POST", "/send/other?id=mine", b"x")
    assert (answer.status, answer.json["id"], answer.json["topic"]) == (413, "mine", "other")


# Kafka away


def test_away_is_503_and_nothing_is_accepted_in_every_form(http):
    http.kafka.reachable = False
    for answer in (
        http.send({"message": 1}),
        http.send([{"message": 1}] * 3),
        http.lines(b'{"message":1}\n'),
        http.lines(b'{"message":1}\n', prefer="return=minimal"),
        http.request("POST", "/send/other", b"x"),
        http.send({"message": 1, "topic": "never-seen"}),
    ):
        assert (answer.status, answer.json["code"]) == (503, "kafka-unreachable")
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) >= 1
    assert http.kafka.produced == []
    http.kafka.reachable = True
    assert http.send({"message": 1}).status == 200


def test_away_a_wrong_request_is_still_the_senders_fault(http):
    http.kafka.reachable = False
    assert http.send({"message": 1, "key": 1}).status == 422
    assert http.send(b"{").status == 400


@pytest.mark.parametrize("reachable", [True, False])
def test_a_catalog_that_does_not_answer_does_not_break_the_deadline(http, background, reachable):
    answered = threading.Event()

    def refresh() -> bool:
        answered.wait(2.5)
        return http.kafka.reachable

    http.kafka.refresh = refresh
    http.kafka.reachable = reachable
    try:
        waiting = background.submit(timed, lambda: http.send({"message": 1, "topic": "new"}, prefer="wait=0"))
        answer, took = waiting.result(10)
    finally:
        answered.set()
    assert answer.status in (404, 503, 504)
    assert took <= 0 + 1.0 + SLACK_S


def test_a_catalog_that_does_not_answer_holds_up_no_other_topic(http, background):
    asked, answered = threading.Event(), threading.Event()

    def refresh() -> bool:
        asked.set()
        answered.wait(20)
        return True

    http.kafka.refresh = refresh
    waiting = background.submit(http.send, {"message": 1, "topic": "new"})
    assert asked.wait(5)
    try:
        answer, took = timed(lambda: http.send({"message": "known"}))
        assert (answer.status, took < 1) == (200, True)
        assert http.request("GET", "/health/live").status == 200
        assert http.request("GET", "/health/ready").status == 200
    finally:
        answered.set()
    assert waiting.result(5).status == 404


def test_unknown_topics_that_come_together_ask_together(http, background):
    answered = threading.Event()
    asked = []

    def refresh() -> bool:
        asked.append(1)
        answered.wait(20)
        return True

    http.kafka.refresh = refresh
    waiting = [background.submit(http.send, {"message": 1, "topic": f"new-{n}"}) for n in range(10)]
    eventually(lambda: asked)
    answered.set()
    assert {one.result(10).status for one in waiting} == {404}
    if not isinstance(http.front, FlaskFront):
        assert len(asked) < 10


def test_a_topic_that_was_just_made_works_at_once_in_every_form(http):
    for number, call in enumerate(
        (
            lambda topic: http.send({"message": 1, "topic": topic}),
            lambda topic: http.send([{"message": 1}, {"message": 1, "topic": topic}]),
            lambda topic: http.lines(json.dumps({"message": 1, "topic": topic}).encode()),
            lambda topic: http.request("POST", f"/send/{topic}", b"x"),
        )
    ):
        topic = f"new-{number}"
        answer = call(topic)
        assert (answer.status, answer.json["code"], answer.json["field"]) == (404, "unknown-topic", "topic")
        assert f"recado kafka topics --create --topic {topic}" in answer.json["detail"]
        http.kafka.later[topic] = 1
        assert call(topic).status == 200


def test_known_topics_ask_nobody(http):
    for _ in range(5):
        assert http.send({"message": 1}).status == 200
    assert http.kafka.refreshes == 0


@pytest.mark.parametrize("topic", ["__consumer_offsets", "__transaction_state"])
def test_kafkas_own_topics_are_403_though_others_may_not_know_them(http, topic):
    http.kafka.known[topic] = 50
    for answer in (
        http.send({"message": 1, "topic": topic}),
        http.request("POST", f"/send/{topic}", b"x"),
        http.send([{"message": 1}, {"message": 1, "topic": topic}]),
    ):
        assert (answer.status, answer.json["code"], answer.json["field"]) == (403, "not-allowed", "topic")
    assert http.kafka.produced == []


def test_kafkas_own_topics_are_403_before_they_exist(http):
    http.kafka.known.pop("__consumer_offsets")
    assert http.send({"message": 1, "topic": "__consumer_offsets"}).status == 403


# Flush


def test_flush_waits_for_what_was_handed_over_before_and_only_for_that(http, background):
    http.kafka.fate = silent
    sending = background.submit(http.send, {"message": 1}, prefer="wait=20")
    eventually(lambda: http.kafka.silent)
    flushing = background.submit(http.request, "POST", "/flush?timeout=20")
    eventually(lambda: not flushing.done())
    with pytest.raises(TimeoutError):
        flushing.result(0.1)
    http.kafka.speak()
    assert sending.result(5).status == 200
    flushed = flushing.result(5)
    assert (flushed.status, flushed.json) == (200, {"status": "flushed", "delivered": 1, "pending": 0})


def test_flush_after_its_timeout_is_504_with_what_is_left(http):
    http.kafka.fate = silent
    http.lines(b'{"message":1}\n' * 3, prefer="wait=0")
    answer, took = timed(lambda: http.request("POST", "/flush?timeout=0.3"))
    assert (answer.status, answer.json["pending"], answer.json["code"]) == (504, 3, "flush-timeout")
    assert answer.headers["content-type"] == "application/problem+json"
    assert 0.29 <= took <= 0.3 + SLACK_S
    http.kafka.speak()
    assert http.request("POST", "/flush?timeout=5").json["pending"] == 0


def test_flush_with_nothing_to_wait_for_is_200_at_once(http):
    answer, took = timed(lambda: http.request("POST", "/flush"))
    assert (answer.status, answer.json) == (200, {"status": "flushed", "delivered": 0, "pending": 0})
    assert took < 1


@pytest.mark.parametrize(
    "query",
    [
        "timeout=",
        "timeout=x",
        "timeout=-1",
        "timeout=nan",
        "timeout=inf",
        "timeout=3601",
        "wait=1",
        "timeout=1&timeout=2",
    ],
)
def test_flush_refuses_what_it_cannot_read(http, query):
    answer = http.request("POST", f"/flush?{query}")
    assert (answer.status, answer.json["field"]) == (422, query.partition("=")[0])


# Health


def test_ready_says_why_not(http):
    assert (http.request("GET", "/health/ready").status, http.request("GET", "/health/ready").json) == (
        200, {"status": "ready", "reasons": []},
    )  # fmt: skip
    http.kafka.reachable = False
    gateway(http).draining = True
    answer = http.request("GET", "/health/ready")
    assert answer.status == 503
    assert [reason["code"] for reason in answer.json["reasons"]] == ["draining", "kafka-unreachable"]
    assert all(reason["detail"] for reason in answer.json["reasons"])
    assert (http.request("GET", "/health/live").status, http.request("GET", "/health/live").json) == (
        200, {"status": "live"},
    )  # fmt: skip


def test_metrics_say_why_a_gateway_is_not_ready_and_what_troubles_one_that_is(http):
    before: dict[str, float] = {}

    def told() -> dict[str, float]:
        """What changed since ``before``: other tests' gateways may be in this process, too."""
        names = ("recado_gateway_not_ready{", "recado_gateway_impaired{")
        rows = [row for row in http.request("GET", "/metrics").body.decode().splitlines() if row.startswith(names)]
        found = {name: float(value) for name, value in (row.split() for row in rows)}
        return {name: value - before.get(name, 0) for name, value in found.items() if value != before.get(name, 0)}

    http.send({"message": 1})
    before = told()
    http.kafka.reachable = False
    assert told() == {'recado_gateway_not_ready{reason="kafka-unreachable"}': 1}
    http.kafka.reachable, gateway(http).draining = True, True
    gateway(http).once.trouble = "disk full"
    assert told() == {
        'recado_gateway_not_ready{reason="draining"}': 1,
        'recado_gateway_impaired{reason="idempotency"}': 1,
    }
    gateway(http).once.trouble = ""


# Trace context


def test_a_traceparent_goes_on_with_every_record(http):
    for answer in (
        http.send({"message": 1}, traceparent=PARENT, tracestate="a=b"),
        http.send([{"message": 1}, {"message": 1, "id": "i"}], traceparent=PARENT, tracestate="a=b"),
        http.lines(b'{"message":"a"}\n{"message":1}\n', traceparent=PARENT, tracestate="a=b"),
        http.request("POST", "/send/other", b"x", traceparent=PARENT, tracestate="a=b"),
    ):
        assert answer.status == 200
    assert len(http.kafka.produced) == 6
    for record in http.kafka.produced:
        assert ("traceparent", PARENT.encode()) in record.headers
        assert ("tracestate", b"a=b") in record.headers


@pytest.mark.parametrize("bad", ["", "x", PARENT[:-1], PARENT.upper(), "00-" + "0" * 32 + PARENT[35:], PARENT + "-x"])
def test_a_broken_traceparent_is_dropped_and_hurts_nobody(http, bad):
    assert http.send({"message": 1}, traceparent=bad, tracestate="a=b").status == 200
    assert [name for name, _ in http.kafka.produced[0].headers] == ["recado-id"]


# Methods and paths


@pytest.mark.parametrize("path", ["/send", "/send/other", "/flush"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "HEAD"])
def test_only_post_produces(http, path, method):
    answer = http.request(method, path, b"")
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]
    if method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == 405
    assert http.kafka.produced == []


@pytest.mark.parametrize("path", ["/send", "/send/other", "/flush", "/health/live", "/metrics", "/docs"])
def test_options_tell_what_is_allowed(http, path):
    answer = http.request("OPTIONS", path)
    assert answer.status == 200
    assert ("POST" if path in ("/send", "/send/other", "/flush") else "GET") in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"])
def test_head_is_get_without_the_body(http, path):
    got, head = http.request("GET", path), http.request("HEAD", path)
    assert (got.status, head.status) == (200, 200)
    assert got.body
    assert head.body == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    assert http.request("POST", path).status == 405


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/send/a/b", "/health", "/send2", "/Send", "/flush/", "/send/other/"]
)
def test_what_is_not_there_is_404_as_a_problem(http, path):
    answer = http.request("POST", path, b'{"message":1}', content_type="application/json")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json["status"] == 404
    assert http.kafka.produced == []


@pytest.mark.parametrize("kind", ["flask", "asgi"])
def test_send_with_a_slash_is_not_there(kind):
    with gate(kind) as http:
        assert http.request("POST", "/send/", b"x").status == 404
        assert http.kafka.produced == []


def test_metrics_count_requests_and_records_by_fate(http):
    def value(line: str) -> float:
        found = [
            row for row in http.request("GET", "/metrics").body.decode().splitlines() if row.startswith(line + " ")
        ]
        return float(found[0].split()[-1]) if found else 0.0

    names = [
        'recado_gateway_records_total{fate="delivered",topic="other"}',
        'recado_gateway_records_total{fate="failed",topic="other"}',
        'recado_gateway_requests_total{route="send",status="200"}',
        'recado_gateway_requests_total{route="send",status="422"}',
        'recado_gateway_requests_total{route="send_raw",status="413"}',
        'recado_gateway_send_seconds_count{topic="other"}',
    ]
    before = [value(name) for name in names]
    http.send({"message": 1, "topic": "other"})
    http.send({"message": 1, "topic": "other", "key": 1})
    http.kafka.fate = lambda number, record: RecordTooLarge("big")
    http.request("POST", "/send/other", b"x")
    eventually(lambda: [value(name) - old for name, old in zip(names, before, strict=True)] == [1, 1, 1, 1, 1, 2])
