"""From the fate of records to the HTTP answer (pure): the status tells the truth, always."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from recado.errors import DeliveryUnknown, RecadoError
from recado.gateway.delaying import accepted, destination, success_status
from recado.gateway.problem import Problem, document, retry_after, status_of
from recado.gateway.reader import Shape
from recado.gateway.spool.keeping import Keeping
from recado.kafka.delivery import ACCEPTED, Delivery, Fate, Summary
from recado.outcomes.delay import Delayed
from recado.record import Outgoing

__all__ = ["Answer", "answer", "fates_of", "problem_answer"]

_encode = msgspec.json.encode

_NOT_CONFIRMED = DeliveryUnknown("Kafka did not confirm in time. The record may still arrive, or may not.")


class Answer(NamedTuple):
    """Status, headers (as ASGI has them: lower-case bytes) and body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


_JSON_HEADERS = [(b"content-type", b"application/json")]
_LINES_HEADERS = [(b"content-type", b"application/x-ndjson")]
_SUMMARY_HEADERS = [(b"content-type", b"application/json"), (b"preference-applied", b"return=minimal")]


def problem_answer(problem: Problem) -> Answer:
    """A refusal."""
    return Answer(*document(problem))


def answer(delivery: Delivery, shape: Shape, kept: Keeping | None = None, *, base: str = "") -> Answer:
    """What to say of a delivery as it stands now: a record without a fate is unknown, unless it was kept.

    ``base`` is where the routes are mounted: what was only accepted can be asked for later.
    """
    if isinstance(delivery, Summary):
        given = _summary(len(delivery.records), _missing(delivery, kept))
    else:
        given = _render(delivery.records, fates_of(delivery, kept), shape, base)
    if kept is not None and kept.asked and kept.is_kept:
        return _applied(given, b"respond-async")
    return given


def _applied(given: Answer, preference: bytes) -> Answer:
    """Say that a preference was followed, beside those that were (RFC 7240, 3)."""
    name = b"preference-applied"
    said = [value for header, value in given.headers if header == name]
    others = [pair for pair in given.headers if pair[0] != name]
    return given._replace(headers=[*others, (name, b", ".join([*said, preference]))])


def fates_of(delivery: Delivery, kept: Keeping | None) -> list[Fate]:
    """What is known of each record now."""
    if isinstance(delivery, Summary):
        raise TypeError("a summary does not know where its records lie")
    return [_fate(fate, index, kept) for index, fate in enumerate(delivery.fates)]


def _render(records: Sequence[Outgoing], fates: Sequence[Fate], shape: Shape, base: str) -> Answer:
    """Say what became of each record, in the form of the request."""
    if shape is Shape.ONE:
        return _one(records[0], fates[0], base)
    if shape is Shape.SUMMARY:
        # A delayed record that Kafka has is accepted: it is not in its target yet.
        settled = [ACCEPTED if _status(r, fate) == 202 else fate for r, fate in zip(records, fates, strict=True)]
        return _summary(len(records), [fate for fate in settled if not isinstance(fate, tuple)])
    results = [_result(record, fate) for record, fate in zip(records, fates, strict=True)]
    statuses = {_status(record, fate) for record, fate in zip(records, fates, strict=True)}
    status = statuses.pop() if len(statuses) == 1 else 207
    if shape is Shape.LINES:
        return Answer(status, _LINES_HEADERS + retry_after(status), b"\n".join(map(_encode, results)) + b"\n")
    return Answer(status, _JSON_HEADERS + retry_after(status), _encode(results))


def _fate(fate: Fate | None, index: int, kept: Keeping | None) -> Fate:
    if kept is not None and kept.holds(index, fate):
        return ACCEPTED
    return _NOT_CONFIRMED if fate is None else fate


def _status(record: Outgoing, fate: Fate) -> int:
    if isinstance(fate, RecadoError):
        return status_of(fate)
    return 202 if fate == ACCEPTED else success_status(record)


def _one(record: Outgoing, fate: Fate, base: str) -> Answer:
    if isinstance(fate, RecadoError) and not isinstance(fate, DeliveryUnknown):
        return problem_answer(Problem.of(fate, id=record.id, topic=destination(record)[0]))
    status = _status(record, fate)
    headers = _JSON_HEADERS
    if status == 202:
        where = f"{base}/messages/{destination(record)[0]}/{quote(record.id, safe='')}"
        headers = [*headers, (b"location", where.encode("latin-1", "replace"))]
    return Answer(status, headers, _encode(_result(record, fate)))


def _result(record: Outgoing, fate: Fate) -> dict[str, Any]:
    if isinstance(record, Delayed) and not isinstance(fate, RecadoError):
        return accepted(record)
    if isinstance(fate, str):
        return {"status": fate, "id": record.id, "topic": record.topic}
    if isinstance(fate, tuple):
        partition, offset, timestamp_ms = fate
        return {
            "status": "delivered",
            "id": record.id,
            "topic": record.topic,
            "partition": partition,
            "offset": offset,
            "timestamp": timestamp_ms,
        }
    status = "unknown" if isinstance(fate, DeliveryUnknown) else "failed"
    topic, _ = destination(record)
    return {"status": status, "id": record.id, "topic": topic, "code": fate.code, "detail": str(fate)}


def _missing(summary: Summary, kept: Keeping | None) -> list[Fate]:
    """The fates of what Kafka does not have. Reports may come meanwhile: one look at each record decides."""
    failures = dict(summary.failures)
    return [_fate(failures.get(index), index, kept) for index in summary.undelivered()]


def _summary(records: int, missing: Sequence[Fate]) -> Answer:
    errors = [fate for fate in missing if isinstance(fate, RecadoError)]
    unknown = sum(isinstance(error, DeliveryUnknown) for error in errors)
    counts = {
        "delivered": records - len(missing),
        "accepted": len(missing) - len(errors),
        "failed": len(errors) - unknown,
        "unknown": unknown,
    }
    words = [word for word, count in counts.items() if count]
    body: dict[str, Any] = {"status": words[0] if len(words) == 1 else "mixed", "records": records, **counts}
    told = Counter((error.code, str(error)) for error in errors if error is not _NOT_CONFIRMED)
    if told:
        body["errors"] = [{"code": c, "detail": d, "records": n} for (c, d), n in told.most_common(10)]
    statuses = {status_of(error) for error in errors}
    statuses |= ({202} if counts["accepted"] else set()) | ({200} if counts["delivered"] else set())
    status = statuses.pop() if len(statuses) == 1 else 207
    return Answer(status, _SUMMARY_HEADERS + retry_after(status), _encode(body))
