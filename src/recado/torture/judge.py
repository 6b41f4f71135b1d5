"""The judge: what was answered against what is in Kafka; pure, and it trusts neither."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from recado.torture.history import Answered, Entry, Fate, Outage, Request, Sent

__all__ = ["SLACK_S", "Check", "Ending", "Finding", "Found", "Judgement", "judge"]

#: An answer may take this much longer than the wait that its request had, in seconds.
SLACK_S = 1.0

#: Cases of one check that are told in words.
_TOLD = 5


@dataclass(frozen=True, slots=True)
class Found:
    """A record as the witness read it from the topic."""

    key: str
    number: int
    id: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a gateway ended the run: the answer of its last flush, and its exit code on SIGTERM."""

    gateway: int
    flush_status: int
    flush_body: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: how often it was put to the test, and how often it was broken."""

    name: str
    promise: str
    looked_at: int
    broken: int
    cases: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it was never broken."""
        return self.broken == 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every check, and the figures that a person wants beside them."""

    checks: tuple[Check, ...]
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every promise held, and there was something to judge."""
        return all(check.holds for check in self.checks)


@dataclass(slots=True)
class Finding:
    """Collects the cases of one check."""

    name: str
    promise: str
    looked_at: int = 0
    broken: int = 0
    cases: list[str] = field(default_factory=list)

    def look(self, problem: str) -> None:
        """Count one look; ``problem`` is empty where all is well."""
        self.looked_at += 1
        if problem:
            self.broken += 1
            if len(self.cases) < _TOLD:
                self.cases.append(problem)

    def check(self) -> Check:
        return Check(self.name, self.promise, self.looked_at, self.broken, tuple(self.cases))


_Places = Mapping[Sent, Sequence[Found]]


def judge(history: Iterable[Entry], found: Sequence[Found], endings: Sequence[Ending]) -> Judgement:
    """Hold a history against every record of the topic, in the order of its offsets within each partition."""
    entries = list(history)
    requests = [entry for entry in entries if isinstance(entry, Request)]
    outages: dict[int, list[Outage]] = defaultdict(list)
    for entry in entries:
        if isinstance(entry, Outage):
            outages[entry.gateway].append(entry)
    places: dict[Sent, list[Found]] = defaultdict(list)
    for record in sorted(found, key=lambda record: (record.partition, record.offset)):
        places[Sent(record.key, record.number)].append(record)
    checks = [
        _something(requests),
        _lost(requests, places),
        _positions(requests, places),
        _refused(requests, places),
        _phantoms(requests, places),
        _ids(requests, places),
        _order(requests, places),
        _late(requests, outages),
        _broken_off(requests, outages),
        _contract(requests),
        _drained(endings),
    ]
    return Judgement(tuple(finding.check() for finding in checks), _figures(requests, places, found, outages))


def _pairs(requests: Iterable[Request]) -> Iterator[tuple[Request, Sent, Answered]]:
    for request in requests:
        for sent, answered in zip(request.records, request.answers, strict=True):
            yield request, sent, answered


def _name(request: Request, sent: Sent) -> str:
    return f"{sent.key} #{sent.number} (sent at {request.sent_s:.3f} s, status {request.status or 'none'})"


def _something(requests: Sequence[Request]) -> Finding:
    """A run in which nothing was taken proves nothing."""
    finding = Finding("put to the test", "something was answered 200 or 202")
    taken = any(a.fate in (Fate.DELIVERED, Fate.ACCEPTED) for _, _, a in _pairs(requests))
    finding.look("" if taken else "nothing was answered 200 or 202")
    return finding


def _lost(requests: Sequence[Request], places: _Places) -> Finding:
    finding = Finding("lost", "everything answered 200 or 202 is in Kafka")
    for request, sent, answered in _pairs(requests):
        if answered.fate in (Fate.DELIVERED, Fate.ACCEPTED):
            finding.look("" if places.get(sent) else f"{_name(request, sent)}: id {answered.id} is nowhere")
    return finding


def _positions(requests: Sequence[Request], places: _Places) -> Finding:
    finding = Finding("wrong position", "a 200 tells the partition and offset where that id is")
    for request, sent, answered in _pairs(requests):
        if answered.fate is not Fate.DELIVERED or not places.get(sent):
            continue
        told = (answered.partition, answered.offset)
        right = any(told == (place.partition, place.offset) for place in places[sent])
        finding.look("" if right else f"{_name(request, sent)}: told {told}, found {_where(places[sent])}")
    return finding


def _refused(requests: Sequence[Request], places: _Places) -> Finding:
    finding = Finding("refused but there", "what was refused (4xx, 503) is not in Kafka")
    for request, sent, answered in _pairs(requests):
        if answered.fate is Fate.REFUSED:
            there = places.get(sent)
            finding.look(f"{_name(request, sent)}: found at {_where(there)}" if there else "")
    return finding


def _phantoms(requests: Sequence[Request], places: _Places) -> Finding:
    finding = Finding("never sent", "every record in Kafka is one that was sent")
    known = {sent for _, sent, _ in _pairs(requests)}
    for sent, found in places.items():
        finding.look("" if sent in known else f"{sent.key} #{sent.number} at {_where(found)} was never sent")
    return finding


def _ids(requests: Sequence[Request], places: _Places) -> Finding:
    finding = Finding("wrong id", "a record and its duplicates carry the one id that the answer told")
    told = {sent: answered.id for _, sent, answered in _pairs(requests) if answered.id}
    owner: dict[str, Sent] = {}
    for sent, found in places.items():
        ids = {place.id for place in found}
        right = told.get(sent, found[0].id)
        problem = "" if ids == {right} and right else f"{sent.key} #{sent.number}: told {right!r}, found {sorted(ids)}"
        for id_ in ids:
            if (other := owner.setdefault(id_, sent)) != sent:
                problem = f"id {id_!r} stands for {other.key} #{other.number} and {sent.key} #{sent.number}"
        finding.look(problem)
    return finding


def _order(requests: Sequence[Request], places: _Places) -> Finding:
    """Only what was answered 200 or 202 binds: the next of its key was sent after that answer."""
    finding = Finding("out of order", "what was answered before the next of its key was sent stands before it")
    bound: dict[str, Found] = {}
    for request in sorted(requests, key=lambda request: request.sent_s):
        for sent in request.records:
            first = places.get(sent)
            if first and sent.key in bound:
                finding.look(_order_problem(sent, first[0], bound[sent.key]))
        for sent, answered in zip(request.records, request.answers, strict=True):
            first = places.get(sent)
            if first and answered.fate in (Fate.DELIVERED, Fate.ACCEPTED):
                latest = bound.get(sent.key)
                if latest is None or first[0].offset > latest.offset:
                    bound[sent.key] = first[0]
    return finding


def _order_problem(sent: Sent, found: Found, before: Found) -> str:
    this, that = f"{sent.key} #{sent.number}", f"#{before.number}"
    if found.partition != before.partition:
        return f"{this} is in partition {found.partition}, {that} in {before.partition}"
    if found.offset < before.offset:
        return f"{this} at offset {found.offset} of partition {found.partition} stands before {that} ({before.offset})"
    return ""


def _late(requests: Sequence[Request], outages: Mapping[int, Sequence[Outage]]) -> Finding:
    finding = Finding("late", f"an answer comes within its wait + {SLACK_S:g} s, outages of its gateway not counted")
    for request in requests:
        took_s = _took_s(request, outages)
        late = took_s > request.wait_s + SLACK_S
        finding.look(f"{_name(request, request.records[0])}: {took_s:.2f} s, wait {request.wait_s:g} s" if late else "")
    return finding


def _broken_off(requests: Sequence[Request], outages: Mapping[int, Sequence[Outage]]) -> Finding:
    finding = Finding("broken off", "every request is answered, unless its gateway was out")
    for request in requests:
        broken = request.status == 0 and not any(_overlap_s(request, outage) for outage in outages[request.gateway])
        finding.look(f"{_name(request, request.records[0])}: {request.error}" if broken else "")
    return finding


def _contract(requests: Sequence[Request]) -> Finding:
    finding = Finding("not in the contract", "every answer is one that the contract has")
    for request in requests:
        if request.status:
            finding.look(f"{_name(request, request.records[0])}: {request.error}" if request.error else "")
    return finding


def _drained(endings: Sequence[Ending]) -> Finding:
    finding = Finding("not drained", "at the end a flush answers 200, and SIGTERM ends each gateway with exit code 0")
    for ending in endings:
        flushed = ending.flush_status == 200
        finding.look("" if flushed else f"gateway {ending.gateway}: {ending.flush_status} {ending.flush_body}")
        ended = ending.exit_code == 0
        finding.look("" if ended else f"gateway {ending.gateway}: exit code {ending.exit_code}")
    return finding


def _took_s(request: Request, outages: Mapping[int, Sequence[Outage]]) -> float:
    """How long the answer took, without the time in which the gateway was out."""
    out_s = sum(_overlap_s(request, outage) for outage in outages.get(request.gateway, ()))
    return request.done_s - request.sent_s - out_s


def _overlap_s(request: Request, outage: Outage) -> float:
    return max(0.0, min(request.done_s, outage.to_s) - max(request.sent_s, outage.from_s))


def _where(found: Sequence[Found]) -> list[tuple[int, int]]:
    return [(place.partition, place.offset) for place in found]


def _figures(
    requests: Sequence[Request], places: _Places, found: Sequence[Found], outages: Mapping[int, Sequence[Outage]]
) -> dict[str, float]:
    fates = [answered.fate for _, _, answered in _pairs(requests)]
    figures: dict[str, float] = {"requests": len(requests), "records": len(fates)}
    figures |= {str(fate): fates.count(fate) for fate in Fate}
    figures["in_kafka"] = len(found)
    figures["duplicates"] = len(found) - len(places)
    figures["slowest_s"] = round(max((_took_s(r, outages) for r in requests if r.status), default=0.0), 3)
    return figures
