"""Answers requests with a key once: one thread asks and writes the file of answers, many requests in one commit."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import structlog

from recado.clock import wall_clock_ms
from recado.gateway.idempotency.folder import Folder
from recado.gateway.idempotency.kept import Kept
from recado.gateway.idempotency.keys import Key
from recado.gateway.idempotency.reservation import Outcome, Reservation
from recado.gateway.idempotency.store import Answers, Conflict, Gone
from recado.gateway.spool.rescue import is_damage

__all__ = ["Once"]

log = structlog.get_logger(__name__)

#: Rest between two looks for answers that are too old, in seconds.
SWEEP_S = 600.0

#: Rest after the file could not be written, in seconds: requests with a key fail at once meanwhile.
REST_S = 1.0

#: Keys that are remembered in memory until the file can be written again: some 50 MB. While it cannot, no request with
#: a new key is sent, so only what was under way comes together.
MAX_UNWRITTEN = 100_000


class _Step(NamedTuple):
    """``on_end`` is called on the writing thread once the step is on the disk, or has failed."""

    outcomes: Sequence[Outcome]
    on_end: Callable[[], None]
    reservation: Reservation | None = None


class Once:
    """The keys of one data folder, for one process. Thread-safe; only ``close`` blocks."""

    def __init__(self, directory: Path) -> None:
        self._folder = Folder(directory)
        self._answers: Answers | None = None
        #: The one that was closed last, after a failure.
        self._left: Answers | None = None
        self._is_suspect = False
        self._queue: SimpleQueue[_Step | None] = SimpleQueue()
        self._unwritten: dict[str, Outcome] = {}
        self._rests_until = float("-inf")
        self._swept_at = float("-inf")
        #: Why the file cannot be written, or "".
        self.trouble = ""
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def reserve(self, keys: Sequence[Key], on_end: Callable[[], None]) -> Reservation:
        """Take a request's keys; ``check`` the reservation after ``on_end``."""
        reservation = Reservation(keys, self._write)
        self._put(_Step((), on_end, reservation))
        return reservation

    def why_not(self) -> str:
        """Why no key can be kept at this moment, or ""."""
        return f"Idempotency keys cannot be kept: {self.trouble}." if self.trouble else ""

    def close(self) -> None:
        """Write what waits, then stop."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def leave(self) -> None:
        """Let go of the lock in a fork's copy: the parent goes on with the file."""
        self._folder.release(inherited=True)

    def _write(self, outcomes: Sequence[Outcome], on_end: Callable[[], None]) -> None:
        self._put(_Step(outcomes, on_end))

    def _put(self, step: _Step) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="recado-keys", daemon=True)
                    self._thread.start()
        self._queue.put(step)

    # --- the writing thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        is_last = False
        while not is_last:
            found = self._next()
            is_last = None in found
            steps = [step for step in found if step is not None]
            self._take(steps, is_last=is_last)
            for step in steps:
                step.on_end()
        self._end()

    def _next(self) -> list[_Step | None]:
        """All steps that wait, at least one; none where it is time to try what has failed once more."""
        steps: list[_Step | None] = []
        try:
            steps.append(self._queue.get(timeout=REST_S if self.trouble else None))
            while True:
                steps.append(self._queue.get_nowait())
        except Empty:
            return steps

    def _take(self, steps: Sequence[_Step], *, is_last: bool) -> None:
        self._remember([outcome for step in steps for outcome in step.outcomes])
        reservations = [step.reservation for step in steps if step.reservation is not None]
        if not (reservations or self._unwritten or self.trouble):
            return
        is_resting = time.monotonic() < self._rests_until and not is_last
        if not is_resting and self._try(reservations):
            self._unwritten.clear()
            return
        self._bound()
        for reservation in reservations:
            reservation.recall(self._look, self.trouble)

    def _look(self, key: Key) -> Sequence[Kept] | None:
        """What is known of a key without writing. Raises Conflict."""
        outcome = self._unwritten.get(key.name)
        if outcome is not None:
            if outcome.kept is not None and outcome.key.digest != key.digest:
                raise Conflict(key)
            return outcome.kept
        try:
            return self._answers.find(key, wall_clock_ms()) if self._answers is not None else None
        except sqlite3.Error:
            return None

    def _remember(self, outcomes: Sequence[Outcome]) -> None:
        """Until they are on the disk, repeats are answered from here."""
        self._unwritten.update((outcome.key.name, outcome) for outcome in outcomes)

    def _bound(self) -> None:
        oldest = list(self._unwritten)[: max(0, len(self._unwritten) - MAX_UNWRITTEN)]
        for name in oldest:
            del self._unwritten[name]
        if oldest:
            log.error("idempotency keys forgotten", keys=len(oldest), then="a repeat of their requests is sent again")

    def _try(self, reservations: Sequence[Reservation]) -> bool:
        """Write all in one transaction, once more where the file had to be opened anew; tell whether it worked."""
        for _ in range(2):
            try:
                self._transact(reservations)
            except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
                failure: Exception = error
                self._give_up(error)
                if not (isinstance(error, Gone) or is_damage(error)):
                    break
            else:
                self._works()
                return True
        self._rest(failure)
        return False

    def _transact(self, reservations: Sequence[Reservation]) -> None:
        if self._answers is None:
            self._answers = self._folder.open(self._left, is_suspect=self._is_suspect)
            self._left, self._is_suspect = None, False
        answers, now_ms = self._answers, wall_clock_ms()
        must_sweep = time.monotonic() - self._swept_at > SWEEP_S
        with answers.transaction():
            if must_sweep:
                answers.forget_old(now_ms)
            for outcome in self._unwritten.values():
                outcome.write(answers, now_ms)
            for reservation in reservations:
                reservation.reserve(answers, now_ms)
        if must_sweep:
            self._swept_at = time.monotonic()

    def _give_up(self, error: Exception) -> None:
        """Close the file, so that the next try opens it anew; on a full disk it still answers."""
        if _is_full(error):
            return
        answers, self._answers = self._answers, None
        self._is_suspect = self._is_suspect or is_damage(error)
        if answers is None:
            return
        self._left = answers
        answers.close()
        if isinstance(error, Gone):
            then = "answers given until now may be forgotten; the file is opened anew"
            log.error("idempotency keys gone", path=str(answers.path), error=str(error), then=then)

    def _rest(self, error: Exception) -> None:
        if self.trouble != str(error):
            self.trouble = str(error)
            log.error("idempotency keys cannot be kept", path=str(self._folder.path), error=self.trouble)
        self._rests_until = time.monotonic() + REST_S

    def _works(self) -> None:
        if self.trouble:
            self.trouble = ""
            log.info("idempotency keys are kept again", path=str(self._folder.path))

    def _end(self) -> None:
        if self._unwritten:
            then = "a repeat of their requests is sent again"
            log.error("idempotency keys not written", keys=len(self._unwritten), error=self.trouble, then=then)
        if self._answers is not None:
            self._answers.close()
        self._folder.release()


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
