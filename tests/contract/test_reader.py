"""One suite for every reader (``abstract.Reader``): on the in-memory twin and on a real Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from recado.kafka.abstract import Reader
from recado.kafka.reader import KafkaReader
from recado.record import TopicPartition
from tests.contract.test_consumer import Cluster, Twin, cluster, until

__all__ = ["cluster"]


@pytest.fixture
def reader(cluster: Cluster) -> Iterator[Reader]:
    made = cluster.kafka.reader() if isinstance(cluster, Twin) else KafkaReader(cluster.settings, "a-group")
    yield made
    made.close()


def test_what_is_dropped_while_it_is_paused_is_not_paused_when_it_is_added_again(cluster, reader):
    topic = cluster.topic(2)
    one, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    cluster.send(topic, b"a")
    found: list[bytes] = []

    def read() -> list[bytes]:
        found.extend(message.value() for message in reader.read(10, 0.05)[0])
        return found

    reader.add({one: 0, other: 0})
    until(lambda: read() == [b"a"])
    reader.pause([one, other])
    reader.drop([one])
    reader.add({one: 0})
    cluster.send(topic, b"b", partition=1)
    until(lambda: read() == [b"a", b"a"])
    until_s = time.monotonic() + 0.5
    while time.monotonic() < until_s:
        assert read() == [b"a", b"a"]  # the other one was never dropped
    reader.resume([other])
    until(lambda: read() == [b"a", b"a", b"b"])
