"""What of the delay topics is in memory: records by when they move on, within a stated budget."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec

from recado.kafka.abstract import Committed, Message
from recado.kafka.headers import headers_of
from recado.outcomes.delay import BY_TOPIC, Ticket
from recado.outcomes.resume import tracker_of
from recado.record import TopicPartition

__all__ = ["Held", "Hold", "Stay"]

#: Records in memory, waiting or on their way: a burst of so many that fall due in one moment is read before it. Small
#: ones take 1.1 kB each, 110 MB together, as measured.
MAX_RECORDS = 100_000

#: Their keys, values and headers, in bytes. librdkafka's own fetched records (16 MB) and its producer's queue come
#: on top. One read may exceed it.
MAX_BYTES = 64_000_000


class Stay:
    """One stay of one partition of a delay topic with this member."""

    __slots__ = (
        "asked_at",
        "committed",
        "fenced",
        "level",
        "purged",
        "requested",
        "rest_until_ms",
        "tracker",
        "transactional",
        "where",
    )

    def __init__(self, where: TopicPartition, committed: Committed | None = None) -> None:
        self.where = where
        self.level = BY_TOPIC[where.topic]
        self.tracker = tracker_of(committed)
        #: The partition is no longer ours: what comes of its records now is not ours to commit.
        self.fenced = False
        #: The last commit asked for and the last that Kafka confirmed, and the offset of the last deletion.
        self.requested: Committed | None = None
        self.committed: Committed | None = None
        self.asked_at = -1
        self.transactional = False
        self.purged = 0
        #: The next unread record moves on well after this moment: until then nothing need be read.
        self.rest_until_ms = 0


class Held(msgspec.Struct, gc=False):
    """One record of a delay topic in memory."""

    stay: Stay
    offset: int
    ticket: Ticket
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    size_bytes: int
    #: Its target has refused it.
    refused: bool = False

    @classmethod
    def of(cls, message: Message, stay: Stay, ticket: Ticket) -> Held:
        """Take what is needed from a consumed record."""
        # A header may be null, whatever Outgoing's type says of those that recado makes: it stays so.
        key, headers = message.key(), headers_of(message)
        size = len(message) + len(key or b"") + sum(len(n) + len(v or b"") for n, v in headers)
        return cls(stay, message.offset(), ticket, key, message.value(), headers, size)


class Hold:
    """The records that this member has in memory, by when they move on. Line thread only, except ``records``."""

    def __init__(self) -> None:
        #: Those that are due when they wake, and those that hop then: a wave of hops must not hold up what is due.
        self._landing: list[tuple[int, int, Held]] = []
        self._hopping: list[tuple[int, int, Held]] = []
        self._added = 0
        #: How many records are waiting or on their way.
        self.records = 0
        self._bytes = 0

    @property
    def load(self) -> float:
        """How much of the budget is used; 1 is all of it."""
        return max(self.records / MAX_RECORDS, self._bytes / MAX_BYTES)

    def take_in(self, held: Held, wake_ms: int) -> None:
        """Hold a record that was just read."""
        self.records += 1
        self._bytes += held.size_bytes
        self.put_back(held, wake_ms)

    def put_back(self, held: Held, wake_ms: int) -> None:
        """Let a record that is held already wait (again)."""
        self._added += 1  # equal times keep their order, and records are never compared
        heap = self._landing if held.ticket.due_ms <= wake_ms else self._hopping
        heapq.heappush(heap, (wake_ms, self._added, held))

    def pop_due(self, now_ms: int, at_most: int) -> list[Held]:
        """Take out what moves on now, first what is due; it stays within the budget until ``let_go``."""
        due: list[Held] = []
        for heap in (self._landing, self._hopping):
            while heap and heap[0][0] <= now_ms and len(due) < at_most:
                due.append(heapq.heappop(heap)[2])
        return due

    def let_go(self, held: Held) -> None:
        """A record is done here."""
        self.records -= 1
        self._bytes -= held.size_bytes

    def next_ms(self) -> int | None:
        """When the next record moves on."""
        return min((heap[0][0] for heap in (self._landing, self._hopping) if heap), default=None)
