"""Progress: how far behind each held partition is, and how long the rest will take. For metrics."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from recado.clock import wall_clock_ms
from recado.record import TopicPartition
from recado.worker.handling.holdings import Holdings
from recado.worker.partition.epoch import Epoch

__all__ = ["Behind", "Progress"]

#: Rest between two looks, in seconds: a few microseconds for each partition.
LOOK_EVERY_S = 1.0

#: The pace is that of so many seconds, at most and at least.
PACE_S = 60.0
LEAST_PACE_S = 3.0


class Behind(NamedTuple):
    """How far one partition is behind."""

    where: TopicPartition
    #: Records that are not done; offsets that hold none (transaction markers) count until they are read over.
    records: int
    #: Of the oldest record that is not done, and of the newest that is, whichever is younger; 0 where all are done.
    oldest_s: float
    lag_s: float


class _Seen(NamedTuple):
    """What the loop saw of one epoch."""

    #: Delivered and not done, and the next offset that will be delivered (None: not known yet).
    pending: int
    front: int | None
    #: Since when its oldest not-done record has been there, and its newest done one, in ms; None where not known.
    oldest_ms: int | None
    newest_ms: int | None


class Progress:
    """``look`` on the loop's thread; ``behind`` and ``to_done`` on any.

    ``ends`` tells up to where each partition can be read, as of some seconds ago; what it does not tell is left out.
    """

    def __init__(
        self,
        *,
        holdings: Holdings,
        ends: Callable[[], Mapping[TopicPartition, int]],
        clock: Callable[[], float],
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._holdings = holdings
        self._ends = ends
        self._clock = clock
        self._clock_ms = clock_ms
        self._look_at = 0.0
        self._seen: dict[TopicPartition, _Seen] = {}
        #: Since when a partition that has nothing in hand has had something to read: its front then, and when, in ms.
        self._unread: dict[TopicPartition, tuple[int, int]] = {}
        #: By topic: (when, records done up to then) of the last minute.
        self._done: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)
        self._before: dict[Epoch, int] = {}

    def look(self) -> None:
        """Note how far each partition is, if it is time."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        epochs = self._holdings.snapshot()
        self._seen = {epoch.where: _look_at(epoch) for epoch in epochs}
        self._note_unread()
        self._note_pace(epochs, now)

    def behind(self) -> Iterator[Behind]:
        """How far behind each held partition is."""
        ends, now_ms = self._ends(), self._clock_ms()
        for where, seen in self._seen.items():
            if seen.front is None or where not in ends:
                continue
            records = seen.pending + max(0, ends[where] - seen.front)
            if not records:
                yield Behind(where, 0, 0.0, 0.0)
                continue
            unread = self._unread.get(where)
            oldest_ms = seen.oldest_ms if seen.pending else unread[1] if unread else None
            oldest_s = _age_s(oldest_ms, now_ms)
            newest_s = _age_s(seen.newest_ms, now_ms) if seen.newest_ms is not None else math.inf
            yield Behind(where, records, oldest_s, min(oldest_s, newest_s))

    def to_done(self) -> dict[str, float]:
        """By topic: seconds until what is there now is done at the present pace; left out while no pace is known."""
        left: defaultdict[str, int] = defaultdict(int)
        for behind in self.behind():
            left[behind.where.topic] += behind.records
        found: dict[str, float] = {}
        for topic, records in left.items():
            pace = self._pace(topic)
            if not records:
                found[topic] = 0.0
            elif pace is not None:
                found[topic] = records / pace if pace else math.inf
        return found

    def _pace(self, topic: str) -> float | None:
        """Records per second; None while too little time has passed to tell."""
        samples = list(self._done.get(topic, ()))
        if not samples or samples[-1][0] - samples[0][0] < LEAST_PACE_S:
            return None
        return (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0])

    def _note_unread(self) -> None:
        ends, before, now_ms = self._ends(), self._unread, self._clock_ms()
        unread: dict[TopicPartition, tuple[int, int]] = {}
        for where, seen in self._seen.items():
            if seen.front is not None and not seen.pending and ends.get(where, 0) > seen.front:
                front, since_ms = before.get(where, (seen.front, now_ms))
                unread[where] = (front, since_ms) if front == seen.front else (seen.front, now_ms)
        self._unread = unread

    def _note_pace(self, epochs: list[Epoch], now: float) -> None:
        done: defaultdict[str, int] = defaultdict(int)
        handled: dict[Epoch, int] = {}
        for epoch in epochs:
            seen = self._seen[epoch.where]
            if seen.front is not None:
                handled[epoch] = seen.front - seen.pending
                done[epoch.topic] += max(0, handled[epoch] - self._before.get(epoch, handled[epoch]))
        self._before = handled
        for gone in self._done.keys() - done.keys():
            del self._done[gone]
        for topic, count in done.items():
            samples = self._done[topic]
            samples.append((now, count + (samples[-1][1] if samples else 0)))
            while samples[-1][0] - samples[0][0] > PACE_S:
                samples.popleft()


def _look_at(epoch: Epoch) -> _Seen:
    tracker, stamps = epoch.tracker, epoch.stamps
    position = tracker.position()
    front = None if position is None else max(position, tracker.last + 1)
    if position is None:
        return _Seen(tracker.pending, front, None, None)
    stamps.forget_before(position - 1)
    return _Seen(tracker.pending, front, stamps.at(position), stamps.at(tracker.highest_done()))


def _age_s(since_ms: int | None, now_ms: int) -> float:
    return max(0, now_ms - since_ms) / 1000 if since_ms is not None else 0.0
