"""What both fronts answer with a spool behind them: 202 is kept and delivered once, and every status is true."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from recado.errors import DeliveryUnknown, RecordTooLarge, UnknownTopic
from recado.gateway.spool import forwarder as forwarding
from tests.fronts import Gate, gate
from tests.programs import eventually
from tests.spools import disk_ids

#: What a busy machine may add to an answer that is due at once.
SLACK_S = 0.9

ASYNC = {"prefer": "respond-async"}


@pytest.fixture(params=["flask", "asgi"])
def http(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gate]:
    with gate(request.param, spool=True, data_dir=tmp_path, wait_s=5.0) as opened:
        yield opened


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def silent(number: int, record: Any) -> None:
    return None


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


def produced(http: Gate) -> list[str]:
    return [record.id for record in http.kafka.produced]


def is_empty(http: Gate) -> bool:
    return not http.gateway.intake.spool.lines()


def away(http: Gate) -> None:
    """No broker answers."""
    assert http.send({"message": "first", "id": "first"}).status == 200  # its topic is known
    http.kafka.produced.clear()
    http.kafka.reachable = False
    http.kafka.fate = silent


def back(http: Gate) -> None:
    http.kafka.reachable = True
    http.kafka.fate = lambda number, record: (0, number, 1)
    http.kafka.speak()


# --- 202 -----------------------------------------------------------------------------------------------------------


def test_a_healthy_kafka_never_sees_the_spool(http, tmp_path):
    assert http.send({"message": 1}).status == 200
    assert http.gateway.intake.spool.depth().rows == 0
    assert http.gateway.intake.spool.forwarded == 0


def test_respond_async_is_202_with_a_place_to_ask_and_delivered_once(http, tmp_path):
    http.kafka.fate = silent
    answer, took = timed(lambda: http.send({"message": "x", "id": "a/b"}, **ASYNC))
    assert (answer.status, answer.json) == (202, {"status": "accepted", "id": "a/b", "topic": "flask-topic"})
    assert answer.headers["location"] == "/messages/flask-topic/a%2Fb"
    assert took < SLACK_S
    assert disk_ids(tmp_path / "spool") == ["a/b"]
    eventually(lambda: http.kafka.silent)
    http.kafka.speak()
    eventually(lambda: is_empty(http))
    assert produced(http) == ["a/b"]
    assert disk_ids(tmp_path / "spool") == []


@pytest.mark.parametrize("form", ["one", "raw", "array", "lines", "minimal"])
def test_what_is_not_confirmed_in_time_is_202_and_delivered_once(http, tmp_path, form):
    http.kafka.fate = silent
    calls = {
        "one": lambda: http.send({"message": 1}, prefer="wait=0"),
        "raw": lambda: http.request("POST", "/send/other", b"x", prefer="wait=0"),
        "array": lambda: http.send([{"message": 1}, {"message": 2}], prefer="wait=0"),
        "lines": lambda: http.lines(b'{"message":1}\n{"message":2}\n', prefer="wait=0"),
        "minimal": lambda: http.lines(b'{"message":1}\n{"message":2}\n', prefer="wait=0, return=minimal"),
    }
    answer, took = timed(calls[form])
    assert answer.status == 202, answer.body
    assert b'"accepted"' in answer.body
    assert took < SLACK_S
    count = 1 if form in ("one", "raw") else 2
    assert len(disk_ids(tmp_path / "spool")) == count
    eventually(lambda: len(http.kafka.silent) == count)
    http.kafka.speak()
    eventually(lambda: is_empty(http))
    assert len(http.kafka.produced) == count


@pytest.mark.parametrize("form", ["one", "raw", "array", "lines", "minimal"])
def test_while_no_broker_answers_it_is_202_at_once(http, tmp_path, form):
    away(http)
    calls = {
        "one": lambda: http.send({"message": 1}),
        "raw": lambda: http.request("POST", "/send/flask-topic", b"x"),
        "array": lambda: http.send([{"message": 1}, {"message": 2}]),
        "lines": lambda: http.lines(b'{"message":1}\n'),
        "minimal": lambda: http.lines(b'{"message":1}\n', prefer="return=minimal"),
    }
    answer, took = timed(calls[form])
    assert answer.status == 202, answer.body
    assert took < SLACK_S
    kept = disk_ids(tmp_path / "spool")
    back(http)
    eventually(lambda: is_empty(http))
    assert produced(http) == kept


def test_a_late_record_with_an_unknown_outcome_is_sent_again_and_kept_till_then(http, tmp_path):
    http.kafka.fate = silent
    assert http.send({"message": 1, "id": "a"}, prefer="wait=0").status == 202
    eventually(lambda: http.kafka.silent)
    delivery, index, _, _ = http.kafka.silent.pop()
    delivery.settle(index, DeliveryUnknown("?"))
    eventually(lambda: produced(http) == ["a", "a"])
    assert disk_ids(tmp_path / "spool") == ["a"]
    http.kafka.speak()
    eventually(lambda: is_empty(http))


def test_a_timed_out_delivery_is_202_not_504(http):
    fates = iter([DeliveryUnknown("?")])
    http.kafka.fate = lambda number, record: next(fates, (0, number, 1))
    answer = http.send({"message": 1, "id": "a"})
    assert answer.status == 202
    eventually(lambda: is_empty(http))
    assert produced(http) == ["a", "a"]


# --- order ---------------------------------------------------------------------------------------------------------


def test_later_records_queue_behind_spooled_ones_and_get_their_200(http, background):
    http.kafka.fate = silent
    assert http.send({"message": 1, "id": "early"}, prefer="wait=0").status == 202
    later = background.submit(http.send, {"message": 2, "id": "later"})
    eventually(lambda: http.gateway.intake.spool.depth().rows == 2)
    assert produced(http) == ["early"]
    http.kafka.fate = lambda number, record: (0, number, 1)
    http.kafka.speak()
    answer = later.result(10)
    assert (answer.status, answer.json["status"], answer.json["offset"]) == (200, "delivered", 1)
    assert produced(http) == ["early", "later"]


def test_another_topic_does_not_queue(http):
    http.kafka.fate = lambda number, record: None if record.topic == "flask-topic" else (0, number, 1)
    assert http.send({"message": 1}, prefer="wait=0").status == 202
    answer, took = timed(lambda: http.send({"message": 2, "topic": "other"}))
    assert (answer.status, took < SLACK_S) == (200, True)


def test_order_through_an_outage(http, background):
    away(http)
    for number in range(20):
        assert http.send({"message": number, "id": f"{number}"}).status == 202
    back(http)
    for number in range(20, 40):
        assert http.send({"message": number, "id": f"{number}"}).status in (200, 202)
    eventually(lambda: is_empty(http))
    assert produced(http) == [f"{number}" for number in range(40)]


def test_who_queues_is_told_kafkas_refusal(http, background):
    http.kafka.fate = silent
    assert http.send({"message": 1, "id": "early"}, prefer="wait=0").status == 202
    later = background.submit(http.send, {"message": 2, "id": "later"})
    eventually(lambda: http.gateway.intake.spool.depth().rows == 2)
    http.kafka.fate = lambda number, record: RecordTooLarge("too large")
    http.kafka.speak()
    assert later.result(10).status == 413
    eventually(lambda: is_empty(http))
    assert http.gateway.intake.spool.refused == 0


# --- many ----------------------------------------------------------------------------------------------------------


def test_mixed_fates_are_207_and_each_says_its_own(http):
    http.kafka.fate = lambda number, record: {b"1": (0, 1, 1), b"2": None, b"3": RecordTooLarge("no")}[record.value]
    answer = http.send([{"message": n} for n in (1, 2, 3)], prefer="wait=1")
    assert answer.status == 207
    assert [result["status"] for result in answer.json] == ["delivered", "accepted", "failed"]
    http.kafka.speak()
    eventually(lambda: is_empty(http))
    assert len(http.kafka.produced) == 3


def test_a_minimal_summary_counts_what_was_accepted(http):
    http.kafka.fate = lambda number, record: None if record.value == b"2" else (0, number, 1)
    body = b"".join(json.dumps({"message": n}).encode() + b"\n" for n in (1, 2, 2))
    answer = http.lines(body, prefer="wait=1, return=minimal")
    assert answer.status == 207
    assert (answer.json["delivered"], answer.json["accepted"], answer.json["unknown"]) == (1, 2, 0)
    away_answer = http.lines(body, prefer="respond-async, return=minimal")
    assert away_answer.headers["preference-applied"] == "return=minimal, respond-async"
    assert away_answer.status == 202
    assert away_answer.json == {
        "status": "accepted", "records": 3, "delivered": 0, "accepted": 3, "failed": 0, "unknown": 0,
    }  # fmt: skip


# --- not accepted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flask", "asgi"])
def test_a_full_spool_is_503_and_nothing_of_that_is_ever_sent(kind, tmp_path):
    with gate(kind, spool=True, data_dir=tmp_path, spool_max_bytes=2_000) as http:
        away(http)
        assert http.send({"message": "x" * 1_000, "id": "a"}).status == 202
        for _ in range(20):
            answer = http.send({"message": "x" * 1_500, "id": "b"})
            assert (answer.status, answer.json["code"]) == (503, "spool-full")
            assert int(answer.headers["retry-after"]) >= 1
        assert http.send([{"message": "x" * 1_500}, {"message": 2}]).status == 503
        back(http)
        eventually(lambda: is_empty(http))
        assert produced(http) == ["a"]
        assert http.gateway.intake.spool.held_bytes() < 1e-3


@pytest.mark.parametrize("kind", ["flask", "asgi"])
def test_what_kafka_was_given_and_no_room_is_left_for_is_504(kind, tmp_path):
    with gate(kind, spool=True, data_dir=tmp_path, spool_max_bytes=10) as http:
        http.kafka.fate = silent
        answer = http.send({"message": 1}, prefer="wait=0")
        assert (answer.status, answer.json["status"]) == (504, "unknown")


def test_an_unknown_topic_is_404_though_there_is_a_spool(http):
    assert http.send({"message": 1, "topic": "nowhere"}, **ASYNC).status == 404
    http.kafka.reachable = False
    assert http.send({"message": 1, "topic": "nowhere"}, **ASYNC).status == 503


# --- flush and ready -----------------------------------------------------------------------------------------------


def test_a_flush_waits_for_the_spool(http, background):
    away(http)
    for number in range(3):
        http.send({"message": number})
    answer = http.request("POST", "/flush?timeout=0")
    assert (answer.status, answer.json["pending"]) == (504, 3)
    waiting = background.submit(http.request, "POST", "/flush?timeout=20")
    back(http)
    answer = waiting.result(20)
    assert (answer.status, answer.json["pending"], answer.json["delivered"]) == (200, 0, 4)


def test_a_late_record_is_pending_once(http):
    http.kafka.fate = silent
    assert http.send({"message": 1}, prefer="wait=0").status == 202
    assert http.request("POST", "/flush?timeout=0").json["pending"] == 1


def test_records_of_a_topic_that_is_gone_are_pending(http, monkeypatch):
    monkeypatch.setattr(forwarding, "HOLD_S", 1000.0)
    http.kafka.fate = lambda number, record: UnknownTopic("gone")
    assert http.send({"message": 1}, **ASYNC).status == 202
    eventually(lambda: http.kafka.produced)
    assert http.request("POST", "/flush?timeout=0.2").json["pending"] == 1


def test_a_flush_tells_of_refused_records(http):
    http.kafka.fate = lambda number, record: RecordTooLarge("no")
    assert http.send({"message": 1}, **ASYNC).status == 202
    eventually(lambda: is_empty(http))
    answer = http.request("POST", "/flush?timeout=5")
    assert (answer.status, answer.json["pending"]) == (504, 1)
    assert "refused" in answer.json["detail"]


def test_ready_shows_the_spool_and_stays_ready_without_a_broker(http):
    away(http)
    http.send({"message": 1})
    answer = http.request("GET", "/health/ready")
    assert (answer.status, answer.json["status"]) == (200, "ready")
    assert answer.json["reasons"][0]["code"] == "kafka-unreachable"
    assert (answer.json["spool"]["records"], answer.json["spool"]["refused"]) == (1, 0)
    assert answer.json["spool"]["bytes"] > 0


def test_ready_is_503_while_the_spool_cannot_be_written(http):
    away(http)
    http.gateway.intake.spool.path.unlink()
    assert http.send({"message": 1}).status == 503
    answer = http.request("GET", "/health/ready")
    assert answer.status == 503
    assert "spool" in [reason["code"] for reason in answer.json["reasons"]]


def test_what_waits_at_the_end_goes_on_at_the_next_start(tmp_path):
    with gate("flask", spool=True, data_dir=tmp_path) as http:
        away(http)
        assert http.send({"message": 1, "id": "kept"}).status == 202
    with gate("asgi", spool=True, data_dir=tmp_path) as http:
        assert http.request("GET", "/health/ready").status == 200
        eventually(lambda: produced(http) == ["kept"])
        eventually(lambda: is_empty(http))


@pytest.mark.parametrize("kind", ["flask", "asgi"])
def test_a_crowd_during_a_flapping_kafka_is_delivered_once_each(kind, tmp_path, background):
    with gate(kind, spool=True, data_dir=tmp_path) as http:
        assert http.send({"message": 0, "id": "first"}).status == 200
        flap = {"on": True}
        http.kafka.fate = lambda number, record: (0, number, 1) if flap["on"] else None

        def client(number: int) -> int:
            if number % 25 == 0:
                flap["on"] = not flap["on"]
                http.kafka.reachable = flap["on"]
            prefer = ("wait=0", "respond-async", "wait=1")[number % 3]
            return http.send({"message": number, "id": f"{number}"}, prefer=prefer).status

        assert set(background.map(client, range(200))) <= {200, 202}
        flap["on"] = http.kafka.reachable = True

        def drained() -> bool:
            http.kafka.speak()
            return is_empty(http) and not http.kafka.silent

        eventually(drained)
        assert sorted(produced(http)) == sorted(["first", *(f"{n}" for n in range(200))])
        assert http.gateway.intake.spool.held_bytes() < 1e-3


@pytest.mark.parametrize("kind", ["flask", "asgi"])
def test_a_folder_that_cannot_be_used_is_told_by_ready_and_by_send(kind, tmp_path):
    (tmp_path / "spool").write_text("a file where the folder should be")
    with gate(kind, spool=True, data_dir=tmp_path) as http:
        answer = http.request("GET", "/health/ready")
        assert (answer.status, answer.json["reasons"][0]["code"]) == (503, "spool-failed")
        assert http.send({"message": 1}).status == 503
        assert http.kafka.produced == []


@pytest.mark.parametrize("kind", ["flask", "asgi"])
def test_a_gateway_that_never_saw_its_kafka_is_not_ready_and_accepts_nothing(kind, tmp_path):
    with gate(kind, spool=True, data_dir=tmp_path) as http:
        http.kafka.reachable = False
        http.kafka.known.clear()
        ready = http.request("GET", "/health/ready")
        assert (ready.status, ready.json["reasons"][0]["code"]) == (503, "kafka-unreachable")
        refused = http.send({"message": 1})
        assert (refused.status, refused.json["code"]) == (503, "kafka-unreachable")
