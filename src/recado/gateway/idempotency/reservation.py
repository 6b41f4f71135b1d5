"""One request's keys: taken before it is sent, then stored with what became of it, or released."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from recado.errors import RecadoError, SpoolFailed
from recado.gateway.idempotency.kept import Kept, kept_of
from recado.gateway.idempotency.keys import Key
from recado.gateway.idempotency.store import Answers, Conflict, InFlight
from recado.gateway.problem import Problem
from recado.kafka.delivery import Delivery

__all__ = ["Outcome", "Reservation"]


class Outcome(NamedTuple):
    """What is to be written of a key: what became of its records, or None where it may be used again."""

    key: Key
    kept: Sequence[Kept] | None

    def write(self, answers: Answers, now_ms: int) -> None:
        """Inside a transaction."""
        if self.kept is None:
            answers.release(self.key)
        else:
            answers.store(self.key, self.kept, now_ms)


class Reservation:
    """``write`` takes outcomes to the disk, and calls back once they are there or nobody can say when they will be."""

    def __init__(self, keys: Sequence[Key], write: Callable[[Sequence[Outcome], Callable[[], None]], None]) -> None:
        self.keys = keys
        self._write = write
        #: What became of records that were sent before, by index.
        self.known: dict[int, Kept] = {}
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

    def store(self, whole: Delivery, on_end: Callable[[], None]) -> None:
        """Remember what became of the request's records; release the keys of those that were not accepted."""
        new = [key for key in self.keys if key.indices[0] not in self.known]
        self._write([_outcome(key, whole) for key in new], on_end)

    def release(self) -> None:
        """Nothing was accepted: the keys may be used again."""
        self._write([Outcome(key, None) for key in self.keys if key.indices[0] not in self.known], _nothing)

    def reserve(self, answers: Answers, now_ms: int) -> None:
        """Inside a transaction; once more where that has failed."""
        self._reset()
        if self._is_abandoned:
            return
        try:
            self.known = answers.reserve(self.keys, now_ms)
        except Conflict as conflict:
            self._error = _problem(conflict)
        else:
            self.is_reserved = True

    def recall(self, look: Callable[[Key], Sequence[Kept] | None], why: str) -> None:
        """The file cannot be written: answer from what ``look`` knows, if that is all, else fail."""
        self._reset()
        known: dict[int, Kept] = {}
        try:
            for key in self.keys:
                kept = look(key)
                if kept is None:
                    self._error = SpoolFailed(f"Idempotency keys cannot be kept ({why}), so nothing was sent.")
                    return
                known.update(zip(key.indices, kept, strict=True))
        except Conflict as conflict:
            self._error = _problem(conflict)
            return
        self.known = known
        self.is_reserved = True

    def _reset(self) -> None:
        self.known, self._error, self.is_reserved = {}, None, False


def _outcome(key: Key, whole: Delivery) -> Outcome:
    pairs = [(whole.records[index], whole.fates[index]) for index in key.indices]
    if any(isinstance(fate, RecadoError) for _, fate in pairs):
        return Outcome(key, None)
    return Outcome(key, [kept_of(record, fate) for record, fate in pairs])


def _problem(conflict: Conflict) -> Problem:
    field = conflict.key.field
    if isinstance(conflict, InFlight):
        detail = f"{field}: a request with this key is under way. Its answer will be yours, too: send it again soon."
        return Problem(409, "in-flight", "Already under way", detail, field=field)
    detail = f"{field}: this key was used with another body in the last 24 hours, so nothing was sent."
    return Problem(422, "key-reused", "Key used before", detail, field=field)


def _nothing() -> None: ...
