"""Returns: reads, beside a group's own partitions, what comes back to them through the group's retry topics.

Whoever owns a partition of a topic reads the same partition of its retry topic: so a key is at one member only, and
its lane orders both. Assignors do not know of that, so these partitions are not subscribed to: a reader of its own
follows the assignment, and their offsets are committed in the member's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from recado.errors import RecadoError
from recado.kafka.abstract import Committed, Consumer, Enlisted, Message, PartitionListener, Reader, Topics
from recado.outcomes.group_topics import is_group_topic, retry_topic
from recado.record import TopicPartition
from recado.worker.partition.returned import returned

__all__ = ["Returns"]

log = structlog.get_logger(__name__)

#: Rest between two looks for retry topics that were made meanwhile, in seconds.
LOOK_EVERY_S = 1.0


class Returns:
    """A consumer and a reader as one ``abstract.Consumer``; between the consumer and its listener."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        reader: Callable[[], Reader],
        topics: Callable[[], Topics],
        group: str,
        clock: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._connect = reader
        self._reader: Reader | None = None
        self._topics = topics
        self._group = group
        self._clock = clock
        self._listener: PartitionListener | None = None
        self._named: set[str] = set()
        self._held: set[TopicPartition] = set()
        self._look_at = 0.0
        #: Of each partition that is read here, the one whose records come back by it.
        self.homes: dict[TopicPartition, TopicPartition] = {}

    @property
    def reachable(self) -> bool:
        """Whether a broker answered last, as far as is known now."""
        return self._consumer.reachable

    @property
    def member_id(self) -> str:
        """By which id the coordinator knows this member now."""
        return self._consumer.member_id

    @property
    def refusal(self) -> str:
        """Why the last ``commit`` with ``wait`` returned False."""
        return self._consumer.refusal

    def subscribe(self, topics: Sequence[str], listener: PartitionListener) -> None:
        """Join the group; no pattern means the topics of a group."""
        self._listener, self._named = listener, set(topics)
        self._consumer.subscribe(topics, self)

    def consume(self, max_records: int, timeout_s: float) -> list[Message]:
        """Return what is there, what comes back first."""
        if self._held and self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_EVERY_S
            self._look()
        if not self.homes or self._reader is None:
            return self._consumer.consume(max_records, timeout_s)
        back, ends = self._read_back(self._reader, max(1, max_records // 2))
        found = self._consumer.consume(max(1, max_records - len(back)), 0.0 if back else timeout_s)
        # Only now: inside ``consume`` a partition may be revoked, and who knew of an end beyond records that it was not
        # given yet would commit past them.
        for where, offset in ends.items():
            if where in self.homes:
                self._told().on_end(where, offset)
        return back + found

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch no more from these until ``resume``."""
        mine, others = self._split(partitions)
        if others:
            self._consumer.pause(others)
        if mine and self._reader is not None:
            self._reader.pause(mine)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch from these again."""
        mine, others = self._split(partitions)
        if others:
            self._consumer.resume(others)
        if mine and self._reader is not None:
            self._reader.resume(mine)

    def topic_id(self, topic: str) -> str:
        """The id of a topic of which this member holds a partition."""
        return self._consumer.topic_id(topic)

    def went_back(self, partition: TopicPartition) -> None:
        """Hear that the owner saw offsets go back here."""
        if partition not in self.homes:
            self._consumer.went_back(partition)

    def commit(self, offsets: Mapping[TopicPartition, Committed], *, wait: bool) -> bool:
        """Commit exactly these offsets, all in the member's name."""
        return self._consumer.commit(offsets, wait=wait)

    def enlist(self, offsets: Mapping[TopicPartition, Committed]) -> Enlisted:
        """What a transaction needs to commit these offsets in this member's name."""
        return self._consumer.enlist(offsets)

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """The group's committed offsets of these partitions."""
        return self._consumer.committed(partitions)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
        if self._reader is not None:
            self._reader.close()

    def on_assign(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        """Pass on; and look soon for what comes back to them."""
        ours = {
            where: committed
            for where, committed in partitions.items()
            if where.topic in self._named or not is_group_topic(where.topic)
        }
        if left_out := sorted(partitions.keys() - ours.keys()):
            self._consumer.pause(left_out)
            log.info(
                "a pattern does not mean a group's own topics", topics=" ".join(sorted({p.topic for p in left_out}))
            )
        self._held.update(ours)
        self._look_at = 0.0
        self._told().on_assign(ours)

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Pass on, together with what comes back to them."""
        back = self._back_of(partitions)
        self._told().on_revoke([*self._ours(partitions), *back])
        self._let_go(partitions, back)

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Pass on, together with what comes back to them."""
        back = self._back_of(partitions)
        self._told().on_lost([*self._ours(partitions), *back])
        self._let_go(partitions, back)

    def on_end(self, partition: TopicPartition, offset: int) -> None:
        """Pass on."""
        self._told().on_end(partition, offset)

    def on_commit(self, offsets: Mapping[TopicPartition, Committed], ok: bool) -> None:
        """Pass on."""
        self._told().on_commit(offsets, ok)

    def _told(self) -> PartitionListener:
        assert self._listener is not None, "subscribe first"
        return self._listener

    def _ours(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        return [where for where in partitions if where in self._held]

    def _back_of(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        gone = set(partitions)
        return sorted(where for where, home in self.homes.items() if home in gone)

    def _let_go(self, partitions: Sequence[TopicPartition], back: list[TopicPartition]) -> None:
        self._held.difference_update(partitions)
        self._end(back)

    def _end(self, back: list[TopicPartition]) -> None:
        for where in back:
            del self.homes[where]
        if back and self._reader is not None:
            self._reader.drop(back)

    def _split(self, partitions: Sequence[TopicPartition]) -> tuple[list[TopicPartition], list[TopicPartition]]:
        return [p for p in partitions if p in self.homes], [p for p in partitions if p not in self.homes]

    def _look(self) -> None:
        """Begin to read what is there for the partitions that are held, and end what belongs to others now."""
        homes = {
            w: home for topic in {held.topic for held in self._held} for w, home in self._coming_back(topic).items()
        }
        # Where a topic has more partitions than before, what comes back may belong to another of them, and its owner.
        if gone := sorted(where for where, home in self.homes.items() if homes.get(where, home) != home):
            self._told().on_revoke(gone)
            self._end(gone)
        found = {where: home for where, home in homes.items() if where not in self.homes and home in self._held}
        if not found:
            return
        try:
            committed = self._consumer.committed(sorted(found))
        except RecadoError as error:
            log.warning("retry topics cannot be read yet, trying again", error=str(error))
            return
        self.homes.update(found)
        if self._reader is None:
            self._reader = self._connect()
        self._reader.add({where: committed[where].offset if where in committed else None for where in sorted(found)})
        self._told().on_assign({where: committed.get(where) for where in sorted(found)})

    def _coming_back(self, topic: str) -> dict[TopicPartition, TopicPartition]:
        topics, name = self._topics(), retry_topic(self._group, topic)
        count, sources = topics.partitions(name), topics.partitions(topic)
        if not count or not sources:
            return {}
        return {TopicPartition(name, number): TopicPartition(topic, number % sources) for number in range(count)}

    def _read_back(self, reader: Reader, max_records: int) -> tuple[list[Message], dict[TopicPartition, int]]:
        found, ends = reader.read(max_records, 0.0)
        back: list[Message] = []
        for message in found:
            home = self.homes.get(TopicPartition(message.topic(), message.partition()))
            record = returned(message, self._group, home) if home is not None else None
            if record is not None:  # another group's is a gap here, which counts as done
                back.append(record)
        return back, ends
