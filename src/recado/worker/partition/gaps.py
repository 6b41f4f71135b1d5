"""Gaps: offsets that a stay passed without a record. Most hold none; some did, and Kafka deleted them unread."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from recado.kafka.abstract import Message

__all__ = ["Gaps"]

#: Gaps that are kept until somebody looks: a compacted log has many, and those say nothing.
KEPT = 1_000


class Gaps:
    """The gaps of one stay. The loop notes them, any one other thread takes them."""

    __slots__ = ("_found", "_next")

    def __init__(self, first: int) -> None:
        """``first`` is the offset that is read first; -1 where that is not known."""
        self._next = first
        self._found: deque[tuple[int, int]] = deque(maxlen=KEPT)

    def note(self, messages: Sequence[Message]) -> None:
        """These were read next, in offset order."""
        first, last = messages[0].offset(), messages[-1].offset()
        if 0 <= self._next < first:
            self._found.append((self._next, first))
        if last - first >= len(messages):
            at = first
            for message in messages:
                if (offset := message.offset()) > at:
                    self._found.append((at, offset))
                at = offset + 1
        self._next = last + 1

    def take(self) -> list[tuple[int, int]]:
        """The gaps since the last look, as (first, end), the end exclusive."""
        return [self._found.popleft() for _ in range(len(self._found))]
