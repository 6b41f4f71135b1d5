"""What the in-memory twin's coordinators do: transactions, and their word on a group."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from recado.errors import UnknownTopic
from recado.kafka.abstract import Enlisted, Message, Transacted
from recado.kafka.delivery import Position
from recado.kafka.memory_group import MemoryGroup
from recado.record import Outgoing, TopicPartition

__all__ = ["MemoryCoordinator", "MemoryTransactor"]


class Cluster(Protocol):
    """What they need of their cluster."""

    changed: threading.Condition
    logs: dict[TopicPartition, list[Message | None]]

    @property
    def reachable(self) -> bool: ...

    def append(self, record: Outgoing) -> Position: ...

    def group(self, name: str) -> MemoryGroup: ...

    def partition_counts(self) -> Mapping[str, int]: ...


class MemoryCoordinator:
    """What the twin says of a group (the contract is ``abstract.Coordinator``)."""

    def __init__(self, kafka: Cluster, group: str) -> None:
        self._kafka, self._group = kafka, group

    def owned(self, member: str) -> set[TopicPartition] | None:
        """What a member owns; None where it is none."""
        with self._kafka.changed:
            group = self._kafka.group(self._group)
            if member not in {found.member_id for found in group.members}:
                return None
            return {where for where, owner in group.owners.items() if owner.member_id == member}

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The end of each partition."""
        with self._kafka.changed:
            return {where: len(self._kafka.logs[where]) for where in partitions if where in self._kafka.logs}

    def begins(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that each partition still has."""
        with self._kafka.changed:
            logs = {where: self._kafka.logs[where] for where in partitions if where in self._kafka.logs}
            return {where: next((n for n, one in enumerate(log) if one), len(log)) for where, log in logs.items()}

    def close(self) -> None:
        """Nothing to stop."""


class MemoryTransactor:
    """All or nothing on the twin (the contract is ``abstract.Transactor``)."""

    def __init__(self, kafka: Cluster) -> None:
        self._kafka = kafka
        self._closed = False

    def transact(self, records: Sequence[Outgoing], enlisted: Enlisted) -> Transacted:
        """Append the records and commit the offsets while nobody looks."""
        with self._kafka.changed:
            self._kafka.changed.wait_for(lambda: self._kafka.reachable or self._closed)
            if self._closed:
                return Transacted(False, why="closed")
            counts = self._kafka.partition_counts()
            unknown = {i: r.topic for i, r in enumerate(records) if r.topic not in counts}
            refused = {index: UnknownTopic(f"topic {topic}: unknown.") for index, topic in unknown.items()}
            if refused or not enlisted.membership.commit(enlisted.offsets, wait=True):
                return Transacted(False, refused, enlisted.membership.refusal)
            for record in records:
                self._kafka.append(record)
            return Transacted(True)

    def close(self) -> None:
        """End a wait for the cluster."""
        with self._kafka.changed:
            self._closed = True
            self._kafka.changed.notify_all()
