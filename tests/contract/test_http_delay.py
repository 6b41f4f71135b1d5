"""Delayed records over both fronts: the answer says accepted, and Kafka is given the record for the delay topic."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest

from recado.errors import DeliveryUnknown, NotAllowed, RecordTooLarge
from tests.fronts import FakeClients, gate


@pytest.fixture(params=["flask", "asgi"])
def http(request):
    with gate(request.param) as opened:
        yield opened


def test_one_is_accepted_and_says_when(http):
    before = time.time()
    answer = http.send({"message": "x", "delay": "10s", "id": "own", "key": "k"})
    assert (answer.status, list(answer.json)) == (202, ["status", "id", "topic", "deliver_at"])
    assert (answer.json["status"], answer.json["id"], answer.json["topic"]) == ("accepted", "own", "flask-topic")
    assert answer.json["deliver_at"].endswith("Z")
    assert 9.9 < datetime.fromisoformat(answer.json["deliver_at"]).timestamp() - before < 20
    (record,) = http.kafka.produced
    assert (record.topic, record.key, record.value) == ("recado.delay.8s", b"k", b"x")
    assert [name for name, _ in record.headers] == ["recado-delay", "recado-id"]


def test_a_raw_body_is_delayed_by_its_query(http):
    answer = http.request("POST", "/send/other?delay=1m", b"\0")
    assert (answer.status, answer.json["topic"]) == (202, "other")
    at = "2026-01-01T00:00:00%2B01:00"
    assert http.request("POST", f"/send/other?deliver_at={at}", b"\0").status == 200  # long due
    assert [record.topic for record in http.kafka.produced] == ["recado.delay.30s", "other"]
    assert http.request("POST", "/send/other?delay=1m&deliver_at=5", b"\0").status == 422


def test_the_delay_topics_are_made_once_and_only_those_that_it_hops_through(http):
    assert http.send({"message": 1}).status == 200
    assert not any(name.startswith("recado.delay.") for name in http.kafka.known)
    assert http.send({"message": 1, "delay": "1m"}).status == 202
    made = [name for name in http.kafka.known if name.startswith("recado.delay.")]
    assert made == ["recado.delay.2s", "recado.delay.8s", "recado.delay.30s"]


def test_each_of_many_says_its_own(http):
    many = [{"message": 1, "delay": "5s"}, {"message": 2}, {"message": 3, "delay": "0s"}]
    answer = http.send(many)
    assert (answer.status, [result["status"] for result in answer.json]) == (
        207,
        ["accepted", "delivered", "delivered"],
    )
    body = b"".join(json.dumps(one).encode() + b"\n" for one in many[:1] * 3)
    answer = http.lines(body)
    assert (answer.status, {result["status"] for result in answer.lines}) == (202, {"accepted"})
    answer = http.lines(body, prefer="return=minimal")
    assert (answer.status, answer.json) == (
        202, {"status": "accepted", "records": 3, "delivered": 0, "accepted": 3, "failed": 0, "unknown": 0},
    )  # fmt: skip
    answer = http.send(many, prefer="return=minimal")
    assert (answer.status, answer.json["status"]) == (207, "mixed")
    assert (answer.json["accepted"], answer.json["delivered"]) == (1, 2)


def test_what_kafka_does_not_confirm_or_refuses_is_no_different_from_any_record(http):
    http.send({"message": 1, "delay": "5s"})
    http.kafka.fate = lambda number, record: None
    answer = http.send({"message": 1, "delay": "5s"}, prefer="wait=0")
    assert (answer.status, answer.json["status"], answer.json["topic"]) == (504, "unknown", "flask-topic")
    http.kafka.fate = lambda number, record: RecordTooLarge("big")
    answer = http.send({"message": 1, "delay": "5s"})
    assert (answer.status, answer.json["topic"]) == (413, "flask-topic")
    http.kafka.fate = lambda number, record: DeliveryUnknown("?")
    answer = http.lines(b'{"message":1,"delay":"5s"}\n{"message":1,"delay":"5s"}\n', prefer="return=minimal")
    assert (answer.status, answer.json["unknown"], answer.json["accepted"]) == (504, 2, 0)


def test_the_target_must_be_there_and_be_allowed(http):
    assert http.send({"message": 1, "topic": "nowhere", "delay": "5s"}).status == 404
    assert http.send({"message": 1, "topic": "__consumer_offsets", "delay": "5s"}).status == 403
    answer = http.send({"message": 1, "partition": 3, "delay": "5s"})
    assert (answer.status, answer.json["field"]) == (422, "partition")
    http.kafka.later["new"] = 1
    assert http.send({"message": 1, "topic": "new", "delay": "5s"}).status == 202
    assert http.kafka.produced[-1].topic == "recado.delay.2s"


def test_nobody_writes_into_a_delay_topic(http):
    http.send({"message": 1, "delay": "5s"})
    for many in (
        {"message": 1, "topic": "recado.delay.2s"},
        [{"message": 1, "delay": "5s"}, {"message": 1, "topic": "recado.delay.2s"}],
    ):
        assert http.send(many).status == 403
    assert http.send({"message": 1, "topic": "recado.delay.2s", "delay": "5s"}).status == 403
    assert len(http.kafka.produced) == 1


def test_delay_topics_that_may_not_be_created_refuse_the_record(http, monkeypatch):
    def refuse(*given, **named):
        raise NotAllowed("creating topic recado.delay.2s: denied")

    monkeypatch.setattr(FakeClients, "create_topic", refuse)
    answer = http.send({"message": 1, "delay": "5s"})
    assert (answer.status, answer.json["code"]) == (403, "not-allowed")
    assert http.kafka.produced == []
    assert http.send({"message": 1}).status == 200
