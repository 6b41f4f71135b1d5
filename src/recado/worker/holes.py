"""Holes: records that are not done below one that is, finished at the end of a stay so that nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from recado.worker.epoch import Epoch
from recado.worker.holdings import Holdings
from recado.worker.settlement import Settlement

__all__ = ["Holes"]

#: How long filling holes may take, in seconds; those of handlers so slow that it would not do are left at once.
#: A rebalance holds up others.
BUDGET_S = 5.0


class Holes:
    """Only the lowest not-done offset can be committed: what is done beyond it would run again. Loop thread only."""

    def __init__(self, *, holdings: Holdings, settlement: Settlement, clock: Callable[[], float]) -> None:
        self._holdings = holdings
        self._settlement = settlement
        self._clock = clock

    def fill(self, epochs: Iterable[Epoch], has_time: Callable[[], bool], rest: Callable[[], None]) -> None:
        """Let the handlers finish the holes of closed epochs; ``rest`` passes a moment between two looks.

        A record that failed stays a hole, and so does what comes after it under its key.
        """
        epochs = [epoch for epoch in epochs if epoch.stop is None and epoch.tracker.holes()]
        if any(not epoch.last_call for epoch in epochs) and self._holdings.executing(epochs):
            return  # its time was up: what it is at is a hole itself, and its key must wait
        until = self._clock() + BUDGET_S

        def goes_on() -> bool:
            return has_time() and self._clock() < until

        self._wait(epochs, _missing, goes_on, rest)
        filling = [epoch for epoch in epochs if goes_on() and self._start(epoch)]
        self._wait(filling, lambda epoch: epoch.refilled & set(epoch.tracker.holes()), goes_on, rest)
        for epoch in filling:
            epoch.last_call = False
        self._holdings.close(filling)

    def _wait(
        self,
        epochs: list[Epoch],
        open_offsets: Callable[[Epoch], set[int]],
        has_time: Callable[[], bool],
        rest: Callable[[], None],
    ) -> None:
        while has_time() and any(not e.fenced and open_offsets(e) - _given_up(e) for e in epochs):
            rest()
            self._settlement.settle_all()

    def _start(self, epoch: Epoch) -> bool:
        if epoch.last_call:
            return True  # a revocation in the middle of a shutdown: they are under way
        holes = set(epoch.tracker.holes())
        blocked = {message.key() for message in epoch.given_up} - {None}
        found = {m.offset(): m for m in epoch.left_over if m.offset() in holes and m.key() not in blocked}
        messages = [found[offset] for offset in sorted(found)]
        epoch.refilled, epoch.last_call = set(found), True
        epoch.last_call = self._holdings.runner(epoch.topic).lanes.refill(epoch, messages, BUDGET_S)
        return epoch.last_call


def _missing(epoch: Epoch) -> set[int]:
    """The holes that no thread has given back yet: they are still queued."""
    return set(epoch.tracker.holes()) - {message.offset() for message in epoch.left_over}


def _given_up(epoch: Epoch) -> set[int]:
    return {message.offset() for message in epoch.given_up}
