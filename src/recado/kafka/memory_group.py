"""Consumer groups of the in-memory twin: members, cooperative rebalances, committed offsets."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from recado.kafka.abstract import Committed, Enlisted, Message, PartitionListener
from recado.record import TopicPartition

__all__ = ["MemoryConsumer", "MemoryGroup"]


class Cluster(Protocol):
    """What a group needs of its cluster."""

    changed: threading.Condition
    logs: dict[TopicPartition, list[Message | None]]
    topic_ids: dict[str, int]

    @property
    def reachable(self) -> bool: ...


class MemoryGroup:
    """The coordinator of one group. Every method is called with ``cluster.changed`` held."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.members: list[MemoryConsumer] = []
        self.offsets: dict[TopicPartition, Committed] = {}
        #: Of which topic of that name an offset is.
        self.offset_ids: dict[TopicPartition, int] = {}
        #: Who may read a partition now; it is free only when its last owner has let it go.
        self.owners: dict[TopicPartition, MemoryConsumer] = {}
        #: Stages a rebalance: every commit is refused until each member has consumed so many times more.
        self.rebalancing: dict[MemoryConsumer, int] = {}

    def rebalance(self) -> None:
        """Give every member its target: keep what can stay, spread the rest evenly."""
        wanted = {member: {p for p in self._cluster.logs if member.wants(p.topic)} for member in self.members}
        for member in self.members:
            member.target &= wanted[member]
        held = {partition for member in self.members for partition in member.target}
        for partition in sorted(self._cluster.logs.keys() - held):
            if takers := [member for member in self.members if partition in wanted[member]]:
                min(takers, key=lambda member: len(member.target)).target.add(partition)
        while move := self._uneven(wanted):
            giver, taker, partition = move
            giver.target.discard(partition)
            taker.target.add(partition)
        self._cluster.changed.notify_all()

    def expel(self, member: MemoryConsumer) -> None:
        """Throw a member out as if its session had timed out: it learns of it by ``on_lost``, then joins again."""
        member.expelled = True
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner is not member}
        self.leave(member)

    def leave(self, member: MemoryConsumer) -> None:
        """Take a member off the list; its partitions go to the others."""
        if member in self.members:
            self.members.remove(member)
        member.target = set()
        self.rebalance()

    def _uneven(
        self, wanted: Mapping[MemoryConsumer, set[TopicPartition]]
    ) -> tuple[MemoryConsumer, MemoryConsumer, TopicPartition] | None:
        for giver in sorted(self.members, key=lambda member: -len(member.target)):
            for taker in sorted(self.members, key=lambda member: len(member.target)):
                movable = giver.target & wanted[taker]
                if movable and len(giver.target) - len(taker.target) > 1:
                    return giver, taker, max(movable)
        return None


class MemoryConsumer:
    """A member of a group in the twin (the contract is ``abstract.Consumer``)."""

    def __init__(self, cluster: Cluster, group: MemoryGroup) -> None:
        self._cluster, self._group = cluster, group
        self._listener: PartitionListener | None = None
        self._patterns: list[re.Pattern[str]] = []
        self._names: set[str] = set()
        self._positions: dict[TopicPartition, int] = {}
        self._ids: dict[TopicPartition, int] = {}
        self._ended: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._commits: list[tuple[dict[TopicPartition, Committed], bool]] = []
        self._joined = self._closed = False
        #: Written by the group: what this member shall hold, and whether it was thrown out.
        self.target: set[TopicPartition] = set()
        self.expelled = False
        #: Why the last ``commit`` with ``wait`` failed.
        self.refusal = ""

    @property
    def reachable(self) -> bool:
        """Whether the twin is meant to answer."""
        return self._cluster.reachable

    @property
    def member_id(self) -> str:
        """By which id the twin's coordinator knows this member."""
        return f"member-{id(self)}"

    def topic_id(self, topic: str) -> str:
        """Which topic of the name it is."""
        return f"{topic}-{self._cluster.topic_ids[topic]}"

    def wants(self, topic: str) -> bool:
        """Tell whether the subscription names or matches the topic."""
        return topic in self._names or any(pattern.match(topic) for pattern in self._patterns)

    def subscribe(self, topics: Sequence[str], listener: PartitionListener) -> None:
        """Join the group for these topic names and patterns."""
        with self._cluster.changed:
            self._listener = listener
            self._names = {topic for topic in topics if not topic.startswith("^")}
            self._patterns = [re.compile(topic) for topic in topics if topic.startswith("^")]
            self._join()

    def consume(self, max_records: int, timeout_s: float) -> list[Message]:
        """Return what is there; wait up to ``timeout_s`` only for the first record."""
        deadline = time.monotonic() + timeout_s
        self._tell_commits()
        self._catch_up()
        while True:
            self._begin_anew()
            self._follow_group()
            with self._cluster.changed:
                found = self._read(max_records)
                ends = self._new_ends()
                left = deadline - time.monotonic()
                if not found and not ends and left > 0 and not self._must_follow():
                    self._cluster.changed.wait(left)
                    continue
            for partition, offset in ends:
                self._told().on_end(partition, offset)
            if found or left <= 0:
                return found

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Read no more from these until ``resume``."""
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Read from these again."""
        self._paused.difference_update(partitions)

    def went_back(self, partition: TopicPartition) -> None:
        """The twin notices a new topic at once, so there is nothing to hear."""

    def commit(self, offsets: Mapping[TopicPartition, Committed], *, wait: bool) -> bool:
        """Commit exactly these offsets; refused for a partition that another member may own."""
        with self._cluster.changed:
            owned = all(self._may_commit(partition) for partition in offsets)
            caught_up = self._group.rebalancing.get(self, 0) <= 0
            done = owned and caught_up and self._cluster.reachable
            if wait:
                self.refusal = "" if done else "not this member's now" if caught_up else "the group rebalances"
            if done:
                self._group.offsets.update(offsets)
                self._group.offset_ids.update({p: self._ids.get(p, self._cluster.topic_ids[p.topic]) for p in offsets})
                self._cluster.changed.notify_all()
            if not wait:
                self._commits.append((dict(offsets), done))
            return done or not wait

    def enlist(self, offsets: Mapping[TopicPartition, Committed]) -> Enlisted:
        """What a transaction needs to commit these offsets in this member's name."""
        return Enlisted(offsets, self)

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """The group's committed offsets of these partitions."""
        with self._cluster.changed:
            offsets = self._group.offsets
            return {partition: offsets[partition] for partition in partitions if partition in offsets}

    def close(self) -> None:
        """Leave the group; the listener's ``on_revoke`` runs inside."""
        if self._closed:
            return
        self._closed = True
        self._tell_commits()
        self._let_go(list(self._positions))
        with self._cluster.changed:
            self._group.leave(self)

    def _may_commit(self, partition: TopicPartition) -> bool:
        """A coordinator takes from a member what is its own, and also what no member wants."""
        if any(member.wants(partition.topic) for member in self._group.members):
            return self._group.owners.get(partition) is self
        return self in self._group.members and not self.expelled

    def _catch_up(self) -> None:
        with self._cluster.changed:
            if self in self._group.rebalancing:
                self._group.rebalancing[self] -= 1

    def _join(self) -> None:
        self.expelled = False
        if self not in self._group.members:
            self._group.members.append(self)
        self._group.rebalance()

    def _told(self) -> PartitionListener:
        assert self._listener is not None, "subscribe first"
        return self._listener

    def _tell_commits(self) -> None:
        commits, self._commits = self._commits, []
        for offsets, ok in commits:
            self._told().on_commit(offsets, ok)

    def _must_follow(self) -> bool:
        free = any(self._group.owners.get(partition) is None for partition in self.target - self._positions.keys())
        return self.expelled or free or bool(self._positions.keys() - self.target)

    def _begin_anew(self) -> None:
        with self._cluster.changed:
            ids = self._cluster.topic_ids
            anew = [p for p in sorted(self._positions.keys() & self.target) if self._ids[p] != ids[p.topic]]
            self._ids.update({partition: ids[partition.topic] for partition in anew})
            self._positions.update(dict.fromkeys(anew, 0))
            for partition in anew:
                self._ended.pop(partition, None)
                self._paused.discard(partition)
        if anew:
            self._told().on_lost(anew)
            self._told().on_assign(dict.fromkeys(anew))

    def _first(self, partition: TopicPartition) -> int:
        self._ids[partition] = self._cluster.topic_ids[partition.topic]
        stored = self._stored(partition)
        return stored.offset if stored is not None else 0

    def _stored(self, partition: TopicPartition) -> Committed | None:
        same = self._group.offset_ids.get(partition) == self._ids[partition]
        return self._group.offsets.get(partition) if same else None

    def _follow_group(self) -> None:
        """Let go and take over what the group says, one listener call after the other, no lock held."""
        if self.expelled:
            lost = list(self._positions)
            self._forget(lost)
            self._told().on_lost(lost)
            with self._cluster.changed:
                self._join()
        with self._cluster.changed:
            gone = sorted(self._positions.keys() - self.target)
        if gone:
            self._let_go(gone)
        with self._cluster.changed:
            free = [p for p in sorted(self.target - self._positions.keys()) if self._group.owners.get(p) is None]
            for partition in free:
                self._group.owners[partition] = self
                self._positions[partition] = self._first(partition)
        if (free or not self._joined) and self._listener is not None:
            self._joined = True
            self._listener.on_assign({partition: self._stored(partition) for partition in free})

    def _let_go(self, partitions: list[TopicPartition]) -> None:
        if not partitions:
            return
        self._told().on_revoke(partitions)
        with self._cluster.changed:
            for partition in partitions:
                if self._group.owners.get(partition) is self:
                    del self._group.owners[partition]
            self._cluster.changed.notify_all()
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._ended.pop(partition, None)
            self._paused.discard(partition)

    def _read(self, max_records: int) -> list[Message]:
        found: list[Message] = []
        if self.expelled or not self._cluster.reachable:
            return found
        for partition in sorted(self._positions.keys() - self._paused, key=lambda p: self._positions[p]):
            stored = self._cluster.logs[partition]
            while self._positions[partition] < len(stored) and len(found) < max_records:
                message = stored[self._positions[partition]]
                self._positions[partition] += 1
                if message is not None:
                    found.append(message)
        return found

    def _new_ends(self) -> list[tuple[TopicPartition, int]]:
        if not self._cluster.reachable:
            return []
        reached = [
            (partition, position)
            for partition, position in self._positions.items()
            if position == len(self._cluster.logs[partition]) and self._ended.get(partition) != position
            if partition not in self._paused
        ]
        self._ended.update(reached)
        return reached
