"""The guard: lets a record through to its handler only when no other with its id is done or being handled."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import structlog

from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.kafka.quiet import Seldom
from recado.record import id_in
from recado.telemetry.metrics import WORKER_RECORDS
from recado.worker.handling.done_ids import LEASE_S, Claim, DoneIds, Verdict
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import origin_of

__all__ = ["Guard"]

log = structlog.get_logger(__name__)

#: Rest between two looks whether a copy that is being handled has ended, in seconds.
LOOK_EVERY_S = 0.2


@dataclass(slots=True)
class _Waiting:
    epoch: Epoch
    message: Message


class Guard:
    """Guards the records of one handler. Loop thread only, except ``done``, which handler threads call.

    ``store`` is opened when the first record comes. While it fails, no record passes: they wait, and ``trouble`` says
    why.
    """

    def __init__(
        self, *, store: Callable[[], DoneIds], window_s: float, order: str, clock: Callable[[], float]
    ) -> None:
        self._open = store
        self._store: DoneIds | None = None
        self._window_s = window_s
        self._order = order
        self._clock = clock
        self._waiting: list[_Waiting] = []
        #: What they hold up: by their order nothing later of these may overtake them.
        self._held_up: set[tuple[Epoch, bytes | None]] = set()
        self._look_at = self._renew_at = 0.0
        self._seldom = Seldom()
        #: Why no record passes now, or "".
        self.trouble = ""

    def admit(self, epoch: Epoch, messages: Sequence[Message]) -> list[Message]:
        """Return those that may be handled now; the done ones are counted as done, the others wait for ``due``.

        What comes behind one that waits, by the handler's order, waits with it: it may turn out not to be done.
        """
        claims = [_claim_of(message) for message in messages]
        try:
            verdicts = self._opened().claim(claims, self._window_s)
            self.trouble = ""
        except (sqlite3.Error, OSError) as error:
            self._say(error)
            verdicts = [Verdict.BUSY] * len(claims)
        admitted: list[Message] = []
        done: list[int] = []
        for message, claim, verdict in zip(messages, claims, verdicts, strict=True):
            if verdict is Verdict.DONE:
                done.append(message.offset())
                epoch.held_bytes -= len(message)
                continue
            if verdict is Verdict.MINE:
                epoch.claims[message.offset()] = claim
            if verdict is Verdict.BUSY or self._is_held_up(epoch, message):
                self._wait(epoch, message)
            else:
                admitted.append(message)
        if done:
            epoch.tracker.done(done)
            WORKER_RECORDS.labels(epoch.topic, "duplicate").inc(len(done))
            log.info("done already, skipped", topic=epoch.topic, partition=epoch.partition, records=len(done))
        return admitted

    def due(self) -> list[tuple[Epoch, list[Message]]]:
        """Take out those that wait when it is time to ask again: ``admit`` them. Also keeps this process's claims."""
        now = self._clock()
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_EVERY_S
        self._keep(now)
        waiting, self._waiting = self._waiting, []
        self._held_up.clear()
        by_epoch: defaultdict[Epoch, list[Message]] = defaultdict(list)
        for one in waiting:
            if not one.epoch.closed:  # else its next owner asks
                by_epoch[one.epoch].append(one.message)
        return list(by_epoch.items())

    def done(self, epoch: Epoch, offsets: Iterable[int]) -> None:
        """The records at these offsets are done (any thread). Before their offsets are, so a crash repeats none."""
        claims = [claim for offset in offsets if (claim := epoch.claims.pop(offset, None)) is not None]
        if claims and self._store is not None:
            try:
                self._store.done(claims)
            except sqlite3.Error as error:  # the offset still says that it is done; only another copy might pass
                self._say(error)

    def release(self, epoch: Epoch, offsets: Iterable[int]) -> None:
        """The records at these offsets are not done, and no longer this process's."""
        claims = [claim for offset in offsets if (claim := epoch.claims.pop(offset, None)) is not None]
        if claims and self._store is not None:
            try:
                self._store.release(claims)
            except sqlite3.Error as error:
                self._say(error)

    def forget(self, epoch: Epoch, *, but: Collection[int]) -> None:
        """The partition is no longer ours: let its records go to the next owner, but those still being handled."""
        kept = set(but)
        self.release(epoch, [offset for offset in list(epoch.claims) if offset not in kept])

    def close(self) -> None:
        """Let go of everything."""
        if self._store is not None:
            self._store.close()

    def _wait(self, epoch: Epoch, message: Message) -> None:
        self._waiting.append(_Waiting(epoch, message))
        if self._order == "partition":
            self._held_up.add((epoch, None))
        elif self._order == "key" and (key := message.key()) is not None:
            self._held_up.add((epoch, key))

    def _is_held_up(self, epoch: Epoch, message: Message) -> bool:
        return bool(self._held_up) and not self._held_up.isdisjoint(((epoch, None), (epoch, message.key())))

    def _opened(self) -> DoneIds:
        if self._store is None:
            self._store = self._open()
        return self._store

    def _keep(self, now: float) -> None:
        if self._store is None or now < self._renew_at:
            return
        self._renew_at = now + LEASE_S / 3
        try:
            self._store.renew()
            self._store.purge(self._window_s)
        except sqlite3.Error as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        self.trouble = f"done ids cannot be read or written, records wait: {error}"
        if self._seldom.now(str(error)):
            log.error("done ids cannot be read or written, records wait", error=str(error), at=time.time())


def _claim_of(message: Message) -> Claim:
    """A record without an id of its own is known by its place and time: a topic made anew has other records there."""
    topic, partition, offset, timestamp_ms = origin_of(message)
    place = f"{partition}/{offset}"
    return Claim(topic, id_in(headers_of(message)) or f"{place}@{timestamp_ms}", place)
