"""`recado dead-letters` on a real Kafka."""

from __future__ import annotations

import json
import uuid

from confluent_kafka import Producer

from recado.kafka.admin import Admin
from recado.kafka.memory import MemoryMessage
from recado.outcomes.dead_letter import cause_of, dead_letter
from recado.outcomes.group_topics import dead_letter_topic
from recado.outcomes.history import Failure, began, failed
from recado.record import Outgoing
from recado.settings import Settings
from tests.command import recado


def bury(kafka, group: str, topic: str, count: int) -> None:
    """Dead letters as a worker writes them: two kinds, by turns."""
    settings = Settings(bootstrap_servers=kafka.bootstrap_servers)
    Admin(settings).create_topic(dead_letter_topic(group, topic), partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 5})
    for number in range(count):
        source = MemoryMessage(Outgoing(topic, b'{"n": %d}' % number, id="", key=b"k"), 0, number, 5_000)
        error: Exception = ConnectionError("away") if number % 2 else ValueError(f"bad {number}\x1b[2J")
        history = failed(began(source, group), Failure(1_000, "first"), Failure(2_000, "last"))
        record = dead_letter(source, history, cause_of(error, "given up"), partition=0)
        producer.produce(record.topic, record.value, record.key, 0, headers=list(record.headers))
    assert producer.flush(30) == 0


def test_what_a_group_gave_up_is_listed_by_kind_and_shown_one_by_one(kafka, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    group, other = f"g-{uuid.uuid4().hex[:8]}", f"g-{uuid.uuid4().hex[:8]}"
    of = ["--bootstrap-servers", kafka.bootstrap_servers]
    ran = recado("dead-letters", "list", "--group", group, *of)
    assert (ran.code, ran.err.strip()) == (0, f"Group {group} has none.")
    bury(kafka, group, "orders", 30)
    bury(kafka, other, "orders", 3)
    listed = json.loads(recado("dead-letters", "list", "--group", group, "--json", *of).out)
    assert (listed["group"], listed["total"], listed["read"]) == (group, 30, 30)
    newest = listed["kinds"][0]
    assert (newest["fingerprint"], newest["count"], newest["error"]) == ("ConnectionError", 15, "away")
    assert newest["newest"] == f"dlq.{group}.orders/0/29"
    assert [kind["count"] for kind in listed["kinds"]] == [15, 15]
    few = json.loads(recado("dead-letters", "list", "--group", group, "--limit", "10", "--json", *of).out)
    assert (few["total"], few["read"]) == (30, 10)
    text = recado("dead-letters", "list", "--group", group, "--topic", "orders", *of)
    assert "30 dead letters" in text.err
    assert "\x1b" not in text.out

    shown = recado("dead-letters", "show", f"dlq.{group}.orders/0/28", *of)
    assert shown.code == 0
    for part in ("orders/0/28", "ValueError: bad 28\\x1b", "given up", '{"n": 28}', "attempt failed"):
        assert part in shown.out
    letter = json.loads(recado("dead-letters", "show", f"dlq.{group}.orders/0/29", "--json", *of).out)
    assert (letter["source_offset"], letter["attempts"], letter["value"]) == (29, 2, '{"n": 29}')


def test_a_letter_that_is_not_there_or_is_named_wrongly_is_said(kafka, topic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of = ["--bootstrap-servers", kafka.bootstrap_servers]
    name = topic(partitions=1)
    ran = recado("dead-letters", "show", f"{name}/0/5", *of)
    assert (ran.code, "there is no dead letter at" in ran.err) == (1, True)
    assert recado("send", name, "a record", *of).code == 0
    ran = recado("dead-letters", "show", f"{name}/0/0", *of)
    assert (ran.code, "is no dead letter" in ran.err) == (1, True)
    ran = recado("dead-letters", "show", "orders", *of)
    assert (ran.code, "TOPIC/PARTITION/OFFSET" in ran.err) == (2, True)
