"""An end of a partition says that all before it was read: it is told only when its owner was given all of that."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError

from recado.errors import NotAllowed
from recado.kafka.consumer import KafkaConsumer
from recado.outcomes.group_topics import retry_topic
from recado.record import TopicPartition
from recado.worker.ways.returns import Returns

HOME, BACK = TopicPartition("orders", 0), TopicPartition(retry_topic("group", "orders"), 0)


class Told:
    """What a listener hears."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def on_assign(self, partitions) -> None:
        self.events.append(("assign", sorted(partitions)))

    def on_revoke(self, partitions) -> None:
        self.events.append(("revoke", sorted(partitions)))

    def on_lost(self, partitions) -> None:
        self.events.append(("lost", sorted(partitions)))

    def on_end(self, partition, offset) -> None:
        self.events.append(("end", (partition, offset)))


def record(where: TopicPartition, offset: int) -> SimpleNamespace:
    return SimpleNamespace(
        topic=lambda: where.topic, partition=lambda: where.partition, offset=lambda: offset, error=lambda: None,
        headers=lambda: None, key=lambda: b"k", value=lambda: b"v", timestamp=lambda: (1, 1), leader_epoch=lambda: 0,
    )  # fmt: skip


def event(where: TopicPartition, code: int, offset: int = -1) -> SimpleNamespace:
    error = KafkaError(code)
    return SimpleNamespace(
        topic=lambda: where.topic, partition=lambda: where.partition, offset=lambda: offset, error=lambda: error
    )


class Inner:
    """A member that may lose its partition inside ``consume``."""

    def __init__(self) -> None:
        self.then: Callable[[], object] = lambda: None

    def subscribe(self, topics, listener) -> None:
        self.listener = listener

    def committed(self, partitions) -> dict:
        return {}

    def consume(self, max_records, timeout_s) -> list:
        self.then()
        return []


class Reading:
    """A reader that has come to an end at once."""

    def __init__(self) -> None:
        self.reads: list[tuple[list, dict]] = []
        self.dropped: list[TopicPartition] = []

    def add(self, starts) -> None: ...

    def drop(self, partitions) -> None:
        self.dropped += partitions

    def read(self, max_records, timeout_s) -> tuple[list, dict]:
        return self.reads.pop(0) if self.reads else ([], {})


class Scene:
    def __init__(self) -> None:
        self.inner, self.reader, self.told, self.now = Inner(), Reading(), Told(), 0.0
        self.counts = {"orders": 1, BACK.topic: 1}
        self.returns = Returns(
            consumer=self.inner,
            reader=lambda: self.reader,
            topics=lambda: SimpleNamespace(partitions=self.counts.get),
            group="group",
            clock=lambda: self.now,
        )
        self.returns.subscribe(["orders"], self.told)
        self.returns.on_assign({HOME: None})
        self.returns.consume(10, 0)
        self.told.events.clear()


def test_an_end_of_what_comes_back_is_told_after_the_rebalances_that_come_with_its_records():
    scene = Scene()
    scene.reader.reads = [([record(BACK, 0), record(BACK, 1)], {BACK: 2})]
    scene.inner.then = lambda: scene.returns.on_revoke([HOME])
    scene.returns.consume(10, 0)
    assert scene.told.events == [("revoke", [HOME, BACK])]


def test_an_end_is_told_with_the_records_before_it():
    scene = Scene()
    scene.reader.reads = [([record(BACK, 0), record(BACK, 1)], {BACK: 2})]
    assert [message.offset() for message in scene.returns.consume(10, 0)] == [0, 1]
    assert scene.told.events == [("end", (BACK, 2))]


def test_what_comes_back_goes_to_another_partition_when_the_topic_has_more():
    scene = Scene()
    scene.counts |= {"orders": 1, BACK.topic: 2}
    second = BACK._replace(partition=1)
    scene.now = 10.0
    scene.returns.consume(10, 0)
    assert scene.returns.homes == {BACK: HOME, second: HOME}
    scene.told.events.clear()
    scene.counts |= {"orders": 2}
    scene.now = 20.0
    scene.returns.consume(10, 0)
    assert (scene.told.events, scene.returns.homes) == ([("revoke", [second])], {BACK: HOME})
    assert scene.reader.dropped == [second]


class Client:
    """Stands for librdkafka's consumer."""

    def __init__(self, *batches: list, first: object = None) -> None:
        self.batches, self.first = list(batches), first
        self.inside: Callable[[], object] = lambda: None

    def consume(self, count, timeout) -> list:
        batch = self.batches.pop(0) if self.batches else []
        if not self.batches:
            self.inside()
        return batch

    def poll(self, timeout) -> object:
        return self.first

    def memberid(self) -> str:
        return "member"

    def resume(self, positions) -> None: ...

    def close(self) -> None: ...


def consumer_with(client: Client) -> tuple[KafkaConsumer, Told]:
    consumer, told = KafkaConsumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}), Told()
    consumer._client.close()
    consumer._client, consumer._listener = client, told
    return consumer, told


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED])
def test_no_end_is_told_where_an_error_takes_the_records_before_it_along(code):
    other = TopicPartition("secret", 0)
    consumer, told = consumer_with(
        Client([record(HOME, 0), event(HOME, KafkaError._PARTITION_EOF, 1), event(other, code)])
    )
    with pytest.raises(NotAllowed):
        consumer.consume(10, 0)
    assert told.events == []
    consumer.close()


@pytest.mark.parametrize("first", [record(HOME, 7), event(HOME, KafkaError._PARTITION_EOF, 8)])
def test_what_was_read_before_a_partition_went_and_came_back_is_dropped(first):
    client = Client([], [record(TopicPartition("orders", 1), 3)], first=first)
    consumer, told = consumer_with(client)
    client.inside = lambda: consumer._revoked([SimpleNamespace(topic="orders", partition=0)])
    assert [message.offset() for message in consumer.consume(10, 0)] == [3]
    assert told.events == [("revoke", [HOME])]
    consumer.close()
