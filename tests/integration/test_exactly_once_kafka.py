"""Exactly once on a real Kafka: a topic is copied while workers are killed, stopped and rebalanced.

An independent reader that reads only what is committed judges: every input once in the output, of a key in order.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import time
import uuid
from collections import Counter, defaultdict
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from recado.kafka.abstract import Committed
from recado.kafka.transactor import KafkaTransactor
from recado.record import Outgoing, TopicPartition
from recado.settings import Settings
from recado.worker.worker import kafka_consumer
from tests.integration.test_worker_kafka import Scene, protocol, scene  # noqa: F401 - fixtures
from tests.programs import Program, eventually, read_all

COPIER = """
@worker.handler(concurrency=8, exactly_once=True)
def handle(record: Record):
    time.sleep(0.02)
    if (record.offset * 7 + record.partition) % 31 == 0 and record.attempt < 2:
        raise ConnectionError("now and then")
    if record.offset % 5 == 0:
        record.send("OUT", json.dumps({"of": [record.partition, record.offset], "n": 1}), key=record.key)
        return Record(topic="OUT", key=record.key, value=json.dumps({"of": [record.partition, record.offset], "n": 2}))
    return Record(topic="OUT", key=record.key, value=json.dumps({"of": [record.partition, record.offset], "n": 1}))
"""

#: How long workers are killed; the long run (``RECADO_TEST_COPIER_S=60``) also lets transactions last as they do.
SECONDS = float(os.environ.get("RECADO_TEST_COPIER_S", "6"))
TRANSACTIONS_MS = [1_500, 15_000] if SECONDS > 20 else [1_500]


READ_COMMITTED = {"isolation.level": "read_committed"}


def judge(bootstrap: str, source: dict[int, int], out: str) -> None:
    found: Counter[tuple[int, int, int]] = Counter()
    last: dict[tuple[int, bytes], int] = {}
    back = []
    for message in read_all(bootstrap, out, **READ_COMMITTED):
        content = json.loads(message.value())
        partition, offset = content["of"]
        found[partition, offset, content["n"]] += 1
        if offset < last.get((partition, message.key()), -1):
            back.append((partition, offset))
        last[partition, message.key()] = offset
    expected = {
        (partition, offset, n)
        for partition, end in source.items()
        for offset in range(end)
        for n in ((1, 2) if offset % 5 == 0 else (1,))
    }
    missing, twice = expected - found.keys(), [place for place, times in found.items() if times > 1]
    assert (len(missing), len(twice)) == (0, 0), f"missing {sorted(missing)[:5]}, twice {sorted(twice)[:5]}"
    assert found.keys() == expected
    assert back == [], "a key went back"


@pytest.mark.parametrize("transaction_ms", TRANSACTIONS_MS)
def test_every_input_is_once_in_the_output_whatever_dies(scene: Scene, topic, protocol, transaction_ms):  # noqa: F811
    name, out = topic(partitions=4), topic(partitions=1)
    handler = "import json\n" + COPIER.replace("OUT", out)
    settings = {**protocol, "RECADO_KAFKA_PRODUCER_TRANSACTION_TIMEOUT_MS": str(transaction_ms)}
    if protocol["RECADO_KAFKA_CONSUMER_GROUP_PROTOCOL"] == "consumer":
        scene.of_a_member = {}
    chance, sent = random.Random(transaction_ms), 0
    with ExitStack() as ending:

        def start() -> Program:
            return ending.enter_context(scene.worker(handler, name, **settings))

        workers = [start(), start()]
        until = time.monotonic() + SECONDS
        for turn in itertools.count():
            scene.send(name, 600, keys=40)
            sent += 600
            time.sleep(chance.uniform(0.3, 1.5))
            victim = chance.randrange(len(workers))
            if turn % 3 == 2:  # longer than the transaction lasts, where that is short
                workers[victim].process.send_signal(signal.SIGSTOP)
                time.sleep(2.5)
                workers[victim].process.send_signal(signal.SIGCONT)
            elif turn % 3 == 1:
                code = workers[victim].stop()  # SIGTERM ends one that has only just been started
                assert code in (0, -signal.SIGTERM), workers[victim].log
                workers[victim] = start()
            else:
                workers[victim].process.kill()
                workers[victim].process.wait(10)
                workers[victim] = start()
            if time.monotonic() > until:
                break
        why = lambda: f"{scene.committed(name, 4)} of {sent}: {workers[0].log[-3000:]} {workers[1].log[-3000:]}"  # noqa: E731
        eventually(lambda: sum(scene.committed(name, 4).values()) == sent, within_s=120, why=why)
        assert [worker.stop() for worker in workers] == [0, 0]
    per_partition = defaultdict(int, scene.committed(name, 4))
    assert sum(per_partition.values()) == sent
    judge(scene.bootstrap, dict(per_partition), out)


class Doubtful:
    """A producer whose next commit ends in doubt: before it was asked for, or after it was done."""

    def __init__(self, client: Producer, *, commits: bool) -> None:
        self._client, self._commits = client, commits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __len__(self) -> int:
        return len(self._client)

    def __bool__(self) -> bool:
        return True  # as confluent_kafka's, also when it holds nothing

    def commit_transaction(self, timeout: float) -> None:
        if self._commits:
            self._client.commit_transaction(timeout)
        else:
            self._client.flush(timeout)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


@pytest.mark.parametrize("commits", [True, False])
def test_a_transaction_in_doubt_is_resolved_by_what_kafka_has_committed(kafka, topic, commits):
    name, out, group = topic(partitions=1), topic(partitions=1), f"g-{uuid.uuid4().hex[:8]}"
    settings = Settings(bootstrap_servers=kafka.bootstrap_servers)
    consumer, transactor = kafka_consumer(settings, group), KafkaTransactor(settings, group)
    listener = Assigned()
    consumer.subscribe([name], listener)
    eventually(lambda: consumer.consume(1, 0.1) or listener.partitions)
    try:
        where = TopicPartition(name, 0)
        records = [Outgoing(out, b"x", "")]
        transactor._client = Doubtful(transactor._connected(), commits=commits)
        told = transactor.transact(records, consumer.enlist({where: Committed(7, "map=0,r,AAE=")}))
        assert told.committed is commits
        assert [m.value() for m in read_all(kafka.bootstrap_servers, out, **READ_COMMITTED)] == [b"x"] * commits
        if not commits:
            assert transactor.transact(records, consumer.enlist({where: Committed(7, "map=0,r,AAE=")})).committed
        assert [m.value() for m in read_all(kafka.bootstrap_servers, out, **READ_COMMITTED)] == [b"x"]
        assert consumer.committed([where]) == {where: Committed(7, "map=0,r,AAE=")}
    finally:
        transactor.close()
        consumer.close()


class Assigned:
    """Hears what a member is assigned."""

    def __init__(self) -> None:
        self.partitions: list[TopicPartition] = []

    def on_assign(self, partitions) -> None:
        self.partitions += partitions

    def on_revoke(self, partitions) -> None: ...
    def on_lost(self, partitions) -> None: ...
    def on_end(self, partition, offset) -> None: ...
    def on_commit(self, offsets, ok) -> None: ...
