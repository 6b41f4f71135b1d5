"""What makes clients for the delay line: one suite for the in-memory twin and a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import pytest

from recado.kafka.abstract import Clients, Committed, Consumer
from recado.kafka.clients import ClusterClients
from recado.kafka.delivery import Delivery
from recado.kafka.memory import MemoryKafka
from recado.record import Outgoing, TopicPartition
from recado.settings import Settings
from tests.programs import eventually


@pytest.fixture(params=["twin", "kafka"])
def clients(request: pytest.FixtureRequest) -> Clients:
    if request.param == "twin":
        return MemoryKafka()
    # What a user may set for workers must not make the line skip anything.
    settings = Settings(
        bootstrap_servers=request.getfixturevalue("kafka").bootstrap_servers,
        kafka_consumer={"auto.offset.reset": "latest"},
    )
    return ClusterClients(settings)


class Reader:
    """A member that commits nothing by itself."""

    def __init__(self, clients: Clients, topic: str) -> None:
        self.consumer: Consumer = clients.consumer(f"g-{uuid.uuid4().hex[:8]}")
        self.consumer.subscribe([topic], self)
        self.got: list[tuple[int, bytes | None]] = []

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None: ...
    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None: ...
    def on_lost(self, partitions: Sequence[TopicPartition]) -> None: ...
    def on_end(self, partition: TopicPartition, offset: int) -> None: ...
    def on_commit(self, offsets: Mapping[TopicPartition, int], ok: bool) -> None: ...

    def read(self, count: int) -> list[tuple[int, bytes | None]]:
        def look() -> bool:
            self.got += [(message.offset(), message.value()) for message in self.consumer.consume(100, 0.1)]
            return len(self.got) >= count

        eventually(look)
        return self.got


def test_a_topic_is_created_once_and_its_records_are_read_from_the_first_on(clients):
    topic = f"t-{uuid.uuid4().hex[:8]}"
    assert clients.create_topic(topic, partitions=1, config={"retention.ms": "-1"}) is True
    assert clients.create_topic(topic, partitions=1, config={}) is False
    producer = clients.producer()
    delivery = Delivery([Outgoing(topic, b"%d" % number, "") for number in range(5)], lambda _: None)
    producer.send(delivery)
    eventually(lambda: delivery.outstanding == 0)
    assert all(isinstance(fate, tuple) for fate in delivery.fates)
    reader = Reader(clients, topic)
    assert reader.read(5) == [(number, b"%d" % number) for number in range(5)]
    assert reader.consumer.commit({TopicPartition(topic, 0): Committed(3)}, wait=True)
    reader.consumer.close()
    clients.delete_before({TopicPartition(topic, 0): 3})

    def left() -> bool:
        other = Reader(clients, topic)
        found = other.read(2)
        other.consumer.close()
        return found[:2] == [(3, b"3"), (4, b"4")]

    eventually(left)
    assert producer.close(5) == 0
