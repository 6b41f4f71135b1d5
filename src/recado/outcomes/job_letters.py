"""Which dead letters a redrive has brought back, so that who resumes it elsewhere follows all of them (pure).

They stand beside what is settled: a bitmap for each 65,536 offsets of a partition, until the redrive has its end.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping

from pyroaring import BitMap

from recado.record import Outgoing, TopicPartition

__all__ = ["KIND", "JobLetters"]

#: Offsets of one bitmap: what a roaring container holds, 8 KB at most.
CHUNK = 65_536

#: What the keys of its records begin with.
KIND = "job"

#: Id of the job, topic, its id, partition, number of the chunk.
Key = tuple[str, str, str, int, int]


class JobLetters:
    """As read from the topic's records in their order. Not thread-safe."""

    def __init__(self, topic: str, ids: Mapping[str, str]) -> None:
        self._topic = topic
        self._ids = ids
        self._chunks: dict[Key, BitMap] = {}

    def take(self, rest: str, value: bytes | None) -> None:
        """Take in a record by what follows ``KIND`` in its key. Raises ValueError where it is none of ours."""
        id_, topic, topic_id, partition, number = rest.split(" ")
        key = (id_, topic, topic_id, int(partition), int(number))
        if value is None:
            self._chunks.pop(key, None)
        else:
            self._chunks[key] = BitMap.deserialize(base64.b64decode(value))

    def add(self, id_: str, places: Iterable[tuple[TopicPartition, int]]) -> list[Outgoing]:
        """Note that a job has brought these back; returns the records that tell it."""
        changed: dict[Key, BitMap] = {}
        for where, offset in places:
            number, place = divmod(offset, CHUNK)
            key = (id_, where.topic, self._ids[where.topic], where.partition, number)
            bits = changed[key] = self._chunks.setdefault(key, BitMap())
            bits.add(place)
        return [self._record(key, base64.b64encode(bits.serialize())) for key, bits in changed.items()]

    def forget(self, id_: str) -> list[Outgoing]:
        """Forget those of a job that has its end; returns the records that tell it."""
        gone = [key for key in self._chunks if key[0] == id_]
        for key in gone:
            del self._chunks[key]
        return [self._record(key, None) for key in gone]

    def of(self, id_: str) -> Iterator[tuple[TopicPartition, int, BitMap]]:
        """Those of a job that are still there: partition, first offset of the chunk, and which of it."""
        for (job, topic, topic_id, partition, number), bits in self._chunks.items():
            if job == id_ and topic_id == self._ids.get(topic):
                yield TopicPartition(topic, partition), number * CHUNK, bits

    def _record(self, key: Key, value: bytes | None) -> Outgoing:
        name = f"{KIND} {' '.join(map(str, key))}"
        return Outgoing(self._topic, value, name, name.encode(), [], 0)
