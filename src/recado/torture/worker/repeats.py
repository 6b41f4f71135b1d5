"""What was handled again, and whether that may be; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from recado.torture.judge import Finding
from recado.torture.worker.evidence import AWAY_NS, ZOMBIE_NS, At, Evidence, at_of, name_of, was_frozen
from recado.torture.worker.journal import Call
from recado.torture.worker.rebalances import Span, free_ns

__all__ = ["again"]

#: What ended so long before a kill is committed, in nanoseconds: commits go out ten times a second, but not while the
#: group rebalances.
COMMITTED_NS = 1_000_000_000

#: A commit that is older than this is told to whoever is given the partition, also while brokers are away, in
#: nanoseconds: what was read before it may be handled so much later. One that was written while brokers were away is
#: told only when enough replicas have it, which may take until those that are gone no longer count as in sync.
TOLD_NS = 2_000_000_000


def again(evidence: Evidence, excused: Counter[str]) -> Finding:
    """What is done is handled again only where a crash or an outage explains it."""
    finding = Finding("again", "what was done is handled again only after a crash, and only what no commit covered")
    first: dict[At, Call] = {}
    left = _left_in_trouble(evidence)
    for call in evidence.calls:
        done = first.get(at_of(call))
        if done is not None and done.ended_ns is not None and done.ended_ns <= call.began_ns:
            if left.get(at_of(call), call.began_ns) < call.began_ns:
                excused["again by a retry topic after a crash or an outage"] += 1
                finding.look("")
            else:
                finding.look(_cause(evidence, done, call, excused))
        elif call.ok and (done is None):
            first[at_of(call)] = call
    return finding


def _left_in_trouble(evidence: Evidence) -> dict[At, int]:
    """When records came back through a retry topic, of those on whose way a process died or brokers were away.

    Who dies, or cannot commit, after a copy was sent leaves a copy, and a record that makes another one; who does
    while it moves copies on leaves some that are moved twice.
    """
    lives = {call.life for call in evidence.calls}
    troubles = [(life.killed_ns, life.killed_ns) for life in lives if life.killed_ns is not None]
    troubles += [span for life in lives for span in life.frozen_ns]
    troubles += evidence.troubles
    failed: dict[At, int] = {}
    left: dict[At, int] = {}
    for call in evidence.calls:
        at = at_of(call)
        began_ns = failed.get(at)
        if began_ns is not None and call.place.attempt > 1 and call.began_ns - began_ns >= AWAY_NS:
            if any(since <= call.began_ns and began_ns <= until for since, until in troubles):
                left.setdefault(at, call.began_ns - 1)
        elif not call.ok:
            failed.setdefault(at, call.began_ns)
    return left


def _cause(evidence: Evidence, done: Call, call: Call, excused: Counter[str]) -> str:
    """Why a record was handled again: counted where that may be, else in words."""
    at, ended_ns = at_of(call), done.ended_ns or 0
    killed_ns = done.life.killed_ns
    # Where order is kept, a record may have been parked, which its own offset says nothing of.
    covered_ns = evidence.covered.get(at) if at[0] not in evidence.kept else None
    if was_frozen(call) or any(f <= call.began_ns and ended_ns <= t + ZOMBIE_NS for f, t in done.life.frozen_ns):
        excused["again after a process was stopped"] += 1
        return ""
    later_s = (call.began_ns - ended_ns) / 1e9
    said = f"{name_of(at)}, done by {done.life.name}, again by {call.life.name} {later_s:.2f} s later"
    if any(a <= call.began_ns and ended_ns <= b for a, b in evidence.troubles):
        if covered_ns is not None and covered_ns < call.began_ns - TOLD_NS and not _in(covered_ns, evidence.troubles):
            return f"{said}, though a commit had covered it {(call.began_ns - covered_ns) / 1e9:.2f} s before"
        excused["again after brokers were away"] += 1
        return ""
    if killed_ns is None or not ended_ns <= killed_ns <= call.began_ns:
        return f"{said}, without a crash"
    if covered_ns is not None and covered_ns < killed_ns - 1_000_000:
        return f"{said}, though a commit had covered it {(killed_ns - covered_ns) / 1e9:.2f} s before the kill"
    free = free_ns(ended_ns, killed_ns, evidence.rebalances)
    if free > COMMITTED_NS:
        return f"{said}, though it had ended {free / 1e9:.2f} s before the kill, rebalances left out"
    late = killed_ns - ended_ns > COMMITTED_NS
    excused["again after a kill while the group rebalanced" if late else "again after a kill"] += 1
    return ""


def _in(moment_ns: int, spans: Sequence[Span]) -> bool:
    return any(since <= moment_ns <= until for since, until in spans)
