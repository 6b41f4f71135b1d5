"""The worker on a real Kafka, run as a user runs it; an independent reader says what is committed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from recado.embedded import EmbeddedKafka
from recado.kafka.admin import Admin
from recado.kafka.groups import Groups
from recado.settings import Settings
from tests.conftest import make_topic
from tests.kafka_fixture import kafka_version, start_kafka
from tests.programs import Program, committed, eventually, free_port, read_all, running

#: Writes a line per record that began and that ended, whole or not at all, so that a kill loses no evidence.
PROGRAM = """
import asyncio, os, time
from recado import Backoff, Record, Reject, Worker
journal = os.open("journal", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

def note(what, record):
    key = (record.key or b"").decode()
    os.write(journal, f"{what} {record.topic} {record.partition} {record.offset} {key} {record.attempt}\\n".encode())

worker = Worker()
"""

#: What ``reasons`` says of a worker that does not listen (yet).
NO_ANSWER = [{"code": "no answer"}]


class Scene:
    """One topic, one group, one folder, and programs that work on them."""

    def __init__(self, kafka: EmbeddedKafka, folder: Path) -> None:
        self.bootstrap = kafka.bootstrap_servers
        self.folder = folder
        self.group = f"g-{uuid.uuid4().hex[:8]}"
        self.port = 0
        # A test need not wait long for a rebalance, or for the session of a member that it killed.
        self.of_a_member = {
            "RECADO_KAFKA_CONSUMER_HEARTBEAT_INTERVAL_MS": "500",
            "RECADO_KAFKA_CONSUMER_SESSION_TIMEOUT_MS": "6000",
        }

    @contextmanager
    def worker(self, handler: str, topic: str, **settings: str) -> Iterator[Program]:
        path = self.folder / f"jobs{free_port()}.py"
        path.write_text(PROGRAM + handler + '\nif __name__ == "__main__":\n    worker.run()\n')
        self.port = free_port()
        environment = {
            "RECADO_BOOTSTRAP_SERVERS": self.bootstrap,
            "RECADO_GROUP": self.group,
            "RECADO_TOPIC": topic,
            "RECADO_WORKER_PORT": str(self.port),
            **self.of_a_member,
            **settings,
        }
        with running([str(path)], environment, self.folder) as program:
            yield program

    def send(self, topic: str, count: int, *, keys: int = 0, partition: int = -1, value: bytes = b"x") -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5})
        for number in range(count):
            producer.produce(topic, value, b"%d" % (number % keys) if keys else None, partition)
            producer.poll(0)
        assert producer.flush(30) == 0

    def journal(self, what: str) -> list[tuple[str, int, int, str, int]]:
        path = self.folder / "journal"
        text = path.read_text() if path.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last line may be on its way
        rows = [line.split(" ") for line in lines if line.startswith(f"{what} ")]
        return [(row[1], int(row[2]), int(row[3]), row[4], int(row[5])) for row in rows]

    def committed(self, topic: str, partitions: int = 1) -> dict[int, int]:
        try:
            return committed(self.bootstrap, self.group, topic, partitions)
        except KafkaException:
            return {}  # a young broker may still be loading its groups

    def wait_committed(self, topic: str, expected: dict[int, int], within_s: float = 40) -> None:
        look = lambda: self.committed(topic, len(expected)) == expected  # noqa: E731
        why = lambda: f"not {expected} but {self.committed(topic, len(expected))}"  # noqa: E731
        eventually(look, within_s=within_s, why=why)

    def answers(self) -> bool:
        """Whether the worker begun last answers on its port: it has begun, signals reach it."""
        return self.reasons() != NO_ANSWER

    def reasons(self) -> list[dict]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5) as answer:
                return json.load(answer)["reasons"]
        except urllib.error.HTTPError as error:
            return json.load(error)["reasons"]
        except OSError:
            return NO_ANSWER


@pytest.fixture
def scene(kafka: EmbeddedKafka, tmp_path: Path) -> Scene:
    return Scene(kafka, tmp_path)


NOTES = """
@worker.handler(concurrency=8)
def handle(record: Record) -> None:
    note("began", record)
    time.sleep(0.002)
    note("ended", record)
"""


def test_kill_9_loses_nothing(scene, topic):
    name, sent = topic(partitions=3), 6000
    scene.send(name, sent, keys=50)
    for _ in range(2):
        before = len(scene.journal("ended"))
        with scene.worker(NOTES, name) as program:
            eventually(lambda before=before: len(scene.journal("ended")) > before + 700, why=lambda: program.log)
            program.process.kill()
            program.process.wait(10)
        ended = {row[1:3] for row in scene.journal("ended")}
        for partition, offset in scene.committed(name, 3).items():
            assert all((partition, number) in ended for number in range(offset)), "committed, but never handled"
    with scene.worker(NOTES, name) as program:
        eventually(lambda: len({row[1:3] for row in scene.journal("ended")}) == sent, why=lambda: program.log)
        eventually(lambda: sum(scene.committed(name, 3).values()) == sent)
        assert program.stop() == 0
    repeated = len(scene.journal("ended")) - sent
    assert repeated < 2000, "a kill repeats little"


def test_sigterm_finishes_what_executes_commits_exactly_that_and_exits_0(scene, topic):
    name = topic(partitions=1)
    scene.send(name, 2000, keys=20)
    with scene.worker(NOTES, name) as program:
        eventually(lambda: len(scene.journal("ended")) > 200, why=lambda: program.log)
        assert program.stop(signal.SIGTERM) == 0, program.log
    assert sorted(scene.journal("began")) == sorted(scene.journal("ended"))
    ended = {row[2] for row in scene.journal("ended")}
    lowest = next(offset for offset in range(2001) if offset not in ended)
    assert scene.committed(name) == {0: lowest}
    with scene.worker(NOTES, name):
        scene.wait_committed(name, {0: 2000})


UNDER_LOAD = {
    "def": "@worker.handler(concurrency=8)\ndef handle(record: Record) -> None:\n    work(record)\n",
    "async": "@worker.handler(concurrency=32)\nasync def handle(record: Record) -> None:\n"
    '    note("began", record)\n    await asyncio.sleep(0.05)\n    note("ended", record)\n',
    "process": "@worker.handler(concurrency=4, timeout_s=20)\ndef handle(record: Record) -> None:\n    work(record)\n",
    "batch": "@worker.handler(batch=(20, 0.05), concurrency=4)\ndef handle(records: list[Record]) -> None:\n"
    "    for record in records:\n        work(record)\n",
}


@pytest.mark.parametrize("kind", UNDER_LOAD)
def test_sigterm_under_load_ends_in_time_with_0_and_nothing_is_repeated(scene, topic, kind):
    name, sent, drain_s = topic(partitions=3), 4000, 10
    scene.send(name, sent, keys=60)
    work = 'def work(record):\n    note("began", record)\n    time.sleep(0.02)\n    note("ended", record)\n\n'
    for _ in range(2):
        before = len(scene.journal("ended"))
        with scene.worker(work + UNDER_LOAD[kind], name, RECADO_DRAIN_S=str(drain_s)) as program:
            eventually(lambda before=before: len(scene.journal("ended")) > before + 200, why=lambda: program.log)
            began = time.monotonic()
            assert program.stop() == 0, program.log
            assert time.monotonic() - began < drain_s + 5
    began, ended = scene.journal("began"), scene.journal("ended")
    assert sorted(began) == sorted(ended), "what began was finished"
    assert len(ended) == len(set(ended)), "nothing is repeated"
    with scene.worker("\n" + NOTES.replace("0.002", "0"), name):
        eventually(lambda: len(scene.journal("ended")) >= sent)
    assert len(scene.journal("ended")) == sent, "nothing is repeated by the next one either"


def test_a_handler_that_does_not_end_is_named_and_the_exit_code_is_3(scene, topic):
    name = topic(partitions=1)
    scene.send(name, 3)
    handler = """
@worker.handler()
def handle(record: Record) -> None:
    note("began", record)
    time.sleep(60 if record.offset else 0)
"""
    with scene.worker(handler, name, RECADO_DRAIN_S="0.5") as program:
        eventually(lambda: len(scene.journal("began")) == 2, why=lambda: program.log)
        assert program.stop(signal.SIGINT, within_s=15) == 3
    assert f"{name}/0/1" in program.log
    assert scene.committed(name) == {0: 1}


ORDER = """
@worker.handler(concurrency=16)
def handle(record: Record) -> None:
    note("began", record)
    time.sleep(0.01)
    note("ended", record)
"""


def check_order(scene: Scene) -> None:
    """By the journal of all members: no key overlaps; what is handled first comes in order within its key."""
    active: set[str] = set()
    last: dict[str, int] = defaultdict(lambda: -1)
    again: set[tuple[str, int]] = set()
    for line in (scene.folder / "journal").read_text().splitlines():
        what, _, _, offset, key, _ = line.split(" ")
        if what == "ended":
            active.remove(key)
            continue
        assert key not in active, f"key {key} overlaps"
        active.add(key)
        assert int(offset) > last[key] or (key, int(offset)) in again, f"key {key} went back to {offset}"
        again.add((key, int(offset)))
        last[key] = max(last[key], int(offset))


@pytest.fixture(params=["classic", "consumer"])
def protocol(request, kafka) -> dict[str, str]:
    """How members and coordinator talk: as ever, or by KIP-848, which is final since Kafka 4.0."""
    if request.param == "consumer" and kafka_version().startswith("3."):
        pytest.skip("Kafka 3.9 has a preview of this protocol only")
    return {"RECADO_KAFKA_CONSUMER_GROUP_PROTOCOL": request.param}


def test_members_that_come_and_go_under_load_lose_nothing_and_keep_the_order(scene, topic, protocol):
    name, sent = topic(partitions=4), 12_000
    scene.send(name, sent, keys=200)
    if protocol["RECADO_KAFKA_CONSUMER_GROUP_PROTOCOL"] == "consumer":
        scene.of_a_member = {}
    with scene.worker(ORDER, name, **protocol) as first:
        eventually(lambda: len(scene.journal("ended")) > 500, why=lambda: first.log)
        with scene.worker(ORDER, name, **protocol) as second:
            eventually(lambda: not scene.reasons() and "partitions revoked" in first.log, why=lambda: second.log)
            before = len(scene.journal("ended"))
            eventually(lambda: len(scene.journal("ended")) > before + 1000, why=lambda: second.log)
            assert second.stop() == 0
        eventually(lambda: sum(scene.committed(name, 4).values()) == sent, why=lambda: first.log)
        assert first.stop() == 0
    ended = scene.journal("ended")
    assert len({row[1:3] for row in ended}) == sent, "nothing is lost"
    assert len(ended) == sent, "whoever gives a partition away finishes what is not done below what is"
    check_order(scene)


def held(program: Program) -> int:
    """How many partitions a worker says that it holds."""
    told = re.findall(r'"held": (\d+).*"event": "partitions ', program.log)  # not those of its delay line
    return int(told[-1]) if told else 0


def test_a_static_member_that_restarts_gets_its_partitions_back_without_a_rebalance(scene, topic, protocol):
    name = topic(partitions=2)
    if protocol["RECADO_KAFKA_CONSUMER_GROUP_PROTOCOL"] == "consumer":
        scene.of_a_member = {}
    static = {"RECADO_KAFKA_CONSUMER_GROUP_INSTANCE_ID": "a", **protocol}
    other = {"RECADO_KAFKA_CONSUMER_GROUP_INSTANCE_ID": "b", **protocol}
    scene.send(name, 100, keys=10)
    with scene.worker(NOTES, name, **other) as second:
        with scene.worker(NOTES, name, **static) as first:
            eventually(lambda: held(first) == held(second) == 1, why=lambda: first.log + second.log)
            eventually(lambda: len({row[1:3] for row in scene.journal("ended")}) == 100)
            revoked = second.log.count("partitions revoked")
            # A static member that goes keeps its place until its session ends. By KIP-848 one that was killed keeps
            # its identity, too, so that nobody else may have it before.
            first.process.kill() if protocol["RECADO_KAFKA_CONSUMER_GROUP_PROTOCOL"] == "classic" else first.stop()
            first.process.wait(10)
        scene.send(name, 100, keys=10)
        with scene.worker(NOTES, name, **static) as first:
            eventually(lambda: len({row[1:3] for row in scene.journal("ended")}) == 200, why=lambda: first.log)
            assert second.log.count("partitions revoked") == revoked


def test_of_two_workers_with_one_identity_one_works_and_the_other_says_why_it_does_not(scene, topic, protocol):
    name = topic(partitions=1)
    scene.of_a_member = {"RECADO_KAFKA_CONSUMER_GROUP_INSTANCE_ID": "a", **protocol}
    scene.send(name, 10)
    with scene.worker(NOTES, name) as first:
        eventually(lambda: len(scene.journal("ended")) == 10, why=lambda: first.log)
        with scene.worker(NOTES, name) as second:
            if protocol["RECADO_KAFKA_CONSUMER_GROUP_PROTOCOL"] == "classic":
                assert first.process.wait(30) == 2
                assert "fenced" in first.log
            else:
                eventually(lambda: "another member has this identity" in second.log, why=lambda: second.log)
                assert first.stop() == 0
            scene.send(name, 10)
            eventually(lambda: len(scene.journal("ended")) == 20, why=lambda: second.log)
            assert second.stop() == 0


def test_a_handler_slower_than_the_poll_interval_keeps_its_partition(scene, topic):
    name = topic(partitions=1)
    scene.send(name, 2)
    handler = """
@worker.handler()
def handle(record: Record) -> None:
    note("began", record)
    time.sleep(9 if record.offset == 0 else 0)
    note("ended", record)
"""
    slow = {"RECADO_KAFKA_SESSION_TIMEOUT_MS": "6000", "RECADO_KAFKA_CONSUMER_MAX_POLL_INTERVAL_MS": "6500"}
    with scene.worker(handler, name, **slow) as program:
        scene.wait_committed(name, {0: 2})
        assert "lost" not in program.log
        assert program.stop() == 0
    assert len(scene.journal("began")) == 2


FAILING = """
@worker.handler(retry=Backoff(first_s=0.05, attempts=3))
def handle(record: Record) -> None:
    note("began", record)
    if record.value == b"bad":
        raise ValueError("no such customer")
"""


def test_a_record_that_fails_for_good_is_a_dead_letter_and_what_follows_goes_on(scene, topic):
    name = topic(partitions=2)
    scene.send(name, 1, partition=0)
    scene.send(name, 3, partition=1)
    scene.send(name, 1, partition=1, value=b"bad")
    scene.send(name, 5, partition=1)
    with scene.worker(FAILING, name) as program:
        scene.wait_committed(name, {0: 1, 1: 9})
        assert scene.reasons() == []
        assert program.stop() == 0
    assert [row[4] for row in scene.journal("began") if row[1:3] == (1, 3)] == [1, 2, 3]
    letters = read_all(scene.bootstrap, f"dlq.{scene.group}.{name}")
    assert [(letter.partition(), letter.value()) for letter in letters] == [(1, b"bad")]
    headers = dict(letters[0].headers())
    assert headers["__dlq.errors.topic"] == name.encode()
    assert headers["__dlq.errors.partition"] == b"1"
    assert headers["__dlq.errors.offset"] == b"3"
    assert headers["__dlq.errors.group"] == scene.group.encode()
    assert headers["__dlq.errors.delivery.count"] == b"3"
    assert headers["__dlq.errors.exception.class.name"] == b"ValueError"
    assert b"no such customer" in headers["__dlq.errors.exception.stacktrace"]
    assert headers["recado-failure"] == b"ValueError in __main__.handle"
    assert headers["recado-id"] == f"{name}/1/3".encode()


def test_a_dead_letter_that_does_not_fit_is_trimmed_and_else_blocks_its_partition_visibly(scene, topic):
    name = topic(partitions=1)
    letters = f"dlq.{scene.group}.{name}"
    admin = AdminClient({"bootstrap.servers": scene.bootstrap})
    limit = {"max.message.bytes": "2500"}
    admin.create_topics([NewTopic(letters, num_partitions=1, config=limit)])[letters].result(20)
    scene.send(name, 2)
    scene.send(name, 1, value=b"bad")
    handler = FAILING.replace('"no such customer"', "os.urandom(5000).hex()")
    with scene.worker(handler, name) as program:
        scene.wait_committed(name, {0: 3})
        (trimmed,) = read_all(scene.bootstrap, letters)
        assert "__dlq.errors.exception.stacktrace" not in dict(trimmed.headers())
        assert dict(trimmed.headers())["__dlq.errors.exception.class.name"] == b"ValueError"
        entry = ConfigEntry("max.message.bytes", "100", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, letters, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(20)
        scene.send(name, 1, value=b"bad")
        scene.send(name, 4)
        reason = eventually(lambda: next((r for r in scene.reasons() if r["code"] == "partition-stopped"), None))
        assert (reason["topic"], reason["partition"], reason["offset"]) == (name, 0, 3)
        assert letters in reason["error"]
        assert program.stop() == 3, "the one that failed is left behind"
        assert f"{name}/0/3" in program.log
    assert '"event": "partition stopped"' in program.log
    assert scene.committed(name) == {0: 3}
    with scene.worker(NOTES, name):
        scene.wait_committed(name, {0: 8})


def test_transactions_are_read_committed_and_their_markers_are_no_lag(scene, topic):
    name = topic(partitions=1)
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    for commit in (True, False, True):
        producer.begin_transaction()
        producer.produce(name, b"yes" if commit else b"no")
        assert producer.flush(30) == 0
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    with scene.worker(NOTES, name) as program:
        eventually(
            lambda: scene.committed(name) == {0: 6}, within_s=12, why=lambda: program.log
        )  # three records, three markers
        assert program.stop() == 0
    assert sorted(row[2] for row in scene.journal("ended")) == [0, 4]  # without keys they go side by side


def test_patterns_async_and_batches(scene, topic):
    one, two = topic(partitions=2), topic(partitions=1)
    scene.send(one, 300, keys=10)
    scene.send(two, 25)
    handler = f"""
@worker.handler("^{one[:-2]}.*", concurrency=50)
async def handle(record: Record) -> None:
    await asyncio.sleep(0.001)
    note("ended", record)

@worker.handler("{two}", batch=(10, 0.2))
def many(records: list[Record]) -> None:
    for record in records:
        note(f"batch{{len(records)}}", record)
"""
    with scene.worker(handler, one) as program:
        scene.wait_committed(two, {0: 25})
        eventually(lambda: sum(scene.committed(one, 2).values()) == 300, why=lambda: program.log)
        assert program.stop() == 0
    assert len(scene.journal("batch10")) == 20
    assert len(scene.journal("batch5")) == 5
    assert len(scene.journal("ended")) == 300


def test_several_processes_share_the_partitions_and_one_that_dies_is_replaced(scene, topic, tmp_path):
    name = topic(partitions=2)
    (tmp_path / "jobs.py").write_text(PROGRAM + NOTES + "\nnote_pid = os.write(journal, b'pid %d\\n' % os.getpid())\n")
    environment = {
        "RECADO_BOOTSTRAP_SERVERS": scene.bootstrap,
        "RECADO_GROUP": scene.group,
        "RECADO_TOPIC": name,
        "RECADO_WORKER_PORT": str(free_port()),
    }
    arguments = ["-m", "recado", "worker", "jobs.py", "--processes", "2"]
    with running(arguments, environment, tmp_path) as program:
        eventually(lambda: program.log.count("partitions assigned") >= 2, why=lambda: program.log)
        either = rf"members \| worker-1: {name} [01] · worker-2: {name} [01]\n"
        eventually(lambda: re.search(either, program.log), why=lambda: program.log)
        scene.send(name, 100)
        eventually(lambda: sum(scene.committed(name, 2).values()) == 100, why=lambda: program.log)
        pids = [int(line.split()[1]) for line in (tmp_path / "journal").read_text().splitlines() if "pid" in line]
        children = [pid for pid in pids if pid != program.process.pid]
        os.kill(children[0], signal.SIGKILL)
        scene.send(name, 100)
        eventually(lambda: sum(scene.committed(name, 2).values()) == 200, within_s=60, why=lambda: program.log)
        assert program.stop() == 0, program.log
    for pid in children:
        assert not Path(f"/proc/{pid}").exists()


IMPATIENT = """
from recado.worker.reporting import audit
audit.LOOK_EVERY_S, audit.GRACE_S, audit.STALLED_S = 0.2, 3.0, 2.0
"""


def test_kafka_agrees_with_a_healthy_worker_whatever_its_protocol(scene, topic, protocol):
    name = topic(partitions=3)
    if protocol["RECADO_KAFKA_CONSUMER_GROUP_PROTOCOL"] == "consumer":
        scene.of_a_member = {}
    with scene.worker(IMPATIENT + NOTES, name, **protocol) as first:
        eventually(lambda: scene.reasons() == [], why=lambda: first.log)
        port = scene.port
        with scene.worker(IMPATIENT + NOTES, name, **protocol) as second:
            eventually(lambda: scene.reasons() == [], why=lambda: second.log)
            until = time.monotonic() + 6
            while time.monotonic() < until:
                scene.send(name, 50, keys=5)
                time.sleep(0.2)
            assert scene.reasons() == []
            scene.port = port
            assert scene.reasons() == []
        time.sleep(3)  # the second was killed: until its session ends the coordinator counts its share as its own
        assert "not-owned" not in first.log
        assert "not as Kafka says" not in first.log + second.log


def test_the_example_worker_runs(scene, topic):
    name = topic(partitions=1)
    scene.send(name, 1, value="¡Hola Kafka!".encode())
    environment = {
        "RECADO_BOOTSTRAP_SERVERS": scene.bootstrap,
        "RECADO_GROUP": scene.group,
        "RECADO_TOPIC": name,
        "RECADO_WORKER_PORT": str(free_port()),
        "RECADO_LOG_FORMAT": "human",
    }
    example = Path(__file__).parents[2] / "worker.py"
    began = time.monotonic()
    with running([str(example)], environment, scene.folder) as program:
        eventually(lambda: "¡Hola Kafka!" in program.log, why=lambda: program.log)
        assert time.monotonic() - began < 20
        scene.wait_committed(name, {0: 1})
        assert program.stop() == 0


def test_a_rolling_restart_in_the_middle_of_rebalances_repeats_nothing(scene, topic):
    name, sent = topic(partitions=4), 0
    handler = '@worker.handler(concurrency=8)\ndef handle(record: Record) -> None:\n    note("ended", record)\n'
    with ExitStack() as stack:
        old = stack.enter_context(scene.worker(handler, name))
        eventually(lambda: not scene.reasons(), why=lambda: old.log)
        for head_start_s in (0.0, 0.3, 0.6, 1.0, 1.5):
            new = stack.enter_context(scene.worker(handler, name))
            eventually(lambda new=new: "worker started" in new.log, why=lambda new=new: new.log)
            until = time.monotonic() + head_start_s  # how far the rebalance is when the old one is told to stop
            while True:
                scene.send(name, 40, keys=10)
                sent += 40
                if time.monotonic() >= until:
                    break
            assert old.stop() == 0, old.log
            old = new
        eventually(lambda: sum(scene.committed(name, 4).values()) == sent, why=lambda: old.log)
        assert old.stop() == 0, old.log
    assert len(scene.journal("ended")) == sent, "each is handled once"


SLOW = """
@worker.handler(concurrency=96)
def handle(record: Record) -> None:
    note("began", record)
    while record.text() == "slow" and not os.path.exists("go"):
        time.sleep(0.02)
    note("ended", record)
"""


def test_after_a_kill_with_64_slow_records_in_flight_only_those_are_handled_again(scene, topic):
    """The offset map: 10,000 done beyond the first of them are not."""
    name = topic(partitions=1)
    producer = Producer({"bootstrap.servers": scene.bootstrap, "linger.ms": 5})
    for number in range(10_064):
        producer.produce(name, b"slow" if number % 157 == 0 and number < 157 * 64 else b"quick", b"%d" % number)
        producer.poll(0)
    assert producer.flush(30) == 0
    with scene.worker(SLOW, name) as program:
        eventually(lambda: len(scene.journal("ended")) == 10_000, within_s=60, why=lambda: program.log)
        time.sleep(1)  # the next commit tells of the last ones
        program.process.kill()
        program.process.wait(10)
    first = scene.journal("began")
    assert len(first) == 10_064
    (scene.folder / "go").touch()
    with scene.worker(SLOW, name) as program:
        scene.wait_committed(name, {0: 10_064})
        again = scene.journal("began")[len(first) :]
        assert sorted(row[2] for row in again) == [157 * number for number in range(64)]
        assert program.stop() == 0, program.log
    assert len(scene.journal("ended")) == 10_064


def test_when_a_worker_is_killed_the_processes_of_its_handlers_end_too(scene, topic):
    """Otherwise the next owner of the partition would handle a key that one of them still handles."""
    name = topic(partitions=1)
    scene.send(name, 4, keys=4)
    handler = """
@worker.handler(concurrency=4, timeout_s=600)
def handle(record: Record) -> None:
    note(f"pid-{os.getpid()}", record)
    time.sleep(600)
"""
    with scene.worker(handler, name) as program:
        path = scene.folder / "journal"
        eventually(lambda: path.exists() and path.read_text().count("\n") == 4, why=lambda: program.log)
        pids = {int(line.split(" ")[0][4:]) for line in path.read_text().splitlines()}
        assert len(pids) == 4
        assert program.process.pid not in pids
        program.process.kill()
        program.process.wait(10)
        eventually(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()])


def test_a_handler_in_processes_drains_at_sigterm(scene, topic):
    name = topic(partitions=1)
    scene.send(name, 2, keys=2)
    handler = """
@worker.handler(concurrency=2, timeout_s=60)
def handle(record: Record) -> None:
    note("began", record)
    time.sleep(1)
    note("ended", record)
"""
    with scene.worker(handler, name) as program:
        eventually(lambda: len(scene.journal("began")) == 2, why=lambda: program.log)
        os.killpg(program.process.pid, signal.SIGTERM)  # as a terminal's Ctrl-C, to all of them
        assert program.process.wait(20) == 0, program.log
    assert len(scene.journal("ended")) == 2
    assert scene.committed(name) == {0: 2}


def test_a_handler_that_holds_the_interpreter_is_named_with_its_line(scene, topic):
    name = topic(partitions=1)
    scene.send(name, 1)
    handler = """
import ctypes

@worker.handler()
def grind(record: Record) -> None:
    ctypes.PyDLL(None).sleep(13)  # C code that does not let go of the interpreter's lock
"""
    with scene.worker(handler, name) as program:
        scene.wait_committed(name, {0: 1})
        assert program.stop() == 0
    assert re.search(r'File ".*jobs\d+\.py", line \d+ in grind', program.log), program.log


def test_sigusr1_tells_what_the_handlers_are_at(scene, topic):
    name = topic(partitions=1)
    scene.send(name, 1)
    with scene.worker(SLOW.replace('record.text() == "slow" and ', ""), name) as program:
        eventually(lambda: scene.journal("began"), why=lambda: program.log)
        time.sleep(1.5)
        program.process.send_signal(signal.SIGUSR1)
        line = eventually(lambda: next((x for x in program.log.splitlines() if '"event": "at work"' in x), None))
        told = json.loads(line)
        assert (told["topic"], told["offset"], told["handler"]) == (name, 0, "handle")
        assert told["stack"]
        (scene.folder / "go").touch()
        scene.wait_committed(name, {0: 1})


def test_lag_reaches_0_on_200_partitions_many_of_them_idle_compacted_or_transactional(scene, topic):
    """Gaps, markers and empty partitions are no reason to wait."""
    plain, idle = topic(partitions=120), topic(partitions=20)
    compacted = topic(partitions=30, **{"cleanup.policy": "compact", "segment.ms": "200",
                                        "min.cleanable.dirty.ratio": "0.01"})  # fmt: skip
    transactional = topic(partitions=30)
    scene.send(plain, 1200)
    for _ in range(3):  # each in a segment of its own, so that the cleaner may take the earlier ones
        for partition in range(30):
            scene.send(compacted, 3, keys=3, partition=partition)
        time.sleep(0.3)
    producer = Producer({"bootstrap.servers": scene.bootstrap, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    for commit in (True, False):  # each partition ends with what was given up, and its marker
        producer.begin_transaction()
        for partition in range(30):
            producer.produce(transactional, b"yes" if commit else b"no", partition=partition)
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    handler = f"""
@worker.handler("{plain}", "{idle}", "{compacted}", "{transactional}", concurrency=8)
def handle(record: Record) -> None:
    assert record.value != b"no"
"""

    def lags() -> dict[tuple[str, int], int | None]:
        groups = Groups(Admin(Settings(bootstrap_servers=scene.bootstrap)))
        (found,) = groups.lags(list(groups.describe([scene.group]).values())).values()
        return {(lag.topic, lag.partition): lag.lag for lag in found}

    with scene.worker(handler, plain) as program:
        eventually(lambda: held(program) == 200, why=lambda: program.log)
        eventually(
            lambda: len(found := lags()) == 200 and not any(found.values()), within_s=60, why=lambda: str(lags())
        )
        assert program.stop() == 0


def test_a_broker_that_takes_less_beside_an_offset_is_committed_to_without_the_map(tmp_path):
    with start_kafka(tmp_path / "kafka", properties={"offset.metadata.max.bytes": "40"}) as kafka:
        name = make_topic(kafka.bootstrap_servers, 1, {})
        scene = Scene(kafka, tmp_path)
        irregular = {10, *random.Random(1).sample(range(11, 110), 30)}
        for number in range(120):
            scene.send(name, 1, keys=1, value=b"slow" if number in irregular else b"quick")
        handler = SLOW.replace("concurrency=96", "concurrency=96, order='none'")
        with scene.worker(handler, name) as program:
            eventually(lambda: "takes less metadata" in program.log, why=lambda: program.log)
            scene.wait_committed(name, {0: 10})
            (tmp_path / "go").touch()
            scene.wait_committed(name, {0: 120})
            assert program.stop() == 0, program.log
