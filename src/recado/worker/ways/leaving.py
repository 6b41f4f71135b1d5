"""Leaving: a record goes out of its partition, for its next attempt or for good, and what follows it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable

from recado.clock import wall_clock_ms
from recado.errors import Undecodable
from recado.outcomes.dead_letter import cause_of
from recado.outcomes.history import History, failed
from recado.outcomes.outcome import RetryAfter
from recado.worker.handling.delays import Delays
from recado.worker.handling.holdings import Holdings
from recado.worker.handling.run import Run
from recado.worker.handling.runner import Runner
from recado.worker.partition.returned import Returned
from recado.worker.ways.exits import Exits
from recado.worker.ways.parking import Parking

__all__ = ["Leaving", "go_on"]

#: A shorter delay is waited for in memory, where only the key waits: the smallest delay topic holds a record as long.
IN_MEMORY_S = 2.0


class Leaving:
    """Sends records out of their partitions. Loop thread only."""

    def __init__(
        self,
        *,
        holdings: Holdings,
        delays: Delays,
        exits: Exits,
        parking: Parking | None,
        lends: bool,
        clock: Callable[[], float],
    ) -> None:
        self._holdings = holdings
        self._delays = delays
        self._exits = exits
        self._parking = parking
        #: A share group's broker keeps what failed, and brings it again.
        self._lends = lends
        self._clock = clock

    def settle(self) -> None:
        """Note what has come to its end of what had left."""
        if self._parking is not None:
            self._parking.forget_done()

    def leaves(self, runner: Runner, outcome: RetryAfter) -> bool:
        """Whether a record waits for its next attempt outside its partition: a batch waits as a whole, in memory."""
        if outcome.delay_s < IN_MEMORY_S or self._lends or runner.handler.batch is not None:
            return False
        return runner.handler.parks or not outcome.keep_order

    def leave(self, run: Run, outcome: RetryAfter) -> None:
        """The record at ``run.at`` leaves its partition for its next attempt; without a key it has no order to keep."""
        keeps = outcome.keep_order and run.messages[run.at].key() is not None
        (self._park if keeps else self._send_back)(run, outcome.delay_s)

    def bury(self, run: Run, error: BaseException, reason: str) -> None:
        """The record becomes a dead letter, a batch as many; what follows goes on."""
        epoch, runner = run.epoch, self._holdings.runner(run.epoch.topic)
        many = runner.handler.batch is not None and not isinstance(error, Undecodable)
        leaving = run.messages[run.at :] if many else [run.messages[run.at]]
        cause = cause_of(error, reason)
        for message in leaving:
            history = failed(epoch.history_of(message), *run.failures)
            self._exits.bury(epoch, message, history, cause)
            epoch.held_bytes -= len(message)
        run.at = run.settled = run.at + len(leaving)
        go_on(run, runner)

    def _send_back(self, run: Run, delay_s: float) -> None:
        """The record leaves its partition until its next attempt; what follows goes on."""
        self._exits.send_back(run.epoch, run.messages[run.at], self._history(run, delay_s))
        self._left(run)

    def _park(self, run: Run, delay_s: float) -> None:
        """The record waits in the retry topic, and its key's later ones behind it; what is there already waits here."""
        epoch, message = run.epoch, run.messages[run.at]
        lanes, parking, history = self._holdings.runner(epoch.topic).lanes, self._parking, self._history(run, delay_s)
        assert parking is not None
        if isinstance(message, Returned) and message.history.parked:
            parking.keep_history(epoch, message, history)
            if epoch.closed:
                lanes.finish(run)
                return
            run.attempt += 1
            lanes.set_aside(run)
            self._delays.push(run, self._clock() + delay_s)
            return
        if not epoch.closed:
            lanes.set_aside(run)
        parking.park(epoch, message, history)
        if not epoch.closed:
            for stay, messages in lanes.unfollow(run):
                if not stay.closed and (through := parking.let_pass(stay, messages)):
                    lanes.offer(stay, through)
        self._left(run)

    def _history(self, run: Run, delay_s: float) -> History:
        """What became of the record at ``run.at`` up to now."""
        due_ms = wall_clock_ms() + math.ceil(delay_s * 1000)
        return failed(run.epoch.history_of(run.messages[run.at]), *run.failures, due_ms=due_ms)

    def _left(self, run: Run) -> None:
        """The record at ``run.at`` left its partition; what follows goes on."""
        run.epoch.held_bytes -= len(run.messages[run.at])
        run.at = run.settled = run.at + 1
        go_on(run, self._holdings.runner(run.epoch.topic))


def go_on(run: Run, runner: Runner) -> None:
    """Let what follows in a run that was given back be handled; its keys are free when nothing does."""
    run.attempt = 1
    if run.at == len(run.messages) or run.epoch.closed:
        runner.lanes.finish(run)
    elif runner.handler.batch is not None:
        runner.put(run)
    else:
        runner.lanes.turn(run)
