"""The order of a key's records, from the journals; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from recado.torture.judge import Finding
from recado.torture.worker.evidence import At, Evidence, at_of, end_ns, name_of, was_frozen
from recado.torture.worker.journal import Call

__all__ = ["back", "overlap", "overtaken"]


def overlap(evidence: Evidence, excused: Counter[str]) -> Finding:
    """No two records of a key are in handlers at a time.

    Whom the coordinator expels while brokers are away has a handler at work still when the next owner begins: no member
    of a group hears of it before.
    """
    finding = Finding("at once", "of one key one record at a time is in a handler")
    last: dict[tuple[str, int, str], Call] = {}
    for call in evidence.calls:
        if call.place.key == "-":
            continue
        key = (call.place.topic, call.place.partition, call.place.key)
        before = last.get(key)
        problem = ""
        if before is not None and call.began_ns < end_ns(before):
            if was_frozen(before) or was_frozen(call):
                excused["overlaps of a stopped process"] += 1
            elif before.life is not call.life and any(a <= call.began_ns <= b for a, b in evidence.troubles):
                excused["overlaps of a process that was expelled while brokers were away"] += 1
            else:
                problem = f"{name_of(at_of(call))} began in {call.life.name} while {before.life.name} was at "
                problem += f"{name_of(at_of(before))} (key {call.place.key})"
        finding.look(problem)
        if before is None or end_ns(call) >= end_ns(before):
            last[key] = call
    return finding


def back(calls: Iterable[Call], excused: Counter[str]) -> Finding:
    """No key goes back to a record that it has passed."""
    finding = Finding("went back", "a key's records begin in their order")
    highest: dict[tuple[str, int, str], Call] = {}
    seen: set[At] = set()
    for call in calls:
        if call.place.key == "-" or at_of(call) in seen:
            continue
        seen.add(at_of(call))
        key = (call.place.topic, call.place.partition, call.place.key)
        before = highest.get(key)
        problem = ""
        if before is not None and call.place.offset < before.place.offset:
            if was_frozen(before) or was_frozen(call):
                excused["order of a stopped process"] += 1
            else:
                problem = f"{name_of(at_of(call))} began first in {call.life.name}, after {name_of(at_of(before))}"
        else:
            highest[key] = call
        finding.look(problem)
    return finding


def overtaken(evidence: Evidence, done: Mapping[At, int], excused: Counter[str]) -> Finding:
    """A failed record's key waits for it, in topics whose handler keeps order."""
    finding = Finding("overtaken", "where a handler keeps order, a record waits for all earlier ones of its key")
    begun: dict[tuple[str, int, str], dict[int, Call]] = defaultdict(dict)
    seen: set[At] = set()
    over = dict(done)
    last: dict[At, int] = {}
    for call in evidence.calls:  # of a dead letter the last attempt: then it waits for its topic, or for a broker
        at, attempt = at_of(call), call.place.attempt
        if at in evidence.dead and attempt > last.get(at, 0):
            last[at], over[at] = attempt, end_ns(call)
    for call in evidence.calls:
        topic, partition, offset, key, _ = call.place
        if topic not in evidence.kept or key == "-" or at_of(call) in seen:
            continue
        seen.add(at_of(call))
        lane = begun[topic, partition, key]
        for before in [before for before in lane if over.get((topic, partition, before), 1 << 62) <= call.began_ns]:
            del lane[before]
        problem = ""
        if lane and min(lane) < offset:
            if any(was_frozen(one) for one in (call, *lane.values())):
                excused["order of a stopped process"] += 1
            else:
                problem = f"{name_of(at_of(call))} began in {call.life.name} before {min(lane)} had ended (key {key})"
        lane[offset] = call
        finding.look(problem)
    return finding
