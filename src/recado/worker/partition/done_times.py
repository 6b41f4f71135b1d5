"""How long records took from accepted to done: by the settling, because a look at each would cost too much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from recado.clock import wall_clock_ms
from recado.telemetry.metrics import WORKER_DONE_SECONDS
from recado.worker.partition.epoch import Epoch

__all__ = ["DoneTimes", "note_done"]


class _Some(NamedTuple):
    """So many records of a partition, the lowest and the highest offset among them."""

    lowest: int
    highest: int
    records: int


class DoneTimes:
    """Gathers what is done until ``tell``. Loop thread only.

    Records were accepted in the order of their offsets, about: where the lowest and the highest of those that are done
    now fall into one bucket, so do all between. Else each run is looked at, and at last each half of one.
    """

    def __init__(self) -> None:
        self._done: dict[Epoch, list[_Some]] = {}

    def add(self, epoch: Epoch, lowest: int, highest: int, count: int) -> None:
        """Note so many records of a run; not of a retry topic, whose offsets do not tell when they were accepted."""
        some = self._done.get(epoch)
        if some is None:
            some = self._done[epoch] = []
        some.append(_Some(lowest, highest, count))

    def tell(self) -> None:
        """Count what is done by now."""
        if not self._done:
            return
        now_ms, done, self._done = wall_clock_ms(), self._done, {}
        for epoch, some in done.items():
            lowest, highest = min(one.lowest for one in some), max(one.highest for one in some)
            if _bucket(epoch, lowest, now_ms) == _bucket(epoch, highest, now_ms):
                some = [_Some(lowest, highest, sum(one.records for one in some))]
            for one in some:
                _spread(epoch, one, now_ms)


def note_done(topic: str, accepted: Sequence[int]) -> None:
    """Count records that are done now, by when each was accepted (milliseconds; below 1: unknown)."""
    now_ms = wall_clock_ms()
    for at_ms in accepted:
        if at_ms > 0:
            WORKER_DONE_SECONDS.observe(topic, max(0, now_ms - at_ms) / 1000)


def _spread(epoch: Epoch, some: _Some, now_ms: int) -> None:
    lowest, highest, count = some
    first_s, last_s = _age_s(epoch, lowest, now_ms), _age_s(epoch, highest, now_ms)
    if first_s < 0 or last_s < 0 or not count:
        return
    bucket = WORKER_DONE_SECONDS.bucket
    if lowest == highest or bucket(first_s) == bucket(last_s):
        WORKER_DONE_SECONDS.observe(epoch.topic, (first_s + last_s) / 2, count)
        return
    middle = (lowest + highest) // 2
    below = min(count, round(count * (middle + 1 - lowest) / (highest + 1 - lowest)))
    _spread(epoch, _Some(lowest, middle, below), now_ms)
    _spread(epoch, _Some(middle + 1, highest, count - below), now_ms)


def _bucket(epoch: Epoch, offset: int, now_ms: int) -> int:
    return WORKER_DONE_SECONDS.bucket(_age_s(epoch, offset, now_ms))


def _age_s(epoch: Epoch, offset: int, now_ms: int) -> float:
    """Negative where nothing tells."""
    at_ms = epoch.stamps.at(offset)
    return max(0, now_ms - at_ms) / 1000 if at_ms is not None else -1.0
