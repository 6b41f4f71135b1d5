"""A reader of chosen partitions of the in-memory twin."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from recado.kafka.abstract import Message
from recado.record import TopicPartition

__all__ = ["MemoryReader"]


class Cluster(Protocol):
    """What a reader needs of its cluster."""

    changed: threading.Condition
    logs: dict[TopicPartition, list[Message | None]]

    @property
    def reachable(self) -> bool: ...


class MemoryReader:
    """Reads the twin by assignment only (the contract is ``abstract.Reader``)."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._positions: dict[TopicPartition, int] = {}
        self._ended: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    def add(self, starts: Mapping[TopicPartition, int | None]) -> None:
        """Read these, too."""
        self._positions.update({where: start or 0 for where, start in starts.items()})

    def drop(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these no more."""
        for where in partitions:
            self._positions.pop(where, None)
            self._ended.pop(where, None)
            self._paused.discard(where)

    def read(self, max_records: int, timeout_s: float) -> tuple[list[Message], dict[TopicPartition, int]]:
        """Return what is there, and the ends that were reached."""
        with self._cluster.changed:
            if not (found := self._found(max_records)) and timeout_s > 0:
                self._cluster.changed.wait(timeout_s)
                found = self._found(max_records)
            ends = {
                where: position
                for where, position in self._positions.items()
                if position == len(self._cluster.logs[where]) and self._ended.get(where) != position
                if where not in self._paused
            }
            self._ended.update(ends)
            return found, ends

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Read no more from these until ``resume``."""
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Read from these again."""
        self._paused.difference_update(partitions)

    def close(self) -> None:
        """Read no more."""
        self._positions = {}

    def _found(self, max_records: int) -> list[Message]:
        found: list[Message] = []
        for where in sorted(self._positions.keys() - self._paused) if self._cluster.reachable else ():
            log = self._cluster.logs[where]
            while self._positions[where] < len(log) and len(found) < max_records:
                message = log[self._positions[where]]
                self._positions[where] += 1
                if message is not None:
                    found.append(message)
        return found
