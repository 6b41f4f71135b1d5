"""Where many records stood first, in little memory (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pyroaring import BitMap64

__all__ = ["Origin", "Origins"]


class Origin(NamedTuple):
    """Where a record stood first."""

    topic: str
    partition: int
    offset: int


class Origins:
    """A set of them: a bitmap for each partition, so that a million take some megabytes at most. Not thread-safe."""

    def __init__(self, origins: Iterable[tuple[str, int, int]] = ()) -> None:
        self._offsets: dict[tuple[str, int], BitMap64] = {}
        for origin in origins:
            self.add(*origin)

    def add(self, topic: str, partition: int, offset: int) -> None:
        """Take one in, if it is a place: of some dead letters nothing tells where they stood."""
        if topic and partition >= 0 and offset >= 0:
            self._offsets.setdefault((topic, partition), BitMap64()).add(offset)

    def __contains__(self, origin: tuple[str, int, int]) -> bool:
        topic, partition, offset = origin
        return offset >= 0 and offset in self._offsets.get((topic, partition), ())

    def __len__(self) -> int:
        return sum(map(len, self._offsets.values()))

    @property
    def topics(self) -> list[str]:
        """The topics that they stood in, sorted."""
        return sorted({topic for topic, _ in self._offsets})
