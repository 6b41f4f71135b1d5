"""Lanes: which records may be handled side by side, and which must wait for one another."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from recado.kafka.abstract import Message
from recado.record import TopicPartition
from recado.worker.epoch import Epoch
from recado.worker.run import Run

__all__ = ["Dispatcher", "Lanes"]

#: The name of the lane that a whole partition shares; records without a key have no lane of their own.
WHOLE = None


class Dispatcher(Protocol):
    """Makes runs of consumed records and starts each when it may."""

    def offer(self, epoch: Epoch, messages: list[Message]) -> None:
        """Take over records of one partition, in offset order (loop thread)."""

    def finish(self, run: Run) -> None:
        """A run ended, or its partition is closed: let go on what waits for it (any thread)."""

    def set_aside(self, run: Run) -> None:
        """The record at ``run.at`` waits for another attempt: let go on what need not wait for it (loop thread)."""

    def start_due(self, now: float, *, whatever_is_there: bool = False) -> float:
        """Start what only waited for its time; return how many seconds until more is due (loop thread)."""


class Lanes:
    """Orders by key, by partition, or not at all (``order``). ``start`` puts a run where threads take it.

    A lane has one run at a time; what comes for it meanwhile follows in its next run, at the end of the queue, so
    a busy key can't starve others. Where there is one thread only (``coarse``) a whole partition is one lane, which
    costs nothing per key; it is split by key when a record of it must wait for another attempt.

    The lanes outlive a partition's stay: what an earlier stay still executes holds its lane, so that a partition
    that comes back does not start a key twice.
    """

    def __init__(self, *, order: str, coarse: bool, start: Callable[[Run], None]) -> None:
        self._order = order
        self._coarse = coarse or order == "partition"
        self._start = start
        self._lock = threading.Lock()
        self._lanes: dict[TopicPartition, dict[bytes | None, Run]] = defaultdict(dict)

    def offer(self, epoch: Epoch, messages: list[Message]) -> None:
        """Take over records of one partition, in offset order."""
        lanes = self._lanes[epoch.where]
        with self._lock:
            if WHOLE in lanes or (self._coarse and not lanes):
                self._add(lanes, WHOLE, epoch, messages)
                return
        if self._order == "none":
            for message in messages:
                self._start(Run(epoch, [message]))
        else:
            self._offer_by_key(lanes, epoch, messages)

    def finish(self, run: Run) -> None:
        """A run ended: its lane goes on with what came meanwhile, or is free."""
        lanes = run.lane
        if lanes is None:
            return
        with self._lock:
            if run.following and not run.following_epoch.closed:
                lanes[run.key] = following = Run(run.following_epoch, run.following, lanes, run.key)
            else:
                del lanes[run.key]
                return
        self._start(following)

    def set_aside(self, run: Run) -> None:
        """Split a whole partition's lane: only the key at ``run.at`` waits (only that record, if it has no key)."""
        lanes = run.lane
        if lanes is None or run.key is not WHOLE or self._order == "partition":
            return
        waiting, rest = run.messages[run.at], run.messages[run.at + 1 :]
        with self._lock:
            del lanes[WHOLE]
            following, run.following = run.following, []
            run.messages, run.at, run.settled = [waiting], 0, 0
            run.key = waiting.key() if self._order == "key" else None
            run.lane = lanes if run.key is not None else None
            if run.key is not None:
                lanes[run.key] = run
        if rest:
            self.offer(run.epoch, rest)
        if following:
            self.offer(run.following_epoch, following)

    def start_due(self, now: float, *, whatever_is_there: bool = False) -> float:
        """Nothing here waits for time."""
        return math.inf

    def _offer_by_key(self, lanes: dict[bytes | None, Run], epoch: Epoch, messages: list[Message]) -> None:
        by_key: defaultdict[bytes, list[Message]] = defaultdict(list)
        for message in messages:
            key = message.key()
            if key is None:
                self._start(Run(epoch, [message]))
            else:
                by_key[key].append(message)
        for key, found in by_key.items():
            with self._lock:
                self._add(lanes, key, epoch, found)

    def _add(self, lanes: dict[bytes | None, Run], key: bytes | None, epoch: Epoch, messages: list[Message]) -> None:
        run = lanes.get(key)
        if run is None:
            lanes[key] = run = Run(epoch, messages, lanes, key)
            self._start(run)
        elif run.following_epoch is epoch:
            run.following.extend(messages)
        else:
            run.following, run.following_epoch = messages, epoch
