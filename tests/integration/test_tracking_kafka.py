"""`recado where` and `recado verify` on a real Kafka: every place where a record can be."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from uuid_utils import uuid7

from recado import create_app
from recado.kafka.admin import Admin
from recado.outcomes.delay import delay
from recado.record import HEADER_ID, Outgoing
from recado.settings import Settings
from recado.tracking.look import Look
from tests.command import Ran, recado
from tests.integration.test_worker_kafka import scene  # noqa: F401 - a fixture
from tests.programs import eventually

#: What becomes of a record is its value.
HANDLER = """
from recado import Backoff, Reject, Retry
@worker.handler(concurrency=4, retry=Backoff(first_s=60, jitter=0))
def handle(record: Record) -> None:
    if record.text() == "rejected":
        raise Reject("no good")
    if record.text() == "retried":
        raise Retry(delay_s=90)
    if record.text() == "slow":
        time.sleep(30)
"""


def send(bootstrap: str, topic: str, value: str, *, partition: int = 0, id_: str = "", key: str = "k") -> str:
    """Send one record as a gateway does; returns its id."""
    id_ = id_ or str(uuid7())
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value, key, partition, headers=[(HEADER_ID, id_.encode())])
    assert producer.flush(30) == 0
    return id_


def commit(bootstrap: str, group: str, topic: str, offset: int, metadata: str = "") -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset, metadata)], asynchronous=False)
    consumer.close()


class Asking:
    """The commands, for one cluster and folder."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.of = ["--bootstrap-servers", bootstrap]
        self.topic = topic

    def where(self, message: str, *more: str) -> dict:
        ran = recado("where", message, "--topic", self.topic, "--json", *more, *self.of)
        assert ran.out, ran.err
        return json.loads(ran.out)

    def verify(self, group: str, *more: str) -> tuple[int, dict]:
        ran = recado("verify", "--group", group, "--json", *more, *self.of)
        assert ran.out, ran.err
        return ran.code, json.loads(ran.out)

    def plainly(self, *words: str) -> Ran:
        return recado(*words, *self.of)


def test_where_a_record_is_at_every_moment_of_its_life(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    ask, group = Asking(scene.bootstrap, name), scene.group
    first = send(scene.bootstrap, name, "fine")
    found = ask.where(first)
    assert (found["state"], found["groups"], found["partition"], found["offset"]) == ("delivered", [], 0, 0)
    ids = {value: send(scene.bootstrap, name, value, key=value) for value in ("rejected", "retried", "slow", "last")}
    with scene.worker(HANDLER, name) as program:
        state = lambda id_: ask.where(id_, "--group", group)["state"]  # noqa: E731
        eventually(lambda: state(ids["last"]) == "done", why=lambda: program.log)
        assert state(first) == "done"
        eventually(lambda: state(ids["slow"]) == "in progress", why=lambda: program.log)
        eventually(lambda: state(ids["rejected"]) == "dead", why=lambda: program.log)
        eventually(lambda: state(ids["retried"]) == "retrying", why=lambda: program.log)
        assert ask.where(ids["rejected"].upper())["state"] == "dead"
        assert ask.plainly("where", ids["rejected"], "--topic", name, "--group", "").code == 2
        ran = ask.plainly("where", ids["rejected"], "--topic", name, "--group", f"{group}x")
        assert (ran.code, "delivered" in ran.out, f"Did you mean {group}?" in ran.err) == (0, True, True)
        dead = ask.where(ids["rejected"])["groups"][0]
        assert (dead["group"], dead["dead_letter"]) == (group, f"dlq.{group}.{name}/0/0")
        assert dead["attempts"][0]["error"] == "Reject: no good"
        waits = ask.where(ids["retried"])
        assert (waits["id"], waits["state"]) == (ids["retried"], "retrying")
        assert 60_000 < waits["groups"][0]["next_attempt_at"] - time.time() * 1000 < 91_000
        assert ask.where(f"{name}/0/1")["groups"] == ask.where(ids["rejected"])["groups"]
        code, books = ask.verify(group)
        total = {k: v for k, v in books["total"].items() if v}
        assert (code, total) == (0, {"accepted": 5, "done": 2, "retrying": 1, "dead": 1, "not_handled": 1})
        text = ask.plainly("where", ids["retried"], "--topic", name)
        assert "next attempt" in text.out
        assert "it balances" in ask.plainly("verify", "--group", group).err
        program.process.kill()
    eventually(lambda: ask.where(ids["slow"])["state"] == "delivered")  # when its session is over


def test_what_is_on_its_way_gone_or_never_was(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    ask = Asking(scene.bootstrap, name)
    assert ask.where(str(uuid7()))["state"] == "unknown"
    assert ask.plainly("where", str(uuid7()), "--topic", name).code == 1
    own = send(scene.bootstrap, name, "x", id_="order-4711")
    ran = ask.plainly("where", own, "--topic", name)
    assert (ran.code, "--since" in ran.err) == (2, True)
    assert ask.where(own, "--since", "10m")["offset"] == 0
    later, now_ms = str(uuid7()), int(time.time() * 1000)
    record = Outgoing(name, b"later", later, b"k", [(HEADER_ID, later.encode())], 0)
    waiting = delay(record, due_ms=now_ms + 3_600_000, now_ms=now_ms)
    Admin(Settings(bootstrap_servers=scene.bootstrap)).create_topic(waiting.topic, partitions=3)
    producer = Producer({"bootstrap.servers": scene.bootstrap})
    producer.produce(waiting.topic, waiting.value, waiting.key, headers=list(waiting.headers))
    assert producer.flush(30) == 0
    found = ask.where(later)
    assert (found["state"], found["deliver_at"], "offset" in found and found["offset"]) == (
        "accepted", now_ms + 3_600_000, None,
    )  # fmt: skip
    old = send(scene.bootstrap, name, "old")
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.delete_records([TopicPartition(name, 0, 2)])[TopicPartition(name, 0, 2)].result(20)
    assert ask.where(old)["state"] == "expired"
    assert ask.where(f"{name}/0/1")["state"] == "expired"
    assert ask.where(f"{name}/0/99")["state"] == "unknown"


def test_what_does_not_balance_is_named_record_by_record(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recado.tracking.verify.AGAIN_S", 0.1)
    name = topic(partitions=1)
    ask, group = Asking(scene.bootstrap, name), scene.group
    scene.send(name, 10, partition=0)
    ran = ask.plainly("verify", "--group", group)
    assert (ran.code, "has committed nothing yet" in ran.err) == (1, True)
    commit(scene.bootstrap, group, name, 4)
    code, books = ask.verify(group)
    assert (code, books["balanced"], books["total"]["not_handled"]) == (0, True, 6)
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.delete_records([TopicPartition(name, 0, 6)])[TopicPartition(name, 0, 6)].result(20)
    code, books = ask.verify(group)
    [problem] = books["entries"][0]["problems"]
    assert (code, problem["kind"], problem["offsets"]) == (1, "expired", [4, 5])
    commit(scene.bootstrap, group, name, 12)
    ran = ask.plainly("verify", "--group", group)
    assert ran.code == 1
    assert f"{name}/0: 2 committed, but the partition has no such records" in ran.err
    assert "DOES NOT BALANCE" in ran.err


def delete_records(bootstrap: str, topic: str, before: int) -> None:
    admin, where = AdminClient({"bootstrap.servers": bootstrap}), TopicPartition(topic, 0, before)
    admin.delete_records([where])[where].result(20)


def test_what_outlives_its_record_is_found_by_id_and_by_any_place(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    ask, group = Asking(scene.bootstrap, name), scene.group
    ids = {value: send(scene.bootstrap, name, value, key=value) for value in ("fine", "rejected", "retried", "last")}
    letter = f"dlq.{group}.{name}/0/0"
    with scene.worker(HANDLER, name) as program:
        for value, state in {"last": "done", "rejected": "dead", "retried": "retrying"}.items():
            eventually(
                lambda value=value, state=state: ask.where(ids[value], "--group", group)["state"] == state,
                why=lambda: program.log,
            )
        whole = ask.where(ids["rejected"])
        assert ask.where(letter) == whole
        assert program.stop() == 0
    delete_records(scene.bootstrap, name, 4)
    for message in (ids["rejected"], letter, f"{name}/0/1"):
        found = ask.where(message)
        assert (found["state"], found["offset"], found["groups"]) == ("dead", 1, whole["groups"])
    assert ask.where(letter)["id"] == ids["rejected"]
    assert ask.where(ids["retried"])["state"] == ask.where(f"{name}/0/2")["state"] == "retrying"
    assert ask.where(f"{name}/0/0")["state"] == "done"
    assert ask.where(f"{name}/0/0", "--group", "another")["state"] == "expired"
    assert ask.where(ids["fine"])["state"] == "expired"  # by its id alone nothing of it can be found


def test_dead_letters_that_were_deleted_are_not_taken_for_done(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recado.tracking.verify.AGAIN_S", 0.1)
    name = topic(partitions=1)
    ask, group = Asking(scene.bootstrap, name), scene.group
    letters = f"dlq.{group}.{name}"
    ids = [send(scene.bootstrap, name, "rejected") for _ in range(3)]
    with scene.worker(HANDLER, name) as program:
        eventually(lambda: ask.where(ids[2], "--group", group)["state"] == "dead", why=lambda: program.log)
        discarded = recado(
            "dead-letters", "discard", "--group", group, f"{letters}/0/0", "--reason", "seen", "--yes", *ask.of
        )
        assert discarded.code == 0, discarded.err
        delete_records(scene.bootstrap, letters, 1)
        code, books = ask.verify(group)
        assert (code, books["balanced"]) == (0, True)
        assert ask.where(ids[0], "--group", group)["state"] == "expired"
        after = send(scene.bootstrap, name, "fine")  # what came after the discard cannot be what was discarded
        eventually(lambda: ask.where(after, "--group", group)["state"] == "done", why=lambda: program.log)
        delete_records(scene.bootstrap, letters, 3)
        code, books = ask.verify(group)
        [problem] = books["problems"]
        assert (code, problem["kind"], problem["topic"], problem["offsets"]) == (1, "expired", letters, [1, 2])
        states = [ask.where(id_, "--group", group)["state"] for id_ in ids]
        assert states == ["expired", "expired", "expired"]
        late = send(scene.bootstrap, name, "rejected")
        eventually(lambda: ask.where(late, "--group", group)["state"] == "dead", why=lambda: program.log)
        fine = send(scene.bootstrap, name, "fine")
        eventually(lambda: ask.where(fine, "--group", group)["state"] == "done", why=lambda: program.log)


def test_what_waits_for_a_retry_is_found_though_its_topic_was_deleted(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    ask, group = Asking(scene.bootstrap, name), scene.group
    waits = send(scene.bootstrap, name, "retried")
    with scene.worker(HANDLER, name) as program:
        eventually(lambda: ask.where(waits, "--group", group)["state"] == "retrying", why=lambda: program.log)
        program.process.kill()
        program.process.wait()
    retry = f"retry.{group}.{name}"
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    admin.delete_topics([retry])[retry].result(20)
    eventually(lambda: retry not in admin.list_topics(timeout=20).topics)
    assert ask.where(waits, "--group", group)["state"] == "retrying"
    code, books = ask.verify(group)
    assert (code, books["total"]["retrying"], books["total"]["done"]) == (0, 1, 0)


def test_transaction_markers_count_only_where_nobody_reads(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    ask, group = Asking(scene.bootstrap, name), scene.group
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": name})
    producer.init_transactions(30)
    for _ in range(3):
        producer.begin_transaction()
        producer.produce(name, b"x", partition=0)
        producer.commit_transaction(30)
    commit(scene.bootstrap, group, name, 6)
    assert ask.verify(group)[1]["total"]["accepted"] == 6
    assert ask.verify(group, "--read")[1]["total"] == {
        "accepted": 3, "done": 3, "retrying": 0, "dead": 0, "discarded": 0, "not_handled": 0, "again": 0,
    }  # fmt: skip


def test_what_stands_behind_an_open_transaction_is_not_called_unknown(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recado.gateway.messages.OPEN_S", 1.0)
    monkeypatch.setattr("recado.cli.where.Look", partial(Look, patience_s=1.0))
    name = topic(partitions=2)
    ask = Asking(scene.bootstrap, name)
    before = send(scene.bootstrap, name, "x")
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"open", partition=0)
    assert producer.flush(30) == 0
    behind, beside = send(scene.bootstrap, name, "x"), send(scene.bootstrap, name, "x", partition=1)
    http = create_app(Settings(bootstrap_servers=scene.bootstrap, data_dir=tmp_path)).test_client()
    assert [ask.where(id_)["state"] for id_ in (before, beside)] == ["delivered", "delivered"]
    for message in (behind, f"{name}/0/2"):
        ran = ask.plainly("where", message, "--topic", name)
        assert (ran.code, f"a transaction has been open in {name}" in ran.err) == (4, True), ran
        found = http.get(f"/messages/{name}/{message.removeprefix(name + '/')}")
        assert (found.status_code, "open" in found.json["detail"]) == (503, True)
    producer.abort_transaction(30)
    assert (ask.where(behind)["state"], ask.where(behind)["offset"]) == ("delivered", 2)
    assert ask.where(f"{name}/0/2")["id"] == behind


def test_who_reads_beyond_an_open_transaction_has_committed_no_log_that_was_cut(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    ask = Asking(scene.bootstrap, name)
    scene.send(name, 2, partition=0)
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"open", partition=0)
    assert producer.flush(30) == 0
    commit(scene.bootstrap, scene.group, name, 3)  # as a consumer with read_uncommitted does
    code, books = ask.verify(scene.group)
    assert (code, books["entries"][0]["problems"], books["total"]["accepted"]) == (0, [], 2)
    producer.abort_transaction(30)
    assert ask.verify(scene.group)[1]["total"]["done"] == 3
    commit(scene.bootstrap, scene.group, name, 9)
    assert ask.verify(scene.group)[1]["entries"][0]["problems"][0]["kind"] == "beyond the end"


def test_the_gateway_tells_where_a_message_is(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    app = create_app(Settings(bootstrap_servers=scene.bootstrap, data_dir=tmp_path))
    http = app.test_client()
    sent = http.post("/send", json={"message": "x", "topic": name})
    assert sent.status_code == 200
    found = http.get(f"/messages/{name}/{sent.json['id']}")
    assert (found.status_code, found.json["state"], found.json["offset"]) == (200, "delivered", 0)
    commit(scene.bootstrap, scene.group, name, 1)
    found = http.get(f"/messages/{name}/0/0?group={scene.group}").json
    assert (found["id"], found["state"]) == (sent.json["id"], "done")
    assert found["groups"] == [
        {"group": scene.group, "state": "done", "attempts": [], "next_attempt_at": None, "dead_letter": None}
    ]
    later = http.post("/send", json={"message": "x", "topic": name, "delay": "1h"})
    assert later.status_code == 202
    found = http.get(later.headers["Location"])
    assert (found.status_code, found.json["state"]) == (200, "accepted")
    assert http.get(f"/messages/{name}/{uuid7()}").status_code == 404
    for path, status, code in (
        (f"/messages/{name}/order-1", 422, "invalid-field"),
        (f"/messages/{name}/0/0?since=10", 422, "invalid-field"),
        (f"/messages/{name}/{uuid7()}?sinse=10", 422, "invalid-field"),
        (f"/messages/none-{name}/0/0", 404, "unknown-topic"),
        (f"/messages/{name}/0/0?group=", 422, "invalid-field"),
    ):
        answer = http.get(path)
        assert (answer.status_code, answer.json["code"]) == (status, code), path
    for place in (f"{10**30}/0", f"0/{10**30}", "7/0"):
        assert http.get(f"/messages/{name}/{place}").json["state"] == "unknown"


@pytest.mark.parametrize("own", ["order-4711", "orders/eu/1", "/a//b/", "a?b#c%2Fd"])
def test_the_location_of_a_202_leads_to_the_record_whatever_its_id(own, scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    http = create_app(Settings(bootstrap_servers=scene.bootstrap, data_dir=tmp_path)).test_client()
    body = {"message": "x", "topic": name, "id": own}
    sent = http.post("/send", json=body, headers={"Prefer": "respond-async"})
    assert sent.status_code == 202
    found = eventually(lambda: http.get(sent.headers["Location"]))
    assert (found.status_code, found.json["id"]) == (200, own)
    other = http.get(f"/messages/{name}/nobody-knows-it")
    assert (other.status_code, "of the last day" in other.json["detail"]) == (422, True)


def test_records_that_were_deleted_before_the_worker_read_them_are_told(scene, topic):  # noqa: F811
    name = topic(partitions=1)
    for _ in range(6):
        send(scene.bootstrap, name, "fine")
    commit(scene.bootstrap, scene.group, name, 1)
    delete_records(scene.bootstrap, name, 4)
    often = "from recado.worker.reporting import audit\naudit.LOOK_EVERY_S = 0.2\n"
    with scene.worker(often + HANDLER, name) as program:
        eventually(lambda: "deleted before they were read" in program.log, why=lambda: program.log)
        scene.wait_committed(name, {0: 6})
        [told] = [line for line in program.log.splitlines() if "deleted before they were read" in line]
        assert (json.loads(told)["first"], json.loads(told)["last"]) == (1, 3)


def test_letters_of_an_earlier_topic_of_the_name_are_not_those_of_todays_records(scene, topic, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    name = topic(partitions=1)
    ask, group = Asking(scene.bootstrap, name), scene.group
    gone = [send(scene.bootstrap, name, "rejected") for _ in range(2)]
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    with scene.worker(HANDLER, name) as program:
        eventually(lambda: ask.where(gone[1], "--group", group)["state"] == "dead", why=lambda: program.log)
        admin.delete_topics([name])[name].result(20)
        eventually(lambda: name not in admin.list_topics(timeout=10).topics)
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
        eventually(lambda: "made anew" in program.log, within_s=30, why=lambda: program.log)
        ids = [send(scene.bootstrap, name, "fine") for _ in range(3)]
        eventually(lambda: ask.where(ids[2], "--group", group)["state"] == "done", why=lambda: program.log)
        code, books = ask.verify(group)
        assert (code, books["earlier"], books["total"]["dead"], books["total"]["done"]) == (0, 2, 0, 3)
        assert "2 more wait or are dead" in ask.plainly("verify", "--group", group).out
        assert [ask.where(f"{name}/0/{offset}")["state"] for offset in range(3)] == ["done"] * 3
        found = ask.where(f"dlq.{group}.{name}/0/1")
        assert (found["id"], found["state"], found["groups"][0]["dead_letter"]) == (
            gone[1], "dead", f"dlq.{group}.{name}/0/1",
        )  # fmt: skip
