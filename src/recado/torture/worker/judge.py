"""The judge of a worker's torture: journals against what was fed and what was committed; pure, and trusts neither."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from recado.torture.judge import Finding, Judgement
from recado.torture.worker.evidence import AWAY_NS, At, Evidence, at_of, name_of, was_frozen
from recado.torture.worker.journal import Call, Life
from recado.torture.worker.order import back, overlap, overtaken
from recado.torture.worker.repeats import again

__all__ = ["Evidence", "judge"]


def judge(evidence: Evidence) -> Judgement:
    """Hold the journals against everything else."""
    done = done_at(evidence)
    excused: Counter[str] = Counter()
    checks = [
        _something(evidence),
        _lost(evidence, done),
        _past(evidence, kept_at(evidence, done)),
        overlap(evidence, excused),
        back(evidence.calls, excused),
        overtaken(evidence, done, excused),
        again(evidence, excused),
        _drained(evidence),
        _ledger(evidence),
    ]
    return Judgement(tuple(finding.check() for finding in checks), _figures(evidence, excused))


def done_at(evidence: Evidence) -> dict[At, int]:
    """When each record was first done or dead, in nanoseconds."""
    done = {at: at_ms * 1_000_000 for at, at_ms in evidence.dead.items()}
    for call in evidence.calls:
        if call.ok and call.ended_ns is not None:
            at = at_of(call)
            done[at] = min(done.get(at, call.ended_ns), call.ended_ns)
    return done


def kept_at(evidence: Evidence, done: Mapping[At, int]) -> dict[At, int]:
    """The same, or when an attempt failed after which a record left for a retry topic: it came back from there."""
    kept, failed = dict(done), dict[tuple[At, int], int]()
    for call in evidence.calls:
        at, attempt = at_of(call), call.place.attempt
        # The first time that this attempt failed: after an outage it may have failed once more, and left once more.
        failed_ns = failed.get((at, attempt - 1))
        if failed_ns is not None and call.began_ns - failed_ns >= AWAY_NS:
            kept[at] = min(kept.get(at, failed_ns), failed_ns)
        if not call.ok and call.ended_ns is not None and not ((at, attempt) in failed and was_frozen(call)):
            failed.setdefault((at, attempt), call.ended_ns)
    return kept


def _something(evidence: Evidence) -> Finding:
    finding = Finding("put to the test", "records were confirmed, handled and committed")
    something = evidence.acked and evidence.commits and any(call.ok for call in evidence.calls)
    finding.look("" if something else "nothing was confirmed, or handled, or committed")
    return finding


def _lost(evidence: Evidence, done: Mapping[At, int]) -> Finding:
    finding = Finding("lost", "every record that Kafka confirmed was done or is a dead letter")
    for at in sorted(evidence.acked):
        finding.look("" if at in done else f"{name_of(at)} was confirmed and never done")
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
                finding.look(f"{name_of(at)} was never done, but committed")
            elif commit.topic in evidence.kept:  # it may have waited in a retry topic behind its key
                finding.look("")
            elif done_ns >= (commit.at_ms + 1) * 1_000_000:  # the coordinator's time is a whole millisecond
                late_ms = done_ns / 1e6 - commit.at_ms
                finding.look(f"{name_of(at)} was done {late_ms:.1f} ms after it was committed")
            else:
                finding.look("")
    return finding


def _drained(evidence: Evidence) -> Finding:
    finding = Finding("not drained", "at the end every partition is committed to its end, and SIGTERM ends each with 0")
    last = {(commit.topic, commit.partition): commit.offset for commit in evidence.commits}
    for where, end in sorted(evidence.ends.items()):
        committed = last.get(where, 0)
        finding.look("" if committed == end else f"{where[0]}/{where[1]} is committed to {committed} of {end}")
    for code in evidence.codes:
        finding.look("" if code == 0 else f"a worker ended with exit code {code}")
    return finding


def _ledger(evidence: Evidence) -> Finding:
    finding = Finding("ledger", "the books balance when all is over, and agree with Kafka's own tools")
    ledger = evidence.ledger
    if ledger is None:
        return finding
    finding.look("" if ledger.balanced else "recado verify says that they do not balance")
    ends = sum(evidence.ends.values())
    expected = {"accepted": ends, "dead": len(evidence.dead), "retrying": 0, "not_handled": 0}
    for column, count in expected.items():
        found = ledger.total[column]
        finding.look("" if found == count else f"recado verify says {found} {column}, but it should be {count}")
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
