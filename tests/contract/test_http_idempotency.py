"""The same request twice: one record in Kafka, the same answer, on both fronts and over restarts."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from recado.errors import DeliveryFailed, DeliveryUnknown
from recado.gateway.idempotency import once
from recado.gateway.idempotency.store import Answers
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


@pytest.mark.parametrize("by", ["key", "id"])
@pytest.mark.parametrize("kind_of_delay", ["delay", "deliver_at"])
def test_a_delayed_request_is_answered_with_its_first_due_moment(http, by, kind_of_delay):
    due_ms = int(time.time() * 1000) + 500
    body = {"message": 1, "delay": "1m"} if kind_of_delay == "delay" else {"message": 1, "deliver_at": due_ms}
    headers = {"idempotency_key": "k"} if by == "key" else {}
    body |= {"id": "k"} if by == "id" else {}
    first = http.send(body, **headers)
    assert first.status == 202
    if kind_of_delay == "deliver_at":
        eventually(lambda: time.time() * 1000 > due_ms, within_s=20, why="it is not due")
    again = http.send(body, **headers)
    assert (again.status, again.json, again.headers["location"]) == (202, first.json, first.headers["location"])
    assert len(http.kafka.produced) == 1


def test_a_delayed_record_keeps_its_due_moment_over_a_restart_and_among_others(kind: str, tmp_path: Path):
    later, other = b'{"message":1,"id":"a","delay":"1m"}\n', b'{"message":2,"id":"b"}\n'
    with gate(kind, data_dir=tmp_path) as first:
        given = first.lines(later)
    with gate(kind, data_dir=tmp_path) as restarted:
        answer = restarted.lines(later + other)
        assert (answer.status, answer.lines[0]) == (207, given.lines[0])
        assert answer.lines[1]["status"] == "delivered"
        summary = restarted.lines(later + other, prefer="return=minimal").json
        assert (summary["accepted"], summary["delivered"]) == (1, 1)
        assert [record.id for record in restarted.kafka.produced] == ["b"]


def test_an_id_with_another_delay_is_422(http):
    stamped = {"message": "a", "id": "x", "timestamp": 5}
    assert http.send({**stamped, "delay": "60s"}).status == 202
    for other in ({"delay": "1m"}, {"deliver_at": int(time.time() * 1000) + 9000}, {"delay": "0s"}, {}):
        refused = http.send({**stamped, **other})
        assert (refused.status, refused.json["code"]) == (422, "key-reused")
    assert http.send({**stamped, "delay": "60s", "timestamp": 6}).status == 422
    assert http.request("POST", "/send/flask-topic?id=x&delay=60s&timestamp=5", b"a").status == 202
    assert len(http.kafka.produced) == 1


def test_what_was_due_at_once_was_delivered(http):
    body = {"message": 1, "id": "x", "deliver_at": 5}
    first = http.send(body)
    assert first.status == 200
    assert http.send(body).json == first.json


def test_answers_of_an_earlier_recado_are_understood(kind: str, tmp_path: Path):
    plain, late = {"message": 1, "id": "plain"}, {"message": 1, "id": "late", "delay": "1m"}
    with gate(kind, data_dir=tmp_path) as first:
        given = first.send(plain)
        first.send(late)
    with sqlite3.connect(tmp_path / "keys" / "answers.db") as db:
        rows = db.execute("SELECT name, substr(digest, 1, 32), at_ms, owner FROM answers").fetchall()
        db.execute("DROP TABLE answers")
        db.execute("""CREATE TABLE answers(name TEXT PRIMARY KEY, digest BLOB NOT NULL, at_ms INTEGER NOT NULL,
            owner TEXT NOT NULL, fates BLOB) WITHOUT ROWID""")
        position = b"\x91\x93\x00\x00\xcf" + (1_700_000_000_000).to_bytes(8, "big")
        db.executemany("INSERT INTO answers VALUES(?, ?, ?, ?, ?)", [(*row, position) for row in rows])
    db.close()
    with gate(kind, data_dir=tmp_path) as http:
        assert http.send(plain).json == given.json
        assert (http.send(late).status, http.send(late).json["status"]) == (202, "accepted")
        assert http.send({"message": 1, "id": "plain", "partition": 0}).status == 422
        assert http.kafka.produced == []


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(kind: str, tmp_path: Path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "answers.db").write_bytes(b"garbage" * 1000)
    with gate(kind, data_dir=tmp_path) as http:
        given = http.send({"message": 1}, idempotency_key="k")
        assert given.status == 200
        assert http.send({"message": 1}, idempotency_key="k").json == given.json
        (aside,) = (tmp_path / "keys").glob("answers.aside-*.db")
        assert aside.read_bytes() == b"garbage" * 1000
        assert http.request("GET", "/health/ready").json["reasons"] == []


def test_damage_inside_the_file_is_found_when_it_is_met(kind: str, tmp_path: Path):
    path = tmp_path / "keys" / "answers.db"
    with gate(kind, data_dir=tmp_path) as http:
        assert http.lines(b"".join(b'{"message":1,"id":"%d"}\n' % n for n in range(500))).status == 200
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with gate(kind, data_dir=tmp_path) as http:
        assert http.send({"message": 1}, idempotency_key="k").status == 200
        assert len(list((tmp_path / "keys").glob("answers.aside-*.db"))) == 1


def test_a_file_that_cannot_be_opened_costs_no_descriptors_and_is_named_until_it_can(
    kind: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(once, "REST_S", 0.05, raising=False)
    folder = tmp_path / "keys"
    (folder / "answers.db").mkdir(parents=True)
    with gate(kind, data_dir=tmp_path) as http:
        assert http.send({"message": 1}, idempotency_key="k").status == 503
        before = opened_below(folder)
        assert {http.send({"message": 1}, idempotency_key="k").status for _ in range(20)} == {503}
        assert opened_below(folder) <= before + 1
        assert len(list(folder.glob("*.alive"))) == 1
        ready = http.request("GET", "/health/ready")
        assert (ready.status, ready.json["reasons"][0]["code"]) == (200, "idempotency")
        (folder / "answers.db").rmdir()
        eventually(
            lambda: not http.request("GET", "/health/ready").json["reasons"], within_s=20, why="it stays in trouble"
        )
        assert http.send({"message": 1}, idempotency_key="k").status == 200
    assert not list(folder.glob("*.alive"))


def opened_below(folder: Path) -> int:
    """How many descriptors this process has of what is in a folder: others, such as sockets, come and go meanwhile."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed since
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder))
    return found


@pytest.mark.parametrize("is_mended", [True, False])
def test_an_answer_that_could_not_be_written_is_remembered_until_it_is(kind, tmp_path, monkeypatch, is_mended):
    store, fails = Answers.store, threading.Event()

    def store_or_fail(*given):
        if fails.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        store(*given)

    monkeypatch.setattr(Answers, "store", store_or_fail)
    monkeypatch.setattr(once, "REST_S", 0.05, raising=False)
    body = {"message": 1, "delay": "1m"}
    with gate(kind, data_dir=tmp_path) as http:
        fails.set()
        given = http.send(body, idempotency_key="k")
        assert given.status == 202
        assert [http.send(body, idempotency_key="k").json for _ in range(3)] == [given.json] * 3
        assert http.send({"message": 2}, idempotency_key="k").status == 422
        assert http.send({"message": 2}, idempotency_key="new").status == 503
        fails.clear()
        if is_mended:
            eventually(lambda: not http.gateway.once.trouble, within_s=20, why="it was not tried again")
            assert http.send({"message": 2}, idempotency_key="new").status == 200
    with gate(kind, data_dir=tmp_path) as restarted:
        assert restarted.send(body, idempotency_key="k").json == given.json
        assert restarted.kafka.produced == []


def test_a_release_that_could_not_be_written_is_made_up_for(kind, tmp_path, monkeypatch):
    release, failures = Answers.release, [sqlite3.OperationalError("locked")]

    def release_or_fail(*given):
        if failures:
            raise failures.pop()
        release(*given)

    monkeypatch.setattr(Answers, "release", release_or_fail)
    monkeypatch.setattr(once, "REST_S", 0.05, raising=False)
    with gate(kind, data_dir=tmp_path) as http:
        http.kafka.fate = lambda number, record: DeliveryFailed("no") if number == 0 else (0, number, 1)
        assert http.send({"message": 1}, idempotency_key="k").status == 422
        eventually(
            lambda: http.send({"message": 1}, idempotency_key="k").status == 200,
            within_s=20,
            why="it was not tried again",
        )


@pytest.mark.parametrize("lost", ["folder", "file", "log", "replaced"])
def test_keys_whose_files_were_removed_under_the_gateway_are_kept_in_new_ones(kind, tmp_path, lost):
    folder = tmp_path / "keys"
    with gate(kind, data_dir=tmp_path) as http:
        first = http.send({"message": 1}, idempotency_key="first")
        if lost == "folder":
            shutil.rmtree(folder)
        elif lost == "file":
            (folder / "answers.db").unlink()
        elif lost == "log":
            (folder / "answers.db-wal").unlink()
        else:
            with sqlite3.connect(folder / "other.db") as other:
                other.execute("CREATE TABLE unlike(x)")
            other.close()
            (folder / "other.db").rename(folder / "answers.db")
        given = http.send({"message": 1}, idempotency_key="k")
        assert given.status == 200
        assert http.send({"message": 1}, idempotency_key="k").json == given.json
        assert len(list(folder.glob("*.alive"))) == 1
        with sqlite3.connect(folder / "answers.db") as reader:
            assert reader.execute("SELECT 1 FROM answers WHERE name = 'key:k' AND fates IS NOT NULL").fetchone()
        reader.close()
    with gate(kind, data_dir=tmp_path) as restarted:
        assert restarted.send({"message": 1}, idempotency_key="k").json == given.json
        if lost == "log":
            assert restarted.send({"message": 1}, idempotency_key="first").json == first.json
        assert restarted.kafka.produced == []


@pytest.mark.parametrize("lost", ["folder", "file", "log"])
def test_gateways_whose_files_were_removed_come_together_in_the_new_ones(kind, tmp_path, lost, monkeypatch):
    monkeypatch.setattr(once, "REST_S", 0.05, raising=False)
    with gate(kind, data_dir=tmp_path) as http, gate(kind, data_dir=tmp_path) as other:
        for number, each in enumerate((http, other)):
            assert each.send({"message": 1}, idempotency_key=f"first-{number}").status == 200
        if lost == "folder":
            shutil.rmtree(tmp_path / "keys")
        else:
            (tmp_path / "keys" / ("answers.db" if lost == "file" else "answers.db-wal")).unlink()
        given = []

        def both_send() -> bool:
            given[:] = [each.send({"message": 1}, idempotency_key="k") for each in (http, other)]
            return [one.status for one in given] == [200, 200]

        eventually(both_send, within_s=20, why="one of them does not come back")
        assert given[0].json == given[1].json
        assert len(http.kafka.produced) + len(other.kafka.produced) == 3


def test_a_full_disk_keeps_no_new_key_but_still_answers_for_old_ones(kind, tmp_path):
    with gate(kind, data_dir=tmp_path) as http:
        given = http.send({"message": 1}, idempotency_key="k")
        db = http.gateway.once._answers._db
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count={pages}")
        many = b"".join(b'{"message":1,"id":"%d"}\n' % number for number in range(1000))
        assert http.lines(many).status == 503
        assert http.send({"message": 1}, idempotency_key="k").json == given.json
        assert len(http.kafka.produced) == 1


def test_more_answers_than_memory_holds_are_forgotten_oldest_first(kind, tmp_path, monkeypatch):
    def fail(*given):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(once, "MAX_UNWRITTEN", 2)
    body = b'{"message":1,"id":"a"}\n{"message":1,"id":"b"}\n{"message":1,"id":"c"}\n'
    with gate(kind, data_dir=tmp_path) as http:
        assert http.lines(body).status == 200
        assert http.lines(body).status == 200, "what can be written is not bounded"
        with monkeypatch.context() as patch:
            patch.setattr(Answers, "store", fail)
            assert http.lines(body.replace(b'"message":1', b'"topic":"other","message":1')).status == 200
            assert list(http.gateway.once._unwritten) == ["id:other:b", "id:other:c"]
        assert len(http.kafka.produced) == 6
