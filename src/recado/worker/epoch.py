"""One stay of one partition with this member, from its assignment to its revocation."""

from __future__ import annotations

from dataclasses import dataclass

from recado.kafka.abstract import Message
from recado.outcomes.offsets import OffsetTracker
from recado.record import TopicPartition

__all__ = ["Epoch", "Stop"]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why and where a partition stands still."""

    offset: int
    attempt: int
    reason: str


class Epoch:
    """The state of one stay. Handler threads read ``closed``; everything else belongs to the loop's thread."""

    __slots__ = (
        "closed",
        "committed",
        "fenced",
        "given_up",
        "group",
        "held_bytes",
        "last_call",
        "left_over",
        "partition",
        "refilled",
        "requested",
        "stop",
        "topic",
        "tracker",
        "where",
    )

    def __init__(self, where: TopicPartition, group: str) -> None:
        self.where = where
        self.topic, self.partition, self.group = where.topic, where.partition, group
        self.tracker = OffsetTracker()
        #: Bytes of values that were handed over and are not done.
        self.held_bytes = 0
        #: The offset of the last commit asked for, and of the last that Kafka confirmed; None before the first.
        self.requested: int | None = None
        self.committed: int | None = None
        #: Nothing more of it is handed to a handler; what executes now may finish and counts.
        self.closed = False
        #: The partition is no longer ours: results that come now are dropped (and counted).
        self.fenced = False
        #: Once it is closed: records that no thread has begun, and those that failed or waited for another attempt.
        self.left_over: list[Message] = []
        self.given_up: list[Message] = []
        #: Closed, but its holes are being finished: which offsets are (``holes.py``).
        self.last_call = False
        self.refilled: set[int] = set()
        #: Set when its handler failed for good.
        self.stop: Stop | None = None

    @property
    def uncommitted(self) -> bool:
        """Whether more is done than Kafka is known to have committed."""
        return self.tracker.position() not in (None, self.committed)

    def lets(self, run_is_last: bool) -> bool:
        """Whether a run may begin now (any thread)."""
        return not self.closed or (run_is_last and self.last_call)

    @property
    def held_records(self) -> int:
        """Records that were handed over and are not done; none once it is closed (they are let go)."""
        return 0 if self.closed else self.tracker.pending
