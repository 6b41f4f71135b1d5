"""The ends of an attempt."""

from __future__ import annotations

from dataclasses import dataclass

from recado.record import Record

__all__ = ["Dead", "Done", "Outcome", "RetryAfter", "Stopped"]


@dataclass(frozen=True, slots=True)
class Done:
    """The handler returned: the record is done, and its offset may move once Kafka has what the handler ``sent``."""

    sent: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The attempt failed; the next one comes after ``delay_s``, and before its key's later records (``keep_order``)."""

    delay_s: float
    keep_order: bool = False


@dataclass(frozen=True, slots=True)
class Dead:
    """There is no further attempt: the record goes to the dead letters of its group."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The handler itself is wrong: the partition waits at this record, which stays in Kafka uncommitted."""

    reason: str


Outcome = Done | RetryAfter | Dead | Stopped
