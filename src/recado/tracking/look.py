"""One look at a cluster: its topics, and how far a group is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from recado.kafka.abstract import Message
from recado.kafka.admin import STABLE_S, Admin
from recado.kafka.groups import Group, GroupLag, Groups, Member
from recado.kafka.identity import unstamped
from recado.kafka.scan import FAST, Pace, Range, Scan
from recado.outcomes.delay import GROUP as DELAY_GROUP
from recado.outcomes.delay import is_delay_topic
from recado.outcomes.group_topics import settled_topic, source_of_letters
from recado.outcomes.offset_map import DoneMap, decode
from recado.outcomes.settled import Settled
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["Look", "Progress", "Reached"]

#: Told now and then how many records were read of how many.
Progress = Callable[[int, int], None]


class Reached(NamedTuple):
    """How far a group is in one partition: what it has committed, and what is done beyond that."""

    committed: int | None
    done: DoneMap | None = None

    def covers(self, offset: int) -> bool:
        """Whether a record needs no handling (any more) where it stands."""
        if self.committed is None:
            return False
        return offset < self.committed or (self.done is not None and offset in self.done)


class Look:
    """What was there at one moment, asked when it is first wanted. Not thread-safe; blocks; raises RecadoError."""

    def __init__(self, settings: Settings, *, admin: Admin | None = None, patience_s: float = STABLE_S) -> None:
        self.settings = settings
        self._patience_s = patience_s
        self.admin = admin or Admin(settings)
        self.groups = Groups(self.admin)
        #: Every topic with its partition count.
        self.counts: Mapping[str, int] = self.admin.topic_partitions()
        self._ids: dict[str, str] = {}
        self._lags: dict[str, dict[TopicPartition, GroupLag]] = {}
        self._settled: dict[str, Settled] = {}
        self._members: dict[str, tuple[Member, ...]] = {}

    def partitions(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic; none where it is not there."""
        return [TopicPartition(topic, number) for number in range(self.counts.get(topic, 0))]

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The end of each partition, when all up to there can be read: behind an open transaction lies what is over."""
        return self.admin.wait_stable(list(partitions), patience_s=self._patience_s)

    def delay_partitions(self) -> list[TopicPartition]:
        """Those in which records wait for their time."""
        return [where for topic in sorted(self.counts) if is_delay_topic(topic) for where in self.partitions(topic)]

    def letter_partitions(self, group: str, source: str = "") -> list[TopicPartition]:
        """Those with dead letters of a group, of one source topic where it is named."""
        found = {topic: source_of_letters(topic, group) for topic in sorted(self.counts)}
        named = [topic for topic, name in found.items() if name is not None and source in ("", name)]
        return [where for topic in named for where in self.partitions(topic)]

    def lags(self, group: str) -> dict[TopicPartition, GroupLag]:
        """How far a group is in each partition that it committed."""
        if group not in self._lags:
            self._note_lags([Group(group, "", ())])
        return self._lags[group]

    def with_a_share_in(self, where: TopicPartition) -> list[str]:
        """The groups that have committed in a partition, or hold it now, sorted."""
        described = list(self.groups.describe(self.groups.names()).values())
        self._note_lags(described)
        self._members |= {group.name: group.members for group in described}
        return sorted(group.name for group in described if where in self._lags[group.name])

    def members(self, group: str) -> tuple[Member, ...]:
        """Who is in a group now."""
        if group not in self._members:
            self._members[group] = self.groups.describe([group])[group].members
        return self._members[group]

    def reached(self, group: str, where: TopicPartition) -> Reached:
        """How far a group is in a partition; what it has committed in an earlier topic of the name does not count."""
        lag = self.lags(group).get(where)
        if lag is None or lag.committed is None:
            return Reached(None)
        topic_id, text = unstamped(lag.metadata)
        if topic_id and topic_id != self._id(where.topic, topic_id):
            return Reached(None)
        return Reached(lag.committed, decode(lag.committed, text))

    def settled(self, group: str) -> Settled:
        """Which dead letters of a group are settled."""
        if group not in self._settled:
            topics = {where.topic for where in self.letter_partitions(group)}
            found = self._settled[group] = Settled(group, self.admin.topic_ids(topics))
            partitions = self.partitions(settled_topic(group))
            if partitions:
                begins, ends = self.admin.begins(partitions), self.admin.ends(partitions)
                ranges = {where: Range(begins.get(where, 0), end) for where, end in ends.items()}
                for message in self.read(ranges):
                    found.take(message.key(), message.value())
        return self._settled[group]

    def waiting(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Range]:
        """What a group has not committed in these partitions.

        Who moves a record writes it in its new place first, and commits then. So both commits are asked for before any
        end: what has moved meanwhile is seen twice, perhaps, but it is not overlooked.
        """
        wanted = list(partitions)
        self.lags(group)
        if self.delay_partitions():
            self.lags(DELAY_GROUP)
        begins, ends = self.admin.begins(wanted), self.ends(wanted)
        return {
            where: Range(max(begins.get(where, 0), self.reached(group, where).committed or 0), ends[where])
            for where in wanted
            if where in ends
        }

    def delayed(self) -> dict[TopicPartition, Range]:
        """What waits for its time."""
        return self.waiting(DELAY_GROUP, self.delay_partitions())

    def read(
        self, ranges: Mapping[TopicPartition, Range], progress: Progress | None = None, *, pace: Pace = FAST
    ) -> Iterator[Message]:
        """The records in these ranges."""
        total, read = sum(max(0, span.end - span.first) for span in ranges.values()), 0
        if not total:
            return
        with Scan(self.settings, pace) as scan:
            for batch in scan.read(ranges):
                yield from batch
                read += len(batch)
                if progress is not None:
                    progress(read, total)

    def _note_lags(self, groups: Sequence[Group]) -> None:
        for name, found in self.groups.lags(groups).items():
            self._lags[name] = {TopicPartition(lag.topic, lag.partition): lag for lag in found}

    def topic_id(self, topic: str) -> str:
        """The id of the topic that has this name now; empty where it is not told."""
        return self._id(topic, "")

    def _id(self, topic: str, otherwise: str) -> str:
        if topic not in self._ids:
            self._ids[topic] = self.admin.topic_ids([topic]).get(topic, otherwise)
        return self._ids[topic]
