"""When a group could not commit because it rebalanced, by the word of the brokers' own logs; pure but for the reading.

A member that asks to join is answered when all others have asked, too, or when those that say nothing are given up
(``session.timeout.ms``). Until then the broker reads nothing else from that connection, commits included: it answers
the requests of a connection one after the other (https://kafka.apache.org/protocol#protocol_network). Under the
protocol of KIP-848 nobody waits so, and no such lines are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

__all__ = ["Span", "free_ns", "read_rebalances", "rebalances"]

#: (from, to) in nanoseconds of the wall clock.
Span = tuple[int, int]

#: Members hear that they have to join again with their next heartbeat, and send what they kept, in nanoseconds.
AFTERWARDS_NS = 500_000_000

#: Kafka 3.9 writes a blank where 4.x writes a T.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d,\d{3} ")
_BEGINS = "Preparing to rebalance group {} "
_ENDS = (r"Assignment received from leader \S+ for group {} ", r"[Gg]roup {} with generation \d+ is now empty")


def read_rebalances(kafka: Path, group: str) -> list[Span]:
    """The rebalances of a group from the logs of all brokers whose folders are in ``kafka``, ascending."""
    found: list[Span] = []
    for log in sorted(kafka.glob("broker-*/server.log*")):
        with log.open(encoding="utf-8", errors="replace") as lines:
            found += rebalances(lines, group)
    return sorted(found)


def rebalances(lines: Iterable[str], group: str) -> list[Span]:
    """The rebalances of a group from one broker's log; one that has no end there lasts until the last line."""
    begins = re.compile(_BEGINS.format(re.escape(group)))
    ends = re.compile("|".join(one.format(re.escape(group)) for one in _ENDS))
    found: list[Span] = []
    since: int | None = None
    latest = 0
    for line in lines:
        if _TIME.match(line) is None:
            continue
        latest = _ns(line)
        if begins.search(line):
            since = latest if since is None else since
        elif since is not None and ends.search(line):
            found.append((since, latest + AFTERWARDS_NS))
            since = None
    if since is not None:
        found.append((since, latest + AFTERWARDS_NS))
    return found


def free_ns(since: int, until: int, spans: Iterable[Span]) -> int:
    """How much of the time between two moments is in none of the spans (ascending by their beginning)."""
    free, at = 0, since
    for begin, end in spans:
        if end <= at:
            continue
        if begin >= until:
            break
        free += max(0, begin - at)
        at = end
    return free + max(0, until - at)


def _ns(line: str) -> int:
    return int(datetime.fromisoformat(line[:23]).timestamp() * 1000) * 1_000_000
