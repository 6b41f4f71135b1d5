"""The judge of a worker's torture: journals against what was fed and what was committed; pure, and trusts neither."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from recado.torture.judge import Finding, Judgement
from recado.torture.worker.commits import Commit
from recado.torture.worker.journal import Call, Life
from recado.torture.worker.rebalances import Span, free_ns

__all__ = ["Evidence", "judge"]

#: A process that was stopped does not know for so long after it goes on that its partitions are others', in
#: nanoseconds: until its client has polled and heard so.
ZOMBIE_NS = 5_000_000_000

#: What ended so long before a kill is committed, in nanoseconds: commits go out ten times a second, but not while the
#: group rebalances.
COMMITTED_NS = 1_000_000_000

#: A commit that is older than this is told to whoever is given the partition, also while brokers are away, in
#: nanoseconds: what was read before it may be handled so much later.
TOLD_NS = 2_000_000_000

#: Whoever is away for so long, in nanoseconds, was in a retry topic meanwhile: shorter delays pass in memory.
AWAY_NS = 2_000_000_000

#: What waited behind a record in a retry topic follows it so soon, in nanoseconds.
BEHIND_NS = 1_000_000_000

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
    #: When a commit first covered a record, in nanoseconds; filled by the judge.
    covered: dict[At, int] = field(default_factory=dict)
    #: Records that waited in a retry topic behind a failed one of their key; likewise. Their own offset says nothing of
    #: whether they are done.
    parked: set[At] = field(default_factory=set)


def judge(evidence: Evidence) -> Judgement:
    """Hold the journals against everything else."""
    done = _done(evidence)
    excused: Counter[str] = Counter()
    checks = [
        _something(evidence),
        _lost(evidence, done),
        _past(evidence, _kept(evidence, done)),
        _overlap(evidence.calls, excused),
        _back(evidence.calls, excused),
        _overtaken(evidence, done, excused),
        _again(evidence, excused),
        _drained(evidence),
    ]
    return Judgement(tuple(finding.check() for finding in checks), _figures(evidence, excused))


def _done(evidence: Evidence) -> dict[At, int]:
    """When each record was first done or dead, in nanoseconds."""
    done = {at: at_ms * 1_000_000 for at, at_ms in evidence.dead.items()}
    for call in evidence.calls:
        if call.ok and call.ended_ns is not None:
            at = _at(call)
            done[at] = min(done.get(at, call.ended_ns), call.ended_ns)
    return done


def _kept(evidence: Evidence, done: Mapping[At, int]) -> dict[At, int]:
    """The same, or when an attempt failed after which a record left for a retry topic: it came back from there.

    Where order is kept its key's later records left behind it, and came back right after it.
    """
    kept, failed = dict(done), dict[At, int]()
    waits: dict[tuple[str, int, str], tuple[int, int]] = {}
    for call in evidence.calls:
        at, lane = _at(call), (call.place.topic, call.place.partition, call.place.key)
        failed_ns = failed.get(at)
        since, until = waits.get(lane, (0, 0))
        over = max(until, done.get(at, 0), call.ended_ns or call.began_ns)
        if failed_ns is not None and call.place.attempt > 1 and call.began_ns - failed_ns >= AWAY_NS:
            kept[at] = min(kept.get(at, failed_ns), failed_ns)
            if call.place.topic in evidence.kept:
                since = since if failed_ns <= until + BEHIND_NS else failed_ns
                waits[lane] = (since, over)
        elif failed_ns is None and call.began_ns <= until + BEHIND_NS:
            evidence.parked.add(at)
            kept[at] = min(kept.get(at, since), since)
            waits[lane] = (since, over)
        if not call.ok and call.ended_ns is not None and not (at in failed and _was_frozen(call)):
            failed[at] = call.ended_ns
    return kept


def _something(evidence: Evidence) -> Finding:
    finding = Finding("put to the test", "records were confirmed, handled and committed")
    something = evidence.acked and evidence.commits and any(call.ok for call in evidence.calls)
    finding.look("" if something else "nothing was confirmed, or handled, or committed")
    return finding


def _lost(evidence: Evidence, done: Mapping[At, int]) -> Finding:
    finding = Finding("lost", "every record that Kafka confirmed was done or is a dead letter")
    for at in sorted(evidence.acked):
        finding.look("" if at in done else f"{_name(at)} was confirmed and never done")
    return finding


def _past(evidence: Evidence, done: Mapping[At, int]) -> Finding:
    finding = Finding(
        "committed past", "what a commit covers (offset and offset map) was done, or waits in a retry topic"
    )
    upto: dict[tuple[str, int], int] = defaultdict(int)
    for commit in evidence.commits:
        where = (commit.topic, commit.partition)
        if where not in evidence.ends:  # a retry topic's: what it covers ends as done or dead, or is lost
            continue
        below = range(upto[where], commit.offset)
        beyond = (offset for first, last in commit.done for offset in range(first, last + 1))
        upto[where] = max(upto[where], commit.offset)
        for offset in (*below, *beyond):
            at = (*where, offset)
            if at in evidence.covered:
                continue
            evidence.covered[at] = commit.at_ms * 1_000_000
            done_ns = done.get(at)
            if done_ns is None:
                finding.look(f"{_name(at)} was never done, but committed")
            elif done_ns >= (commit.at_ms + 1) * 1_000_000:  # the coordinator's time is a whole millisecond
                late_ms = done_ns / 1e6 - commit.at_ms
                finding.look(f"{_name(at)} was done {late_ms:.1f} ms after it was committed")
            else:
                finding.look("")
    return finding


def _overlap(calls: Iterable[Call], excused: Counter[str]) -> Finding:
    finding = Finding("at once", "of one key one record at a time is in a handler")
    last: dict[tuple[str, int, str], Call] = {}
    for call in calls:
        if call.place.key == "-":
            continue
        key = (call.place.topic, call.place.partition, call.place.key)
        before = last.get(key)
        problem = ""
        if before is not None and call.began_ns < _end_ns(before):
            if _was_frozen(before) or _was_frozen(call):
                excused["overlaps of a stopped process"] += 1
            else:
                problem = f"{_name(_at(call))} began in {call.life.name} while {before.life.name} was at "
                problem += f"{_name(_at(before))} (key {call.place.key})"
        finding.look(problem)
        if before is None or _end_ns(call) >= _end_ns(before):
            last[key] = call
    return finding


def _back(calls: Iterable[Call], excused: Counter[str]) -> Finding:
    finding = Finding("went back", "a key's records begin in their order")
    highest: dict[tuple[str, int, str], Call] = {}
    seen: set[At] = set()
    for call in calls:
        if call.place.key == "-" or _at(call) in seen:
            continue
        seen.add(_at(call))
        key = (call.place.topic, call.place.partition, call.place.key)
        before = highest.get(key)
        problem = ""
        if before is not None and call.place.offset < before.place.offset:
            if _was_frozen(before) or _was_frozen(call):
                excused["order of a stopped process"] += 1
            else:
                problem = f"{_name(_at(call))} began first in {call.life.name}, after {_name(_at(before))}"
        else:
            highest[key] = call
        finding.look(problem)
    return finding


def _overtaken(evidence: Evidence, done: Mapping[At, int], excused: Counter[str]) -> Finding:
    """A failed record's key waits for it, in topics whose handler keeps order."""
    finding = Finding("overtaken", "where a handler keeps order, a record waits for all earlier ones of its key")
    begun: dict[tuple[str, int, str], dict[int, Call]] = defaultdict(dict)
    seen: set[At] = set()
    over = dict(done)
    for call in evidence.calls:  # of a dead letter the last attempt: it may wait for its topic afterwards
        if not call.ok and _at(call) in evidence.dead:
            over[_at(call)] = _end_ns(call)
    for call in evidence.calls:
        topic, partition, offset, key, _ = call.place
        if topic not in evidence.kept or key == "-" or _at(call) in seen:
            continue
        seen.add(_at(call))
        lane = begun[topic, partition, key]
        for before in [before for before in lane if over.get((topic, partition, before), 1 << 62) <= call.began_ns]:
            del lane[before]
        problem = ""
        if lane and min(lane) < offset:
            if any(_was_frozen(one) for one in (call, *lane.values())):
                excused["order of a stopped process"] += 1
            else:
                problem = f"{_name(_at(call))} began in {call.life.name} before {min(lane)} had ended (key {key})"
        lane[offset] = call
        finding.look(problem)
    return finding


def _again(evidence: Evidence, excused: Counter[str]) -> Finding:
    finding = Finding("again", "what was done is handled again only after a crash, and only what no commit covered")
    first: dict[At, Call] = {}
    left = _left_in_trouble(evidence)
    for call in evidence.calls:
        done = first.get(_at(call))
        if done is not None and done.ended_ns is not None and done.ended_ns <= call.began_ns:
            if left.get(_at(call), call.began_ns) < call.began_ns:
                excused["again by a retry topic after a crash or an outage"] += 1
                finding.look("")
            else:
                finding.look(_cause(evidence, done, call, excused))
        elif call.ok and (done is None):
            first[_at(call)] = call
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
        at = _at(call)
        began_ns = failed.get(at)
        if began_ns is not None and call.place.attempt > 1 and call.began_ns - began_ns >= AWAY_NS:
            if any(since <= call.began_ns and began_ns <= until for since, until in troubles):
                left.setdefault(at, call.began_ns - 1)
        elif not call.ok:
            failed.setdefault(at, call.began_ns)
    return left


def _cause(evidence: Evidence, done: Call, call: Call, excused: Counter[str]) -> str:
    """Why a record was handled again: counted where that may be, else in words."""
    at, ended_ns = _at(call), done.ended_ns or 0
    killed_ns = done.life.killed_ns
    covered_ns = evidence.covered.get(at) if at not in evidence.parked else None
    if _was_frozen(call) or any(f <= call.began_ns and ended_ns <= t + ZOMBIE_NS for f, t in done.life.frozen_ns):
        excused["again after a process was stopped"] += 1
        return ""
    later_s = (call.began_ns - ended_ns) / 1e9
    said = f"{_name(at)}, done by {done.life.name}, again by {call.life.name} {later_s:.2f} s later"
    if any(a <= call.began_ns and ended_ns <= b for a, b in evidence.troubles):
        if covered_ns is not None and covered_ns < call.began_ns - TOLD_NS:
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


def _drained(evidence: Evidence) -> Finding:
    finding = Finding("not drained", "at the end every partition is committed to its end, and SIGTERM ends each with 0")
    last = {(commit.topic, commit.partition): commit.offset for commit in evidence.commits}
    for where, end in sorted(evidence.ends.items()):
        committed = last.get(where, 0)
        finding.look("" if committed == end else f"{where[0]}/{where[1]} is committed to {committed} of {end}")
    for code in evidence.codes:
        finding.look("" if code == 0 else f"a worker ended with exit code {code}")
    return finding


def _figures(evidence: Evidence, excused: Counter[str]) -> dict[str, float]:
    lives: dict[Life, list[Call]] = defaultdict(list)
    for call in evidence.calls:
        lives[call.life].append(call)
    at_kill = [
        sum(call.began_ns <= killed and (call.ended_ns is None or call.ended_ns > killed) for call in calls)
        for life, calls in lives.items()
        if (killed := life.killed_ns) is not None
    ]
    figures: dict[str, float] = {
        "records": len(evidence.acked),
        "calls": len(evidence.calls),
        "failed_calls": sum(call.ended_ns is not None and not call.ok for call in evidence.calls),
        "dead_letters": len(evidence.dead),
        "commits": len(evidence.commits),
        "kills": len(at_kill),
        "in_flight_at_kills": sum(at_kill),
    }
    return figures | {name.replace(" ", "_"): count for name, count in sorted(excused.items())}


def _at(call: Call) -> At:
    return call.place.topic, call.place.partition, call.place.offset


def _name(at: At) -> str:
    return f"{at[0]}/{at[1]}/{at[2]}"


def _end_ns(call: Call) -> int:
    """When a call ended, or its process did; a process that left it behind at its orderly end counts as one."""
    return call.ended_ns or call.life.killed_ns or call.life.ended_ns or 1 << 62


def _was_frozen(call: Call) -> bool:
    """Whether its process was stopped in the middle of it or a moment before: it could not know what had changed."""
    return any(call.began_ns < to + ZOMBIE_NS and _end_ns(call) > since for since, to in call.life.frozen_ns)
