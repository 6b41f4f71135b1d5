"""Retry topics on a real Kafka, with workers that are killed; the journal and Kafka's own offsets are the judges."""

from __future__ import annotations

import os

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.conftest import make_topic
from tests.integration.test_worker_kafka import Scene, scene  # noqa: F401 - a fixture
from tests.kafka_fixture import start_kafka
from tests.programs import eventually, read_all, watermarks

#: One in ten fails once, one in a hundred always; each pass takes 2 s at least.
HANDLER = """
@worker.handler(concurrency=8, retry=Backoff(first_s=2, factor=1, jitter=0, attempts=3))
def handle(record: Record) -> None:
    note("began", record)
    time.sleep(0.002)
    note("ended", record)
    if record.offset % 100 == 50 or (record.offset % 10 == 1 and record.attempt == 1):
        note("failed", record)
        raise ConnectionError(f"{record.partition}/{record.offset}")
    note("done", record)
"""


def ends_of(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    """The end of each partition, read or deleted as its records may be."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "looks"})
    try:
        return {p: watermarks(consumer, TopicPartition(topic, p))[1] for p in range(partitions)}
    finally:
        consumer.close()


def wait_for_the_end(scene, topic: str, partitions: int) -> None:  # noqa: F811
    """Wait until the group has committed a topic to its end."""
    eventually(
        lambda: scene.committed(topic, partitions) == ends_of(scene.bootstrap, topic, partitions),
        why=lambda: f"{scene.committed(topic, partitions)} is not the end",
    )


def kill_twice(scene, handler: str, topic: str, what: str, count: int) -> None:  # noqa: F811
    """Twice: two workers, until the journal has so many lines more of ``what``; then one is killed, the other ends."""
    for _ in range(2):
        before = len(scene.journal(what))
        with scene.worker(handler, topic) as program, scene.worker(handler, topic) as other:
            eventually(scene.answers, why=lambda: other.log)  # before that, SIGTERM ends a process that only imports
            eventually(lambda before=before: len(scene.journal(what)) > before + count, why=lambda: program.log)
            program.process.kill()
            program.process.wait(10)
            assert other.stop() in (0, 3), other.log


def test_what_fails_comes_back_and_is_done_or_dead_though_workers_are_killed(scene, topic):  # noqa: F811
    name, partitions, count = topic(partitions=3), 3, 3000
    retry, dead = f"retry.{scene.group}.{name}", f"dlq.{scene.group}.{name}"
    scene.send(name, count, keys=50)
    handler = "from recado import Backoff\n" + HANDLER
    kill_twice(scene, handler, name, "done", 400)

    def ended() -> bool:
        found = {(p, o) for _, p, o, _, _ in scene.journal("done")}
        return len(found) >= count - 30 and len(found) + len(read_all(scene.bootstrap, dead)) >= count

    with scene.worker(handler, name) as program:
        eventually(ended, within_s=90, why=lambda: program.log[-4000:])
        wait_for_the_end(scene, retry, partitions)
        assert program.stop() == 0, program.log
    assert sum(scene.committed(name, partitions).values()) == count, program.log[-6000:]
    buried = {
        (int(headers["__dlq.errors.partition"]), int(headers["__dlq.errors.offset"]))
        for message in read_all(scene.bootstrap, dead)
        for headers in [dict(message.headers())]
    }
    done = {(partition, offset) for _, partition, offset, _, _ in scene.journal("done")}
    assert buried == {(p, o) for p, o in buried | done if o % 100 == 50}
    assert not buried & done
    assert len(buried | done) == count
    assert {topic for topic, *_ in scene.journal("done")} == {name}, "a handler sees where a record stood first"


def test_others_do_not_wait_for_one_that_fails_and_a_delay_is_kept(scene, topic):  # noqa: F811
    name = topic(partitions=1)
    scene.send(name, 500, keys=1)
    handler = (
        "from recado import Retry\n"
        "@worker.handler(concurrency=4)\n"
        "def handle(record: Record) -> None:\n"
        '    note(f"at-{time.time():.3f}", record)\n'
        "    if record.offset == 0 and record.attempt == 1:\n"
        "        raise Retry(delay_s=6)\n"
    )
    with scene.worker(handler, name) as program:
        scene.wait_committed(name, {0: 500})
        assert program.log.count("retry asked for") == 1

        def moments() -> list[float]:
            lines = (scene.folder / "journal").read_text().splitlines()
            return [float(line.split(" ")[0][3:]) for line in lines if line.split(" ")[3] == "0"]

        assert len(moments()) == 1
        eventually(lambda: len(moments()) == 2, why=lambda: program.log)
        first, second = moments()
        assert 5.99 <= second - first < 10  # the topics were made for it, too; benchmarks/retrying.py measures
        assert program.stop() == 0, program.log


#: Once later, then never.
LARGE = """
from recado import Retry
@worker.handler(concurrency=4, exactly_once=EXACTLY_ONCE)
def handle(record: Record) -> None:
    if record.key == b"large":
        raise Retry(delay_s=2.5) if record.attempt == 1 else Reject("never")
    note("done", record)
"""


@pytest.mark.parametrize(
    ("config", "value"), [({"max_message_bytes": "3000000"}, os.urandom(2_000_000)), ({}, os.urandom(1_309_800))]
)
@pytest.mark.parametrize("exactly_once", ["False", "True"])
def test_the_largest_that_a_topic_takes_can_be_retried_later_and_die(tmp_path, config, value, exactly_once):
    with start_kafka(tmp_path / "kafka") as kafka:
        name, scene = make_topic(kafka.bootstrap_servers, 1, config), Scene(kafka, tmp_path)
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "message.max.bytes": 4_000_000})
        producer.produce(name, value, b"large")
        producer.produce(name, b"next", b"other")
        assert producer.flush(30) == 0
        with scene.worker(LARGE.replace("EXACTLY_ONCE", exactly_once), name) as program:
            eventually(
                lambda: read_all(kafka.bootstrap_servers, f"dlq.{scene.group}.{name}"), why=lambda: program.log[-4000:]
            )
            assert scene.reasons() == []
            assert program.stop() == 0, program.log
        (letter,) = read_all(kafka.bootstrap_servers, f"dlq.{scene.group}.{name}")
        assert letter.value() == value
        assert len(scene.journal("done")) == 1


#: Of each key some fail once, one fails always; whatever is dead is told, too.
ORDERED = """
@worker.handler(concurrency=8, retry=Backoff(first_s=2, factor=1, jitter=0, attempts=3, keep_order=True))
def handle(record: Record) -> None:
    note("began", record)
    time.sleep(0.002)
    number = int(record.text())
    if number % 127 == 7 or (number % 41 == 3 and record.attempt == 1):
        if record.attempt == 3:
            note("ended", record)
        raise ConnectionError(record.text())
    note("ended", record)
"""


def out_of_order(lines: list[str]) -> list[str]:
    """Where a record of a key began before all the earlier ones had ended; judged from the journal alone."""
    found: list[str] = []
    began, ended = dict[tuple[str, str], list[int]](), dict[tuple[str, str], set[int]]()
    for line in lines:
        what, _, partition, offset, key, _ = line.split(" ")
        lane, number = (partition, key), int(offset)
        if what == "ended":
            ended.setdefault(lane, set()).add(number)
            continue
        seen = began.setdefault(lane, [])
        if number not in seen:
            found += [f"{line}: {earlier} had not ended" for earlier in seen if earlier not in ended.get(lane, set())]
            found += [line for later in seen if later > number]
            seen.append(number)
    return found


@pytest.mark.parametrize("budget", [20_000, 100])  # the smaller one is less than what is parked
def test_a_failed_keys_order_is_kept_though_workers_are_killed_and_join_and_leave(scene, topic, budget):  # noqa: F811
    name, partitions, count = topic(partitions=3), 3, 2400
    retry = f"retry.{scene.group}.{name}"
    producer = Producer({"bootstrap.servers": scene.bootstrap, "linger.ms": 5})
    for number in range(count):
        producer.produce(name, b"%d" % number, b"%d" % (number % 40))
        producer.poll(0)
    assert producer.flush(30) == 0
    handler = f"import recado.worker.handling.flow\nrecado.worker.handling.flow.MAX_RECORDS = {budget}\n" + ORDERED
    kill_twice(scene, handler, name, "ended", 300)
    with scene.worker(handler, name) as program:
        eventually(
            lambda: len({row[1:3] for row in scene.journal("ended")}) == count, within_s=120, why=lambda: program.log
        )
        wait_for_the_end(scene, retry, partitions)
        assert program.stop() == 0, program.log
    assert sum(scene.committed(name, partitions).values()) == count
    assert out_of_order((scene.folder / "journal").read_text().splitlines()) == []
    dead = read_all(scene.bootstrap, f"dlq.{scene.group}.{name}")
    assert {int(message.value()) for message in dead} == {n for n in range(count) if n % 127 == 7}
