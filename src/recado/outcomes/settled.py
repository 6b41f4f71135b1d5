"""Which dead letters of a group are settled: redriven, or discarded by whom and why (pure).

They stand in a compacted topic of the group, a bitmap for each 65,536 offsets of a partition, so that any number of
scattered letters takes little. Beside them are jobs: what a redrive was asked for, and each discard.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import msgspec
from pyroaring import BitMap, BitMap64

from recado.errors import RecadoError
from recado.outcomes.group_topics import settled_topic
from recado.outcomes.job_letters import CHUNK, KIND, JobLetters
from recado.record import Outgoing, TopicPartition

__all__ = ["CHUNK", "CONFIG", "Discard", "Job", "Settled", "What"]

#: What the topic is created with: only the newest record of a key is needed.
CONFIG = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "max.message.bytes": "1048588"}

What = Literal["redriven", "discarded"]

#: Topic, its id, partition, number of the chunk.
Key = tuple[str, str, int, int]


class Discard(msgspec.Struct, frozen=True, kw_only=True, tag="discard"):
    """Letters that somebody gave up for good: when (milliseconds since the epoch), who, why, and how many."""

    id: str
    at: int
    by: str
    reason: str
    letters: int
    #: The first of them, as topic/partition/offset.
    first: list[str]


class Job(msgspec.Struct, frozen=True, kw_only=True, tag="redrive"):
    """A redrive: what was asked for, frozen at its start, so that who resumes it does the same.

    ``done`` is its state when all letters have come back; what became of them is counted in ``succeeded`` and
    ``dead_again`` while somebody follows them.
    """

    id: str
    at: int
    by: str
    #: The filter as it was given, and where the search ends: by topic/partition.
    asked: dict[str, object]
    ends: dict[str, int]
    state: Literal["running", "done", "stopped"] = "running"
    redriven: int = 0
    #: So many come back first, step by step; at most so many come back a second (0: as fast as it goes).
    canary: list[int] = []
    rate: float = 0
    #: How many were handled in the end, and how many died again.
    succeeded: int = 0
    dead_again: int = 0


class _Bits(msgspec.Struct, frozen=True):
    redriven: str = ""
    discarded: str = ""


_notes = msgspec.json.Decoder(Job | Discard)
_bits = msgspec.json.Decoder(_Bits)
_encode = msgspec.json.encode


class Settled:
    """What is settled, as read from the topic's records in their order. Not thread-safe.

    ``ids`` are the ids that dead-letter topics have now: what was settled in an earlier topic of the name is void.
    """

    def __init__(self, group: str, ids: Mapping[str, str]) -> None:
        self._topic = settled_topic(group)
        self._ids = ids
        self._chunks: dict[Key, dict[What, BitMap]] = {}
        #: Which letters each redrive that has no end yet has brought back.
        self.job_letters = JobLetters(self._topic, ids)
        self.jobs: dict[str, Job] = {}
        self.discards: dict[str, Discard] = {}

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take in a record of the topic; what is none of ours is passed over."""
        kind, _, rest = (key or b"").decode("utf-8", "replace").partition(" ")
        try:
            if kind == "letters":
                topic, topic_id, partition, number = rest.split(" ")  # an id may hold a slash
                bits = _bits.decode(value or b"{}")
                self._chunks[topic, topic_id, int(partition), int(number)] = {
                    "redriven": _bitmap(bits.redriven),
                    "discarded": _bitmap(bits.discarded),
                }
            elif kind == KIND:
                self.job_letters.take(rest, value)
            elif kind == "note" and value is not None:
                note = _notes.decode(value)
                if isinstance(note, Job):
                    self.jobs[note.id] = note
                else:
                    self.discards[note.id] = note
        except (ValueError, msgspec.DecodeError):
            return

    def of(self, topic: str, partition: int, offset: int) -> What | None:
        """How a letter is settled; None while it is not."""
        number, place = divmod(offset, CHUNK)
        chunk = self._chunks.get((topic, self._ids.get(topic, ""), partition, number))
        if chunk is None:
            return None
        return "discarded" if place in chunk["discarded"] else "redriven" if place in chunk["redriven"] else None

    def others(self, topic: str, partition: int, begin: int, *, than: Collection[What]) -> BitMap64:
        """The offsets before ``begin`` of letters that are not settled in one of these ways."""
        found = BitMap64(range(begin))
        for (name, topic_id, number, chunk), settled in self._chunks.items():
            if (name, topic_id, number) == (topic, self._ids.get(topic, ""), partition):
                for what in than:
                    found -= BitMap64(chunk * CHUNK + place for place in settled[what])
        return found

    def count(self, topic: str, begins: Mapping[int, int] | None = None) -> dict[What, int]:
        """How many letters of a topic are settled in each way.

        With ``begins``, by partition, only those that Kafka still has.
        """
        counts: dict[What, int] = {"redriven": 0, "discarded": 0}
        for (name, topic_id, partition, number), chunk in self._chunks.items():
            if (name, topic_id) != (topic, self._ids.get(topic, "")):
                continue
            gone = 0 if begins is None else min(max(0, begins.get(partition, 0) - number * CHUNK), CHUNK)
            for what, bits in chunk.items():
                counts[what] += len(bits) - bits.range_cardinality(0, gone)
        return counts

    def settle(self, places: Iterable[tuple[TopicPartition, int]], what: What) -> list[Outgoing]:
        """Note that these letters are settled; returns the records that tell it.

        Raises RecadoError where a topic's id is not known: what is noted without it would not be found again.
        """
        changed: dict[Key, dict[What, BitMap]] = {}
        for where, offset in places:
            number, place = divmod(offset, CHUNK)
            if where.topic not in self._ids:
                raise RecadoError(f"the id of topic {where.topic} is not known. Try again in a moment.")
            key = (where.topic, self._ids[where.topic], where.partition, number)
            chunk = self._chunks.setdefault(key, {"redriven": BitMap(), "discarded": BitMap()})
            chunk[what].add(place)
            changed[key] = chunk
        return [self._record(key, chunk) for key, chunk in changed.items()]

    def note(self, note: Job | Discard) -> Outgoing:
        """Note a job or a discard; returns the record that tells it."""
        self.take(f"note {note.id}".encode(), _encode(note))
        return Outgoing(self._topic, _encode(note), note.id, f"note {note.id}".encode(), [], 0)

    def _record(self, key: Key, chunk: dict[What, BitMap]) -> Outgoing:
        bits = _Bits(_text(chunk["redriven"]), _text(chunk["discarded"]))
        name = f"letters {' '.join(map(str, key))}"
        return Outgoing(self._topic, _encode(bits), name, name.encode(), [], 0)


def _bitmap(text: str) -> BitMap:
    return BitMap.deserialize(base64.b64decode(text)) if text else BitMap()


def _text(bits: BitMap) -> str:
    return base64.b64encode(bits.serialize()).decode() if bits else ""
