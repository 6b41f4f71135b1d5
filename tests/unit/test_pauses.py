"""Of what rests only changes are told; one that was taken away comes back awake, and is told to rest anew."""

from __future__ import annotations

from recado.outcomes.pauses import Pauses
from recado.record import TopicPartition

ONE, TWO = TopicPartition("orders", 0), TopicPartition("orders", 1)


class Consumer:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self, partitions) -> None:
        self.told += [f"pause {where.partition}" for where in partitions]

    def resume(self, partitions) -> None:
        self.told += [f"resume {where.partition}" for where in partitions]


def test_a_partition_that_was_taken_away_is_told_to_rest_anew():
    consumer = Consumer()
    pauses = Pauses(consumer)  # type: ignore[arg-type]
    pauses.only({ONE, TWO})
    pauses.only({ONE, TWO})
    pauses.forget(ONE)
    assert (consumer.told, set(pauses)) == (["pause 0", "pause 1"], {TWO})
    pauses.only({ONE, TWO})
    pauses.only(set())
    assert consumer.told == ["pause 0", "pause 1", "pause 0", "resume 0", "resume 1"]
