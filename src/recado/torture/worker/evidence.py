"""What a worker's torture leaves, for its judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from recado.torture.worker.commits import Commit
from recado.torture.worker.journal import Call
from recado.torture.worker.ledger import Ledger
from recado.torture.worker.rebalances import Span

__all__ = ["AWAY_NS", "ZOMBIE_NS", "At", "Evidence", "at_of", "end_ns", "name_of", "was_frozen"]

#: A process that was stopped does not know for so long after it goes on that its partitions are others', in
#: nanoseconds: until its client has polled and heard so.
ZOMBIE_NS = 5_000_000_000

#: Whoever is away for so long, in nanoseconds, was in a retry topic meanwhile: shorter delays pass in memory.
AWAY_NS = 2_000_000_000

#: Topic, partition, offset.
At = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a run left. Times are of the machine's wall clock."""

    acked: Set[At]
    #: In the order in which they began.
    calls: Sequence[Call]
    #: Per partition in their order.
    commits: Sequence[Commit]
    #: Dead letters, by where the record stood, with when each was written, in ms.
    dead: Mapping[At, int]
    #: When brokers were away, and a little longer: (from, to) in nanoseconds.
    troubles: Sequence[Span]
    #: The end of each partition.
    ends: Mapping[tuple[str, int], int]
    #: Exit codes of the workers' orderly ends when all was over.
    codes: Sequence[int] = ()
    #: When the group rebalanced by the classic protocol, ascending: commits wait then.
    rebalances: Sequence[Span] = ()
    #: Topics whose handler keeps a failed key's order.
    kept: Set[str] = frozenset()
    #: What `recado verify` says at the end: its columns, summed up; None where it was not asked.
    ledger: Ledger | None = None
    #: When a commit first covered a record, in nanoseconds; filled by the judge.
    covered: dict[At, int] = field(default_factory=dict)


def at_of(call: Call) -> At:
    """Where a call's record stands."""
    return call.place.topic, call.place.partition, call.place.offset


def name_of(at: At) -> str:
    """A place, for a person."""
    return f"{at[0]}/{at[1]}/{at[2]}"


def end_ns(call: Call) -> int:
    """When a call ended, or its process did; a process that left it behind at its orderly end counts as one."""
    return call.ended_ns or call.life.killed_ns or call.life.ended_ns or 1 << 62


def was_frozen(call: Call) -> bool:
    """Whether its process was stopped in the middle of it or a moment before: it could not know what had changed."""
    return any(call.began_ns < to + ZOMBIE_NS and end_ns(call) > since for since, to in call.life.frozen_ns)
