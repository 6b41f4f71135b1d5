"""The worker on a share group of a real Kafka (4.2 and later): the same handlers, outcomes and dead letters."""

from __future__ import annotations

import time

import pytest

from tests.integration.test_worker_kafka import scene  # noqa: F401 - a fixture
from tests.kafka_fixture import kafka_version
from tests.programs import eventually, read_all

needs_4_2 = pytest.mark.skipif(kafka_version() < "4.2", reason="share groups need Kafka 4.2")

HANDLER = """
@worker.handler(concurrency=8, engine="share", retry=Backoff(first_s=0.05, attempts=3))
def handle(record: Record) -> None:
    note("began", record)
    time.sleep(0.002)
    if record.value == b"bad":
        raise ValueError("no such customer")
    note("ended", record)
"""


@needs_4_2
def test_a_share_group_does_every_record_from_the_first_on_and_buries_what_fails(scene, topic):  # noqa: F811
    name = topic(partitions=2)
    scene.send(name, 700, keys=20)
    scene.send(name, 1, value=b"bad", partition=1)
    scene.send(name, 300, keys=20)
    with scene.worker(HANDLER, name) as first, scene.worker(HANDLER, name) as second:
        done = lambda: len({row[1:3] for row in scene.journal("ended")})  # noqa: E731
        eventually(lambda: done() == 1000, within_s=60, why=lambda: f"{done()} {first.log[-3000:]}")
        eventually(lambda: f"dlq.{scene.group}.{name}" in first.log + second.log)
        assert scene.reasons() == []
        assert [first.stop(), second.stop()] == [0, 0], first.log[-2000:]
    assert len(scene.journal("ended")) == 1000, "nothing twice where nobody died"
    (letter,) = read_all(scene.bootstrap, f"dlq.{scene.group}.{name}")
    headers = dict(letter.headers())
    assert (letter.value(), headers["__dlq.errors.delivery.count"]) == (b"bad", b"3")
    assert '"event": "engine share is a preview"' in first.log


@needs_4_2
def test_a_killed_members_records_come_again_with_a_higher_attempt(scene, topic):  # noqa: F811
    name = topic(partitions=1)
    scene.send(name, 40)
    handler = HANDLER.replace("time.sleep(0.002)", "time.sleep(60 if record.attempt == 1 else 0)")
    with scene.worker(handler, name) as program:
        eventually(lambda: len(scene.journal("began")) == 8, within_s=40, why=lambda: program.log)
        program.process.kill()
        program.process.wait(10)
    with scene.worker(HANDLER, name) as program:
        eventually(lambda: len({row[2] for row in scene.journal("ended")}) == 40, within_s=90, why=lambda: program.log)
        assert program.stop() == 0
    attempts = {row[2]: row[4] for row in scene.journal("ended")}
    assert max(attempts.values()) == 2


@needs_4_2
def test_a_stop_waits_for_handlers_within_its_drain_time_and_names_what_remains(scene, topic):  # noqa: F811
    name = topic(partitions=1)
    scene.send(name, 1)
    handler = HANDLER.replace("time.sleep(0.002)", "time.sleep(60)")
    with scene.worker(handler, name, RECADO_DRAIN_S="1") as program:
        eventually(lambda: scene.journal("began"), within_s=40, why=lambda: program.log)
        told_at = time.monotonic()
        assert program.stop() == 3, program.log[-2000:]
        assert time.monotonic() - told_at < 15, "it was lent for 25 s"
        assert f"{name}/0/0" in program.log


@pytest.mark.skipif(kafka_version() >= "4.2", reason="an older Kafka")
def test_an_older_kafka_is_refused_with_the_reason(scene, topic):  # noqa: F811
    with scene.worker(HANDLER, topic(partitions=1)) as program:
        assert program.process.wait(60) == 2
        assert "needs Kafka 4.2 or later" in program.log
