"""One stay of one partition with this member, from its assignment to its revocation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from recado.kafka.abstract import Committed, Message
from recado.outcomes.history import History, began
from recado.outcomes.offset_commits import how_far
from recado.outcomes.resume import tracker_of
from recado.record import TopicPartition
from recado.worker.partition.gaps import Gaps
from recado.worker.partition.returned import Returned
from recado.worker.partition.stamps import Stamps

__all__ = ["Epoch", "Stop"]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why and where a partition stands still."""

    offset: int
    attempt: int
    reason: str


class Guarding(Protocol):
    """What guards an epoch's records (``guard.py``)."""

    def admit(self, epoch: Epoch, messages: Sequence[Message], /) -> list[Message]: ...

    def done(self, epoch: Epoch, offsets: Iterable[int], /) -> None: ...

    def release(self, epoch: Epoch, offsets: Iterable[int], /) -> None: ...

    def forget(self, epoch: Epoch, /, *, but: Collection[int]) -> None: ...


class Epoch:
    """The state of one stay. Handler threads read ``closed``; everything else belongs to the loop's thread."""

    __slots__ = (
        "asked_at",
        "before",
        "begins",
        "claims",
        "closed",
        "committed",
        "dead",
        "deliveries",
        "fenced",
        "gaps",
        "group",
        "guard",
        "held_bytes",
        "home",
        "partition",
        "requested",
        "stamps",
        "stop",
        "topic",
        "topic_id",
        "tracker",
        "transactional",
        "waits",
        "where",
    )

    def __init__(
        self,
        where: TopicPartition,
        group: str,
        committed: Committed | None = None,
        *,
        home: TopicPartition | None = None,
        topic_id: str = "",
    ) -> None:
        self.where = where
        #: Where its records stood first: another partition where they come back from a retry topic.
        self.home = home or where
        self.topic, self.partition, self.group = where.topic, where.partition, group
        #: The id of the topic where its records stood first; empty where nobody tells.
        self.topic_id = topic_id
        self.tracker = tracker_of(committed)
        #: Where it begins, and what earlier stays have done beyond that, if anything.
        self.begins = committed.offset if committed is not None else 0
        self.before = self.tracker.before
        #: What was passed without a record.
        self.gaps = Gaps(committed.offset if committed is not None else -1)
        #: Since when its records have been there, of some of them.
        self.stamps = Stamps()
        #: Bytes of values that were handed over and are not done.
        self.held_bytes = 0
        #: The last commit asked for, and the last that Kafka confirmed; None before the first.
        self.requested: Committed | None = None
        self.committed: Committed | None = None
        self.asked_at = -1
        #: Admits records by their ids, and what it has claimed for each offset; None where nothing is guarded.
        self.guard: Guarding | None = None
        self.claims: dict[int, Any] = {}
        #: Only transactions commit it, together with what its handlers sent.
        self.transactional = False
        #: Of a share group: how often each record was delivered, and which are dead letters now.
        self.deliveries: dict[int, int] = {}
        self.dead: set[int] = set()
        #: Nothing more of it is handed to a handler; what executes now may finish and counts.
        self.closed = False
        #: The partition is no longer ours: results that come now are dropped (and counted).
        self.fenced = False
        #: Nothing of it may be handed out before what is parked of it is known: it is not read meanwhile, and takes no
        #: room from what must be read for that.
        self.waits = False
        #: Set when its handler failed for good.
        self.stop: Stop | None = None

    def history_of(self, message: Message) -> History:
        """What became of one of its records before this attempt."""
        return message.history if isinstance(message, Returned) else began(message, self.group, self.topic_id)

    def reads(self, offset: int) -> bool:
        """Whether this stay reads a record: no earlier one has committed it."""
        return offset >= self.begins and not (self.before is not None and offset in self.before)

    @property
    def uncommitted(self) -> bool:
        """Whether more is done than Kafka is known to have committed."""
        return how_far(self) not in (None, self.committed)

    @property
    def held_records(self) -> int:
        """Records that were handed over and are not done; none once it is closed (they are let go)."""
        return 0 if self.closed else self.tracker.pending
