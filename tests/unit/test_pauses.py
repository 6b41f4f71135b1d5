"""What rests when it is taken away must not rest when it comes back: librdkafka keeps it paused."""

from __future__ import annotations

from recado.outcomes.pauses import Pauses
from recado.record import TopicPartition

ONE, TWO = TopicPartition("orders", 0), TopicPartition("orders", 1)


class Consumer:
    def __init__(self) -> None:
        self.paused: set[TopicPartition] = set()

    def pause(self, partitions) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions) -> None:
        self.paused -= set(partitions)


def test_a_partition_that_is_let_go_is_resumed():
    consumer = Consumer()
    pauses = Pauses(consumer)  # type: ignore[arg-type]
    pauses.only({ONE, TWO})
    pauses.forget(ONE)
    assert (consumer.paused, set(pauses)) == ({TWO}, {TWO})
    pauses.only(set())
    assert consumer.paused == set()
