"""The same request twice: one record in Kafka, the same answer, on both fronts and over restarts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from recado.errors import DeliveryFailed, DeliveryUnknown
from tests.fronts import gate
from tests.programs import eventually


@pytest.fixture(params=["flask", "asgi"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def http(kind):
    with gate(kind) as door:
        yield door


def test_the_same_key_gives_the_same_answer_and_one_record(http):
    first = http.send({"message": "a"}, idempotency_key="k-1", traceparent=f"00-{'1' * 32}-{'2' * 16}-01")
    again = http.send({"message": "a"}, idempotency_key="k-1", traceparent=f"00-{'3' * 32}-{'4' * 16}-01")
    assert first.status == again.status == 200
    assert first.json == again.json
    assert first.json["id"] == "k-1", "so that a worker knows it again, whichever gateway it came through"
    assert len(http.kafka.produced) == 1
    assert http.send({"message": "a"}, idempotency_key='"k-1"').json == first.json, "quotes are none of the key"


def test_another_body_under_the_same_key_is_422_and_nothing_is_sent(http):
    http.send({"message": "a"}, idempotency_key="k")
    for other in (
        http.send({"message": "b"}, idempotency_key="k"),
        http.lines(b'{"message":"a"}', idempotency_key="k"),
        http.request("POST", "/send/other", b'{"message":"a"}', idempotency_key="k"),
    ):
        assert (other.status, other.json["code"], other.json["field"]) == (422, "key-reused", "idempotency-key")
    assert len(http.kafka.produced) == 1


def test_own_id_counts_once_too(http):
    first = http.send({"message": "a", "id": "order-7"})
    assert http.send({"message": "a", "id": "order-7"}).json == first.json
    assert http.request("POST", "/send/flask-topic?id=order-7", b"a").json == first.json, (
        "the same record, said otherwise"
    )
    assert http.send({"message": "b", "id": "order-7"}).json["code"] == "key-reused"
    assert http.send({"message": "a", "id": "order-7", "topic": "other"}).status == 200, "an id is its topic's"
    assert [record.topic for record in http.kafka.produced] == ["flask-topic", "other"]


@pytest.mark.parametrize("prefer", ["", "return=minimal"])
def test_many_records_are_sent_as_far_as_they_are_new(http, prefer):
    http.send({"message": "b", "id": "b"})
    body = b'{"message":"a","id":"a"}\n{"message":"b","id":"b"}\n{"message":"c"}\n'
    answer = http.lines(body, prefer=prefer)
    assert answer.status == 200
    if prefer:
        assert (answer.json["records"], answer.json["delivered"]) == (3, 3)
    else:
        assert [line["offset"] for line in answer.lines] == [1, 0, 2]
    assert [record.value for record in http.kafka.produced] == [b"b", b"a", b"c"]


def test_many_under_one_key_come_back_whole(http):
    body = b'{"message":"a"}\n{"message":"b"}\n'
    first, again = (http.lines(body, idempotency_key="k") for _ in range(2))
    assert [line["id"] for line in first.lines] == ["k", "k.1"]
    assert again.body == first.body
    assert len(http.kafka.produced) == 2


def test_one_id_twice_in_a_request_is_422(http):
    refused = http.send([{"message": 1, "id": "x"}, {"message": 2, "id": "x"}])
    assert (refused.status, refused.json["field"], refused.json["index"]) == (422, "id", 1)
    assert http.kafka.produced == []


def test_a_second_request_meanwhile_is_409(http):
    http.kafka.fate = lambda number, record: None
    answers = []
    first = threading.Thread(target=lambda: answers.append(http.send({"message": 1}, idempotency_key="k")))
    first.start()
    eventually(lambda: bool(http.kafka.silent), within_s=20, why="the first was not sent")
    second = http.send({"message": 1}, idempotency_key="k")
    assert (second.status, second.json["code"]) == (409, "in-flight")
    http.kafka.speak()
    first.join(20)
    assert answers[0].status == 200
    assert http.send({"message": 1}, idempotency_key="k").json == answers[0].json
    assert len(http.kafka.produced) == 1


@pytest.mark.parametrize("error", [DeliveryFailed("no"), DeliveryUnknown("who knows")])
def test_what_was_not_accepted_may_be_sent_again_under_its_key(http, error):
    http.kafka.fate = lambda number, record: error if number == 0 else (0, number, 1)
    assert http.send({"message": 1}, idempotency_key="k").status in (422, 504)
    assert http.send({"message": 1}, idempotency_key="k").status == 200
    assert [record.id for record in http.kafka.produced] == ["k", "k"], "a duplicate carries the same id"


def test_a_refused_request_leaves_its_key_free(http):
    assert http.send({"message": 1, "topic": "missing"}, idempotency_key="k").status == 404
    http.kafka.known["missing"] = 1
    assert http.send({"message": 1, "topic": "missing"}, idempotency_key="k").status == 200


def test_keys_are_kept_over_a_restart_and_between_gateways(kind: str, tmp_path: Path):
    with gate(kind, data_dir=tmp_path) as first, gate(kind, data_dir=tmp_path) as other:
        given = first.send({"message": 1}, idempotency_key="k")
        assert other.send({"message": 1}, idempotency_key="k").json == given.json
        assert other.kafka.produced == []
    with gate(kind, data_dir=tmp_path) as restarted:
        assert restarted.send({"message": 1}, idempotency_key="k").json == given.json
        assert restarted.kafka.produced == []


def test_a_key_that_a_killed_gateway_took_is_sent_again_with_the_same_id(kind: str, tmp_path: Path):
    with gate(kind, data_dir=tmp_path) as killed, gate(kind, data_dir=tmp_path) as other:
        killed.kafka.fate = lambda number, record: None
        sending = threading.Thread(target=lambda: killed.send({"message": 1}, idempotency_key="k", prefer="wait=10"))
        sending.start()
        eventually(lambda: bool(killed.kafka.silent), within_s=20, why="the first was not sent")
        assert other.send({"message": 1}, idempotency_key="k").status == 409
        # What the kernel does when a process is killed: its lock is gone.
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), killed.gateway.once._answers._owner._lock)
        assert other.send({"message": 1}, idempotency_key="k").json["id"] == "k"
        killed.kafka.speak()
        sending.join(20)


def test_a_disk_that_cannot_keep_keys_is_503_and_nothing_is_sent(kind: str, tmp_path: Path):
    (tmp_path / "keys").write_text("not a folder")
    with gate(kind, data_dir=tmp_path) as http:
        refused = http.send({"message": 1}, idempotency_key="k")
        assert (refused.status, refused.json["code"]) == (503, "spool-failed")
        assert http.kafka.produced == []
        assert http.send({"message": 1}).status == 200


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 201, "ñ", "a\tb"])
def test_an_illegal_key_is_422(http, key):
    refused = http.send({"message": 1}, idempotency_key=key)
    assert (refused.status, refused.json["field"]) == (422, "idempotency-key")
    assert http.kafka.produced == []
