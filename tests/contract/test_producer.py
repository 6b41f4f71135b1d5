"""One suite for every producer: what the gateway relies on, on the in-memory twin and on a real Kafka."""

from __future__ import annotations

import threading
import uuid
import zlib
from collections.abc import Iterator

import pytest

from recado.errors import DeliveryFailed, RecordTooLarge, UnknownTopic
from recado.kafka.abstract import Producer
from recado.kafka.config import producer_config
from recado.kafka.delivery import Delivery, Summary
from recado.kafka.memory import MemoryKafka
from recado.kafka.two_speed import TwoSpeedProducer
from recado.record import Outgoing
from recado.settings import Settings
from tests.conftest import make_topic
from tests.programs import eventually, read_all

#: A report needs milliseconds; this is for a machine that is very busy.
DEADLINE_S = 30.0

#: Largest record in these tests, in bytes.
LARGEST = 100_000


class Twin:
    def __init__(self) -> None:
        self.kafka = MemoryKafka()
        self.producer: Producer = self.kafka.producer(max_record_bytes=LARGEST)

    def topic(self, partitions: int) -> str:
        name = f"t-{uuid.uuid4().hex[:8]}"
        self.kafka.create_topic(name, partitions)
        return name

    def stored(self, topic: str) -> list[tuple[int, int, bytes | None, bytes | None]]:
        logs = [log for where, log in self.kafka.logs.items() if where.topic == topic]
        return [(m.partition(), m.offset(), m.key(), m.value()) for log in logs for m in log if m is not None]


class Real:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        # A topic that is unknown is waited for by default: half a second is enough for one that never comes.
        waits = {"topic.metadata.propagation.max.ms": "500", "message.max.bytes": str(LARGEST)}
        settings = Settings(bootstrap_servers=bootstrap, kafka_producer=waits)
        self.producer: Producer = TwoSpeedProducer(producer_config(settings))

    def topic(self, partitions: int) -> str:
        return make_topic(self.bootstrap, partitions, {})

    def stored(self, topic: str) -> list[tuple[int, int, bytes | None, bytes | None]]:
        found = read_all(self.bootstrap, topic)
        return sorted((m.partition(), m.offset(), m.key(), m.value()) for m in found)


@pytest.fixture(params=["twin", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Twin | Real]:
    chosen = Twin() if request.param == "twin" else Real(request.getfixturevalue("kafka").bootstrap_servers)
    yield chosen
    chosen.producer.close(5)


class Waiter:
    """A delivery's owner: counts its calls and waits for the first."""

    def __init__(self) -> None:
        self.told: list[Delivery] = []
        self.thread = ""
        self._done = threading.Event()

    def __call__(self, delivery: Delivery) -> None:
        self.told.append(delivery)
        self.thread = threading.current_thread().name
        self._done.set()

    def wait(self) -> None:
        assert self._done.wait(DEADLINE_S), "no report came"


def outgoing(topic: str, *values: bytes | None, key: bytes | None = None, partition: int = -1) -> list[Outgoing]:
    return [Outgoing(topic, value, id="", key=key, partition=partition) for value in values]


def test_each_record_has_the_fate_of_its_place_and_the_owner_is_told_once(cluster):
    topic, done = cluster.topic(1), Waiter()
    delivery = Delivery(outgoing(topic, b"a", None, b"c", key=b"k"), done)
    cluster.producer.send(delivery)
    done.wait()
    assert [fate[:2] for fate in delivery.fates] == [(0, 0), (0, 1), (0, 2)]
    assert all(fate[2] > 1_600_000_000_000 for fate in delivery.fates)
    eventually(lambda: cluster.producer.outstanding() == 0)
    assert done.told == [delivery]
    assert cluster.stored(topic) == [(0, 0, b"k", b"a"), (0, 1, b"k", None), (0, 2, b"k", b"c")]


def test_a_key_goes_to_the_same_partition_on_both(cluster):
    topic, done = cluster.topic(5), Waiter()
    keys = [b"a", b"customer-7", b"\0", "ñ".encode()]
    delivery = Delivery([record for key in keys for record in outgoing(topic, b"", key=key)], done)
    cluster.producer.send(delivery)
    done.wait()
    assert [fate[0] for fate in delivery.fates] == [zlib.crc32(key) % 5 for key in keys]


def test_what_cannot_be_sent_fails_alone(cluster):
    topic, done = cluster.topic(1), Waiter()
    records = [
        *outgoing(topic, b"good"),
        *outgoing("no-such-topic-" + uuid.uuid4().hex, b"lost?"),
        *outgoing(topic, b"x" * (LARGEST + 1)),
        *outgoing(topic, b"wrong", partition=7),
        *outgoing(topic, b"good too"),
    ]
    delivery = Delivery(records, done)
    cluster.producer.send(delivery)
    done.wait()
    kinds = [type(fate) for fate in delivery.fates]
    assert kinds == [tuple, UnknownTopic, RecordTooLarge, DeliveryFailed, tuple]
    assert [value for *_, value in cluster.stored(topic)] == [b"good", b"good too"]


def test_a_summary_remembers_only_what_failed(cluster):
    topic, done = cluster.topic(1), Waiter()
    summary = Summary(outgoing(topic, b"a", b"x" * (LARGEST + 1), b"c"), done)
    cluster.producer.send(summary)
    done.wait()
    assert summary.undelivered() == [1]
    assert {index: type(error) for index, error in summary.failures.items()} == {1: RecordTooLarge}


def test_who_takes_over_gets_the_reports_on_his_own_thread_until_he_hands_back(cluster):
    topic, mine, theirs = cluster.topic(1), Waiter(), Waiter()
    cluster.producer.take_over()
    delivery = Delivery(outgoing(topic, b"a"), mine)
    cluster.producer.send(delivery)
    eventually(lambda: cluster.producer.serve() or mine.told)
    cluster.producer.hand_back()
    cluster.producer.send(Delivery(outgoing(topic, b"b"), theirs))
    theirs.wait()
    assert theirs.thread != threading.current_thread().name


def test_reports_come_even_if_who_took_over_is_stuck(cluster):
    topic, done = cluster.topic(1), Waiter()
    cluster.producer.take_over()
    cluster.producer.send(Delivery(outgoing(topic, b"a"), done))
    done.wait()


def test_close_waits_for_what_is_under_way(cluster):
    topic, done = cluster.topic(1), Waiter()
    cluster.producer.send(Delivery(outgoing(topic, *[b"x"] * 1000), done))
    assert cluster.producer.close(DEADLINE_S) == 0
    assert len(done.told) == 1
    assert len(cluster.stored(topic)) == 1000
