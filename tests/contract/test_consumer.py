"""One suite for every consumer: what the worker relies on, on the in-memory twin and on a real Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Protocol

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from structlog.testing import capture_logs

from recado.errors import ConfigurationError
from recado.kafka.abstract import Committed, Consumer, Message
from recado.kafka.config import consumer_config
from recado.kafka.consumer import KafkaConsumer
from recado.kafka.memory import MemoryKafka
from recado.record import TopicPartition
from recado.settings import Settings
from tests.conftest import make_topic

#: A real group needs some seconds now and then; this is for a machine that is very busy.
DEADLINE_S = 30.0


class Cluster(Protocol):
    def topic(self, partitions: int, name: str = "") -> str: ...
    def send(self, topic: str, *values: bytes | None, key: bytes | None = None, partition: int = 0) -> None: ...
    def recreate(self, topic: str, partitions: int) -> None: ...
    def consumer(self, group: str) -> Consumer: ...


class Twin:
    def __init__(self) -> None:
        self.kafka = MemoryKafka()

    def topic(self, partitions: int, name: str = "") -> str:
        name = name or f"t-{uuid.uuid4().hex[:8]}"
        self.kafka.create_topic(name, partitions)
        return name

    def send(self, topic: str, *values: bytes | None, key: bytes | None = None, partition: int = 0) -> None:
        self.kafka.send(topic, *values, key=key, partition=partition)

    def recreate(self, topic: str, partitions: int) -> None:
        self.kafka.recreate_topic(topic, partitions)

    def consumer(self, group: str) -> Consumer:
        return self.kafka.consumer(group)


class Real:
    def __init__(self, bootstrap: str) -> None:
        self.settings = Settings(bootstrap_servers=bootstrap)
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def topic(self, partitions: int, name: str = "") -> str:
        if not name:
            return make_topic(self.settings.bootstrap_servers, partitions, {})
        admin = AdminClient({"bootstrap.servers": self.settings.bootstrap_servers})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(DEADLINE_S)
        return name

    def send(self, topic: str, *values: bytes | None, key: bytes | None = None, partition: int = 0) -> None:
        for value in values:
            self.producer.produce(topic, value, key, partition)
        assert self.producer.flush(DEADLINE_S) == 0

    def recreate(self, topic: str, partitions: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.settings.bootstrap_servers})
        admin.delete_topics([topic], operation_timeout=DEADLINE_S)[topic].result(DEADLINE_S)

        def created() -> bool:
            try:
                admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(DEADLINE_S)
            except KafkaException:
                return False  # the broker is still deleting it
            return True

        until(created)

    def consumer(self, group: str) -> Consumer:
        return KafkaConsumer(consumer_config(self.settings, group))


@pytest.fixture(params=["twin", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return Twin() if request.param == "twin" else Real(request.getfixturevalue("kafka").bootstrap_servers)


class Reader:
    """A member that writes down what it is told."""

    def __init__(self, consumer: Consumer, topics: list[str]) -> None:
        self.consumer = consumer
        self.held: set[TopicPartition] = set()
        self.ends: dict[TopicPartition, int] = {}
        self.commits: list[tuple[dict[TopicPartition, Committed], bool]] = []
        self.assigned: dict[TopicPartition, Committed | None] = {}
        self.got: list[Message] = []
        self.commit_at_revoke: dict[TopicPartition, Committed] = {}
        self.calls: list[str] = []
        consumer.subscribe(topics, self)

    def on_assign(self, partitions):
        self.calls.append("assign")
        assert not self.held & set(partitions)
        self.assigned.update(partitions)
        self.held |= set(partitions)

    def on_revoke(self, partitions):
        self.calls.append("revoke")
        assert set(partitions) <= self.held
        chosen = {where: found for where, found in self.commit_at_revoke.items() if where in partitions}
        if chosen:
            assert self.consumer.commit(chosen, wait=True)
        self.held -= set(partitions)

    def on_lost(self, partitions):
        self.calls.append("lost")
        self.held -= set(partitions)

    def on_end(self, partition, offset):
        self.ends[partition] = offset

    def on_commit(self, offsets, ok):
        self.commits.append((dict(offsets), ok))

    def read(self, max_records: int = 100) -> list[Message]:
        found = self.consumer.consume(max_records, 0.05)
        self.got += found
        return found

    def values(self) -> list[bytes | None]:
        return [message.value() for message in self.got]


def until(look: Callable[[], object], *readers: Reader) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < deadline, "it did not come true in time"
        for reader in readers:
            reader.read()


@pytest.fixture
def read(cluster: Cluster) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def join(group: str, *topics: str) -> Reader:
        readers.append(Reader(cluster.consumer(group), list(topics)))
        return readers[-1]

    yield join
    for reader in readers:
        reader.consumer.close()


def group() -> str:
    return f"g-{uuid.uuid4().hex[:8]}"


def test_a_new_group_starts_at_the_first_record_and_each_partition_comes_in_order(cluster, read):
    topic = cluster.topic(2)
    for partition in (0, 1):
        cluster.send(topic, b"0", b"1", b"2", partition=partition)
    reader = read(group(), topic)
    until(lambda: len(reader.got) == 6, reader)
    for partition in (0, 1):
        assert [m.offset() for m in reader.got if m.partition() == partition] == [0, 1, 2]
    assert reader.held == {TopicPartition(topic, 0), TopicPartition(topic, 1)}


def test_a_message_has_everything(cluster, read):
    topic = cluster.topic(1)
    cluster.send(topic, b"abc", key=b"k")
    cluster.send(topic, None)
    reader = read(group(), topic)
    until(lambda: len(reader.got) == 2, reader)
    first, tombstone = reader.got
    assert (first.topic(), first.partition(), first.offset()) == (topic, 0, 0)
    assert (first.key(), first.value(), len(first)) == (b"k", b"abc", 3)
    assert not first.headers()
    assert first.timestamp()[0] == 1
    assert first.timestamp()[1] > 1_600_000_000_000
    assert (tombstone.key(), tombstone.value(), len(tombstone)) == (None, None, 0)


def test_no_more_than_asked_for_and_nothing_is_skipped(cluster, read):
    topic = cluster.topic(1)
    cluster.send(topic, *[b"x"] * 50)
    reader = read(group(), topic)
    deadline = time.monotonic() + DEADLINE_S
    while len(reader.got) < 50 and time.monotonic() < deadline:
        assert len(reader.read(max_records=7)) <= 8
    assert [message.offset() for message in reader.got] == list(range(50))


def test_the_end_of_a_partition_is_told_also_when_it_is_empty(cluster, read):
    topic = cluster.topic(2)
    cluster.send(topic, b"a", b"b")
    reader = read(group(), topic)
    until(lambda: reader.ends == {TopicPartition(topic, 0): 2, TopicPartition(topic, 1): 0}, reader)
    cluster.send(topic, b"c")
    until(lambda: reader.ends[TopicPartition(topic, 0)] == 3, reader)


def test_a_group_goes_on_where_it_committed_with_its_metadata(cluster, read):
    topic, name = cluster.topic(1), group()
    where = TopicPartition(topic, 0)
    cluster.send(topic, b"a", b"b", b"c")
    first = read(name, topic)
    until(lambda: len(first.got) == 3, first)
    assert first.consumer.committed([where]) == {}
    assert first.consumer.commit({where: Committed(2, "a note")}, wait=True)
    assert first.consumer.committed([where]) == {where: Committed(2, "a note")}
    first.consumer.close()
    second = read(name, topic)
    until(lambda: second.got, second)
    assert second.values() == [b"c"]


def test_a_commit_without_waiting_tells_later_what_came_of_it(cluster, read):
    topic = cluster.topic(1)
    where = TopicPartition(topic, 0)
    cluster.send(topic, b"a")
    reader = read(group(), topic)
    until(lambda: reader.got, reader)
    assert reader.consumer.commit({where: Committed(1, "beside it")}, wait=False)
    until(lambda: reader.commits, reader)
    assert reader.commits == [({where: Committed(1, "beside it")}, True)]


def test_who_is_assigned_a_partition_is_told_what_the_group_has_committed(cluster, read):
    topic, name = cluster.topic(2), group()
    cluster.send(topic, b"a", b"b")
    first = read(name, topic)
    until(lambda: len(first.got) == 2, first)
    assert first.assigned == {TopicPartition(topic, 0): None, TopicPartition(topic, 1): None}
    assert first.consumer.commit({TopicPartition(topic, 0): Committed(1, "beside it")}, wait=True)
    first.consumer.close()
    second = read(name, topic)
    until(lambda: second.got, second)
    assert second.assigned == {TopicPartition(topic, 0): Committed(1, "beside it"), TopicPartition(topic, 1): None}


def test_closing_revokes_first_and_what_is_committed_then_counts(cluster, read):
    topic, name = cluster.topic(1), group()
    where = TopicPartition(topic, 0)
    cluster.send(topic, b"a", b"b")
    first = read(name, topic)
    until(lambda: len(first.got) == 2, first)
    first.commit_at_revoke = {where: Committed(1)}
    first.consumer.close()
    first.consumer.close()
    assert first.calls == ["assign", "revoke"]
    second = read(name, topic)
    until(lambda: second.got, second)
    assert second.values() == [b"b"]


def test_a_second_member_takes_some_partitions_over_and_the_rest_stays(cluster, read):
    topic, name = cluster.topic(4), group()
    every = {TopicPartition(topic, number) for number in range(4)}
    first = read(name, topic)
    until(lambda: first.held == every, first)
    second = read(name, topic)
    until(lambda: len(first.held) == 2 and len(second.held) == 2, first, second)
    assert first.held | second.held == every
    second.consumer.close()
    until(lambda: first.held == every, first)


def test_paused_partitions_rest_and_go_on_where_they_were(cluster, read):
    topic = cluster.topic(2)
    paused = TopicPartition(topic, 0)
    cluster.send(topic, *[b"%d" % number for number in range(20)])
    reader = read(group(), topic)
    until(lambda: reader.got, reader)
    while len(reader.got) < 5:
        reader.read(1)
    reader.consumer.pause([paused])
    seen = len([m for m in reader.got if m.partition() == 0])
    cluster.send(topic, b"other", partition=1)
    until(lambda: any(m.partition() == 1 for m in reader.got), reader)
    assert len([m for m in reader.got if m.partition() == 0]) == seen
    reader.consumer.resume([paused])
    until(lambda: len(reader.got) == 21, reader)
    assert [m.offset() for m in reader.got if m.partition() == 0] == list(range(20))


def test_a_partition_that_was_paused_and_comes_back_is_not_paused(cluster, read):
    topic, name = cluster.topic(2), group()
    both = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    first = read(name, topic)
    until(lambda: first.held == both, first)
    first.consumer.pause(sorted(both))
    second = read(name, topic)
    until(lambda: len(second.held) == 1 and len(first.held) == 1, first, second)
    (moved,) = second.held
    second.consumer.close()
    until(lambda: first.held == both, first)
    cluster.send(topic, b"a", partition=moved.partition)
    cluster.send(topic, b"b", partition=1 - moved.partition)
    until(lambda: first.values() == [b"a"], first)
    first.consumer.resume([TopicPartition(topic, 1 - moved.partition)])  # the other one had never left
    until(lambda: first.values() == [b"a", b"b"], first)


def test_patterns_find_topics_that_come_later(cluster, read):
    prefix = f"p{uuid.uuid4().hex[:8]}"
    topic = cluster.topic(1)
    reader = read(group(), f"^{topic}.*", f"^{prefix}.*")
    cluster.send(topic, b"a")
    until(lambda: reader.values() == [b"a"], reader)
    later = cluster.topic(1, f"{prefix}-later")
    cluster.send(later, b"b")
    until(lambda: reader.values() == [b"a", b"b"], reader)


def test_a_pattern_means_what_it_means_in_python(cluster, read):
    prefix = f"p{uuid.uuid4().hex[:8]}"
    topic = cluster.topic(1, f"{prefix}.27")
    reader = read(group(), rf"^{prefix}\.\d+$")
    cluster.send(topic, b"a")
    until(lambda: reader.values() == [b"a"], reader)


def test_a_pattern_that_the_client_cannot_read_is_named(kafka):
    consumer = Real(kafka.bootstrap_servers).consumer(group())
    with pytest.raises(ConfigurationError, match=r"\^\(\?=or\)"):
        Reader(consumer, ["^(?=or)"])
    consumer.close()


def test_a_pattern_that_nothing_matches_is_waited_for_and_no_topic_of_its_name_advised(kafka):
    prefix = f"p{uuid.uuid4().hex[:8]}"
    cluster = Real(kafka.bootstrap_servers)
    with capture_logs() as logs:
        reader = Reader(cluster.consumer(group()), [f"^{prefix}.*"])
        until(lambda: logs, reader)
    reader.consumer.close()
    assert [entry["event"] for entry in logs] == ["no topic matches this pattern yet, waiting for one"]


def test_a_consumer_knows_that_its_cluster_answers(cluster, read):
    topic = cluster.topic(1)
    reader = read(group(), topic)
    until(lambda: reader.held, reader)
    assert reader.consumer.reachable


def test_a_topic_that_is_made_anew_is_read_from_its_first_record_though_its_log_has_passed_the_old_position(
    cluster, read
):
    topic = cluster.topic(1)
    cluster.send(topic, b"old", b"old", b"old")
    reader = read(group(), topic)
    until(lambda: len(reader.got) == 3, reader)
    cluster.recreate(topic, 1)
    cluster.send(topic, *(b"new%d" % number for number in range(20)))
    until(lambda: {b"new%d" % number for number in range(20)} <= set(reader.values()), reader)
    until(lambda: "lost" in reader.calls or "revoke" in reader.calls, reader)
    new = [message.offset() for message in reader.got if message.value() != b"old"]
    new = new[new.index(0) :]
    assert new[:20] == list(range(20)), "from the first one on they come in order"
    assert all(after in (before + 1, 0) for before, after in pairwise(new)), "once more where it was noticed only then"


def test_an_offset_of_the_earlier_topic_that_was_committed_to_the_new_one_is_not_gone_on_from(cluster, read):
    topic, name = cluster.topic(1), group()
    cluster.send(topic, b"old", b"old", b"old")
    reader = read(name, topic)
    until(lambda: len(reader.got) == 3, reader)
    cluster.recreate(topic, 1)
    cluster.send(topic, *(b"new%d" % number for number in range(20)))
    where = TopicPartition(topic, 0)
    until(lambda: reader.consumer.commit({where: Committed(3, "mine")}, wait=True))  # as a worker about to be killed
    reader.consumer.close()
    again = read(name, topic)
    until(lambda: len(again.got) == 20, again)
    assert [message.offset() for message in again.got] == list(range(20))
