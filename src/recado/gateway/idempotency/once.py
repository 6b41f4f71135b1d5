"""Answers requests with a key once: one thread asks and writes the file of answers, many requests in one commit."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from recado.clock import wall_clock_ms
from recado.errors import RecadoError, SpoolFailed
from recado.gateway.idempotency.keys import Key
from recado.gateway.idempotency.store import Answers, Conflict, InFlight
from recado.gateway.problem import Problem
from recado.kafka.delivery import Fate

__all__ = ["Once", "Reservation"]

#: Rest between two looks for answers that are too old, in seconds.
SWEEP_S = 600.0


class Reservation:
    """One request's keys. ``on_end`` of every step is called on the writing thread once the step is on the disk."""

    def __init__(self, once: Once, keys: Sequence[Key]) -> None:
        self._once = once
        self.keys = keys
        #: What became of records that were sent before, by index.
        self.known: dict[int, Fate] = {}
        self.is_reserved = False
        self._error: RecadoError | None = None
        self._is_abandoned = False

    def check(self) -> None:
        """Raise what speaks against sending; a step that has not ended in time does, too."""
        if self._error is not None:
            raise self._error
        if not self.is_reserved:
            self._is_abandoned = True
            raise SpoolFailed("The disk does not answer, so the idempotency key was not kept and nothing was sent.")

    def store(self, fates: Sequence[Fate | None], on_end: Callable[[], None]) -> None:
        """Remember the fates, one for each of the request's records; release the keys of those that are in neither."""
        self._once.do(lambda answers, now_ms: self._store(answers, fates), on_end)

    def release(self) -> None:
        """Nothing was accepted: the keys may be used again."""
        self._once.do(lambda answers, now_ms: self._release(answers), _nothing)

    def reserve(self, answers: Answers, now_ms: int) -> None:
        """The first step."""
        if self._is_abandoned:
            return
        try:
            self.known = answers.reserve(self.keys, now_ms)
        except Conflict as conflict:
            self._error = _problem(conflict)
        else:
            self.is_reserved = True

    def failed(self, error: sqlite3.Error) -> None:
        """The file cannot be written."""
        self.is_reserved = False
        self._error = SpoolFailed(f"Idempotency keys cannot be kept ({error}), so nothing was sent.")

    def _store(self, answers: Answers, fates: Sequence[Fate | None]) -> None:
        for key in self.keys:
            of_key = [fates[index] for index in key.indices]
            if any(isinstance(fate, RecadoError) for fate in of_key):
                answers.release(key)
            else:
                answers.store(key, of_key)

    def _release(self, answers: Answers) -> None:
        for key in self.keys:
            answers.release(key)


class Once:
    """The keys of one data folder, for one process. Thread-safe; only ``close`` blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._answers: Answers | None = None
        self._queue: SimpleQueue[tuple[Callable[[Answers, int], None], Callable[[], None], Reservation | None] | None]
        self._queue = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def reserve(self, keys: Sequence[Key], on_end: Callable[[], None]) -> Reservation:
        """Take a request's keys; ``check`` the reservation after ``on_end``."""
        reservation = Reservation(self, keys)
        self._put((reservation.reserve, on_end, reservation))
        return reservation

    def do(self, step: Callable[[Answers, int], None], on_end: Callable[[], None]) -> None:
        """Take a step inside the next transaction."""
        self._put((step, on_end, None))

    def close(self) -> None:
        """Write what waits, then stop."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def leave(self) -> None:
        """Let go of the lock in a fork's copy: the parent goes on with the file."""
        if self._answers is not None:
            self._answers.leave()

    def _put(self, step: tuple[Callable[[Answers, int], None], Callable[[], None], Reservation | None]) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="recado-keys", daemon=True)
                    self._thread.start()
        self._queue.put(step)

    def _run(self) -> None:
        swept_at = float("-inf")
        while True:
            steps = [self._queue.get()]
            while True:
                try:
                    steps.append(self._queue.get_nowait())
                except Empty:
                    break
            now = time.monotonic()
            try:
                answers = self._answers = self._answers or Answers(self._directory)
                with answers.transaction():
                    if now - swept_at > SWEEP_S:
                        swept_at = now
                        answers.forget_old(wall_clock_ms())
                    for entry in steps:
                        if entry is not None:
                            entry[0](answers, wall_clock_ms())
            except (sqlite3.Error, OSError) as error:
                for entry in steps:
                    if entry is not None and entry[2] is not None:
                        entry[2].failed(error if isinstance(error, sqlite3.Error) else sqlite3.Error(str(error)))
            for entry in steps:
                if entry is not None:
                    entry[1]()
            if None in steps:
                if self._answers is not None:
                    self._answers.close()
                return


def _problem(conflict: Conflict) -> Problem:
    field = conflict.key.field
    if isinstance(conflict, InFlight):
        detail = f"{field}: a request with this key is under way. Its answer will be yours, too: send it again soon."
        return Problem(409, "in-flight", "Already under way", detail, field=field)
    detail = f"{field}: this key was used with another body in the last 24 hours, so nothing was sent."
    return Problem(422, "key-reused", "Key used before", detail, field=field)


def _nothing() -> None: ...
