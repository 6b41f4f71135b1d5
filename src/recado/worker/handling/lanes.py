"""Lanes: which records may be handled side by side, and which must wait for one another."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from recado.kafka.abstract import Message
from recado.record import TopicPartition
from recado.worker.handling.run import Run
from recado.worker.partition.epoch import Epoch

__all__ = ["Dispatcher", "Lanes"]

#: Stands for all keys where a whole partition is one run; records without a key are in nobody's way.
WHOLE = None

#: Records that one run gathers of several keys: enough to make handing over cheap, few enough to share out evenly.
LARGEST_RUN = 64

#: Runs per thread that a read should give at least, so that no thread is idle while another has a long one.
SHARES = 2

#: How much work is grouped by key at once, in seconds, and at least so many records per thread. Grouping takes them
#: out of offset order, and what is done ahead of one that waits is done again after a kill; but it costs least at once.
SLICE_S = 0.02
LEAST_SLICE = 64

#: Keys placed under one hold of the lock: threads that end a run wait for it.
GROUPS_AT_ONCE = 256


class Dispatcher(Protocol):
    """Makes runs of consumed records and starts each when it may."""

    def offer(self, epoch: Epoch, messages: list[Message]) -> None:
        """Take over records of one partition, in offset order (loop thread)."""

    def finish(self, run: Run) -> None:
        """A run ended, or its partition is closed: let go on what waits for it (any thread)."""

    def turn(self, run: Run) -> None:
        """A run was asked to stop in between (``run.halt``): queue the rest of it again (any thread)."""

    def split(self, run: Run) -> None:
        """The record at ``run.at`` takes long, and its run was asked to stop: let go on what need not wait for it.

        Loop thread; the handling thread may end the run at this moment.
        """

    def set_aside(self, run: Run) -> None:
        """The record at ``run.at`` waits for another attempt: let go on what need not wait for it (loop thread)."""

    def pace(self, record_s: float) -> None:
        """The handler takes about so long for a record (loop thread)."""

    def start_due(self, now: float, *, whatever_is_there: bool = False) -> float:
        """Start what only waited for its time; return how many seconds until more is due (loop thread)."""

    def unfollow(self, run: Run) -> list[tuple[Epoch, list[Message]]]:
        """Give back what waits for the end of a run, by the stay it belongs to, in order (loop thread)."""


class Lanes:
    """Orders by key, by partition, or not at all (``order``). ``start`` puts a run where threads take it.

    A key belongs to one run at a time; what comes for it meanwhile follows when that run ends, at the end of the
    queue, so a busy key can't starve others. A run may hold several keys: when much is there to do, handing over
    a record alone costs more than many handlers do. One that turns out slow is split again (``turn``).

    Where there is one thread only, a whole partition is one run, which costs nothing per key; it is split when a
    record of it must wait for another attempt.

    The lanes outlive a partition's stay: what an earlier stay still executes holds its keys, so that a partition
    that comes back does not start a key twice.
    """

    def __init__(self, *, order: str, concurrency: int, start: Callable[[Run], None]) -> None:
        self._order = order
        self._concurrency = concurrency
        self._slice = concurrency * LEAST_SLICE
        self._start = start
        self._lock = threading.Lock()
        self._lanes: defaultdict[TopicPartition, dict[bytes | None, Run]] = defaultdict(dict)

    def offer(self, epoch: Epoch, messages: list[Message]) -> None:
        """Take over records of one partition, in offset order."""
        lanes = self._lanes[epoch.home]
        with self._lock:
            if self._offer_whole(lanes, epoch, messages):
                return
        for first in range(0, len(messages), self._slice):
            part = messages[first : first + self._slice]
            groups, size = self._grouped(part), self._run_size(len(part))
            for start in range(0, len(groups), GROUPS_AT_ONCE):
                with self._lock:
                    self._place(lanes, epoch, groups[start : start + GROUPS_AT_ONCE], size)

    def finish(self, run: Run) -> None:
        """A run ended: its keys go on with what came meanwhile, or are free."""
        lanes = self._lanes[run.epoch.home]
        with self._lock:
            run.left = True
            self._free(lanes, run)

    def turn(self, run: Run) -> None:
        """A run was asked to stop in between: queue the rest, each key for itself.

        The rest is another run, because the loop settles this one at the same time; and it is that run's alone.
        """
        lanes = self._lanes[run.epoch.home]
        with self._lock:
            run.left, rest = True, run.messages[run.at :]
            if not rest:  # it was split meanwhile
                self._free(lanes, run)
                return
            for key in run.keys:
                del lanes[key]
            if WHOLE in run.keys or run.attempt > 1:  # one thread, or one key: there is nothing to split
                again = Run(run.epoch, rest, run.keys, in_offset_order=run.in_offset_order)
                again.attempt, again.failures = run.attempt, run.failures
                lanes.update(dict.fromkeys(run.keys, again))
                self._start(again)
            else:
                self._place(lanes, run.epoch, self._grouped(rest), 1)
            run.messages = run.messages[: run.at]
            self._offer_following(lanes, run.unfollowed())

    def split(self, run: Run) -> None:
        """Only the key at ``run.at`` waits (only that record, if it has no key, or the order is none)."""
        if self._order == "partition" or WHOLE in run.keys:
            return
        lanes = self._lanes[run.epoch.home]
        with self._lock:
            # Its thread begins no other record, since it was asked to stop: what follows in it is nobody's yet.
            at = run.at
            rest = run.messages[at + 1 :]
            if run.left or at >= len(run.messages) or not (rest or run.following):
                return
            self._let_go_on(lanes, run, at, rest)
            run.messages = run.messages[: at + 1]

    def set_aside(self, run: Run) -> None:
        """Only the key at ``run.at`` waits (only that record, if it has no key, or the order is none)."""
        if self._order == "partition":
            return
        lanes = self._lanes[run.epoch.home]
        with self._lock:
            waiting, rest = run.messages[run.at], run.messages[run.at + 1 :]
            self._let_go_on(lanes, run, run.at, rest)
            run.messages, run.at, run.settled, run.left = [waiting], 0, 0, False

    def start_due(self, now: float, *, whatever_is_there: bool = False) -> float:
        """Nothing here waits for time."""
        return math.inf

    def unfollow(self, run: Run) -> list[tuple[Epoch, list[Message]]]:
        """Give back what waits for the end of a run."""
        with self._lock:
            return run.unfollowed()

    def pace(self, record_s: float) -> None:
        """Group as many records at once as the threads handle in ``SLICE_S``."""
        self._slice = max(LEAST_SLICE, int(SLICE_S / max(record_s, 1e-6))) * self._concurrency

    def _free(self, lanes: dict[bytes | None, Run], run: Run) -> None:
        for key in run.keys:
            del lanes[key]
        self._offer_following(lanes, run.unfollowed())

    def _let_go_on(self, lanes: dict[bytes | None, Run], run: Run, at: int, rest: list[Message]) -> None:
        """Keep only the key of the record ``at``; its later records follow this run again."""
        key = run.messages[at].key() if self._order == "key" else None
        for other in run.keys:
            del lanes[other]
        following = run.unfollowed()
        run.keys = [] if key is None else [key]
        if key is not None:
            lanes[key] = run
        self._offer_again(lanes, run.epoch, rest)
        self._offer_following(lanes, following)

    def _offer_following(self, lanes: dict[bytes | None, Run], following: list[tuple[Epoch, list[Message]]]) -> None:
        for epoch, messages in following:
            if not epoch.closed:
                self._offer_again(lanes, epoch, messages)

    def _offer_again(self, lanes: dict[bytes | None, Run], epoch: Epoch, messages: list[Message]) -> None:
        if messages and not self._offer_whole(lanes, epoch, messages):
            self._place(lanes, epoch, self._grouped(messages), self._run_size(len(messages)))

    def _offer_whole(self, lanes: dict[bytes | None, Run], epoch: Epoch, messages: list[Message]) -> bool:
        """Make the partition one run, or add to it, where that is how it goes now."""
        if WHOLE in lanes:
            lanes[WHOLE].follow(epoch, messages)
        elif self._order == "partition" or (self._concurrency == 1 and not lanes):
            lanes[WHOLE] = run = Run(epoch, messages, [WHOLE], in_offset_order=True)
            self._start(run)
        else:
            return False
        return True

    def _grouped(self, messages: list[Message]) -> list[tuple[bytes | None, list[Message]]]:
        """By key, each key's records in their order; records that nothing orders stand alone."""
        if self._order == "none":
            return [(None, [message]) for message in messages]
        alone: list[tuple[bytes | None, list[Message]]] = []
        by_key: defaultdict[bytes, list[Message]] = defaultdict(list)
        for message in messages:
            key = message.key()
            if key is None:
                alone.append((None, [message]))
            else:
                by_key[key].append(message)
        return [*by_key.items(), *alone]

    def _place(
        self,
        lanes: dict[bytes | None, Run],
        epoch: Epoch,
        groups: list[tuple[bytes | None, list[Message]]],
        size: int,
    ) -> None:
        """Make runs of about ``size`` records; a key that has a run already follows it. Called with the lock held."""
        run = Run(epoch, [], [])
        for key, messages in groups:
            if key is not None:
                busy = lanes.get(key)
                if busy is not None:
                    busy.follow(epoch, messages)
                    continue
                lanes[key] = run
                run.keys.append(key)
            run.messages += messages
            if len(run.messages) >= size:
                self._start(run)
                run = Run(epoch, [], [])
        if run.messages:
            self._start(run)

    def _run_size(self, records: int) -> int:
        return max(1, min(LARGEST_RUN, records // (self._concurrency * SHARES)))
