"""The ledger of one partition and group: every record has an end, or a place where it waits (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice

import msgspec
from pyroaring import BitMap64

from recado.kafka.scan import Range
from recado.tracking.look import Reached

__all__ = ["Books", "Entry", "Problem", "balance", "problem"]

#: Offsets that a problem names one by one.
NAMED = 20


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Records that do not balance.

    ``kind`` is ``expired`` (deleted before they were handled or settled), ``beyond the end`` (committed, but no
    such record is there: the log was cut), or ``copy of nothing`` (likewise, what waits for a retry or is dead).
    """

    kind: str
    topic: str
    partition: int
    count: int
    #: The first of them.
    offsets: list[int]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One partition in the books of one group: ``accepted`` is the sum of what follows it."""

    group: str
    topic: str
    partition: int
    accepted: int
    done: int
    retrying: int
    dead: int
    discarded: int
    not_handled: int
    #: Of those that are not handled: a copy of them waits or is dead already, so they may be handled again (a crash).
    again: int
    problems: list[Problem]


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of one group, and what does not balance in its own topics."""

    group: str
    entries: list[Entry]
    problems: list[Problem]
    #: What waits or is dead of records that stood in earlier topics of these names: it is in no entry.
    earlier: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every record is accounted for."""
        return not self.problems and not any(entry.problems for entry in self.entries)


def balance(
    *,
    group: str,
    topic: str,
    partition: int,
    kept: Range,
    reached: Reached,
    retrying: Iterable[int],
    dead: Iterable[int],
    discarded: Iterable[int] = (),
    records: Collection[int] | None = None,
    log_end: int | None = None,
) -> Entry:
    """Make up one partition's entry.

    ``kept`` are the offsets that the partition has; ``retrying``, ``dead`` and ``discarded`` are of records whose copy
    says so, by the offset where each stood first, and the earlier of these wins where a record is in several: a dead
    letter that was redriven waits again. ``records`` are the offsets that hold a record, where that was read; else
    every offset counts as one. ``log_end`` is where the log ends, also behind an open transaction: who reads
    uncommitted records, too, may have come so far.
    """
    begin, end = kept
    there = BitMap64(range(begin, end)) if records is None else BitMap64(records)
    committed = begin if reached.committed is None else reached.committed
    covered = BitMap64(range(committed))
    for first, last in reached.done.ranges if reached.done is not None else ():
        covered |= BitMap64(range(first, last + 1))
    copied = [BitMap64(retrying), BitMap64(dead), BitMap64(discarded)]
    waits, died, gone = copied[0], copied[1] - copied[0], copied[2] - copied[1] - copied[0]
    left = waits | died | gone
    open_ = there - covered
    older = (left & BitMap64(range(end))) - there  # no longer in the partition, but their copy is
    known = (there & covered) | older
    return Entry(
        group=group,
        topic=topic,
        partition=partition,
        accepted=len(there | older),
        done=len(known - left),
        retrying=len(waits & known),
        dead=len(died & known),
        discarded=len(gone & known),
        not_handled=len(open_),
        again=len(open_ & left),
        problems=_problems(topic, partition, Range(begin, max(end, log_end or 0)), reached.committed, covered, left),
    )


def _problems(
    topic: str, partition: int, kept: Range, committed: int | None, covered: BitMap64, left: BitMap64
) -> list[Problem]:
    begin, end = kept
    there = BitMap64(range(max(end, 0)))
    found = {"beyond the end": covered - there, "copy of nothing": left - there}
    if committed is not None:
        found = {"expired": BitMap64(range(committed, begin)) - covered, **found}
    return [problem(kind, topic, partition, offsets) for kind, offsets in found.items() if offsets]


def problem(kind: str, topic: str, partition: int, offsets: BitMap64 | range) -> Problem:
    """What does not balance at these offsets, ascending."""
    first = list(islice(offsets, NAMED))
    return Problem(kind=kind, topic=topic, partition=partition, count=len(offsets), offsets=first)
