"""From the fate of records to the HTTP answer (pure): the status tells the truth, always."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from recado.errors import DeliveryUnknown, RecadoError
from recado.gateway.delaying import accepted, destination, success_status
from recado.gateway.problem import Problem, document, retry_after, status_of
from recado.gateway.reader import Shape
from recado.kafka.delivery import Delivery, Position, Summary
from recado.outcomes.delay import Delayed
from recado.record import Outgoing

__all__ = ["Answer", "answer", "problem_answer"]

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


def answer(delivery: Delivery, shape: Shape) -> Answer:
    """What to say of a delivery as it stands now: a record without a fate is unknown."""
    if shape is Shape.ONE:
        return _one(delivery.records[0], delivery.fates[0])
    if isinstance(delivery, Summary):
        return _summary(delivery)
    fates = [_NOT_CONFIRMED if fate is None else fate for fate in delivery.fates]
    pairs = list(zip(delivery.records, fates, strict=True))
    statuses = {success_status(r) if isinstance(fate, tuple) else status_of(fate) for r, fate in pairs}
    results = [_result(record, fate) for record, fate in pairs]
    if shape is Shape.SUMMARY:
        return _counted(results, statuses)
    status = statuses.pop() if len(statuses) == 1 else 207
    if shape is Shape.LINES:
        return Answer(status, _LINES_HEADERS + retry_after(status), b"\n".join(map(_encode, results)) + b"\n")
    return Answer(status, _JSON_HEADERS + retry_after(status), _encode(results))


def _one(record: Outgoing, fate: Position | RecadoError | None) -> Answer:
    if fate is None or isinstance(fate, DeliveryUnknown):
        return Answer(504, _JSON_HEADERS, _encode(_result(record, fate or _NOT_CONFIRMED)))
    if isinstance(fate, RecadoError):
        return problem_answer(Problem.of(fate, id=record.id, topic=destination(record)[0]))
    return Answer(success_status(record), _JSON_HEADERS, _encode(_result(record, fate)))


def _result(record: Outgoing, fate: Position | RecadoError) -> dict[str, Any]:
    if isinstance(fate, tuple):
        if isinstance(record, Delayed):
            return accepted(record)
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


def _counted(results: list[dict[str, Any]], statuses: set[int]) -> Answer:
    """The summary of many of which some were delayed."""
    words = Counter(result["status"] for result in results)
    body: dict[str, Any] = {
        "status": next(iter(words)) if len(words) == 1 else "mixed",
        "records": len(results),
        **{word: words[word] for word in ("delivered", "accepted", "failed", "unknown")},
    }
    if errors := Counter((result["code"], result["detail"]) for result in results if "code" in result):
        body["errors"] = [{"code": c, "detail": d, "records": n} for (c, d), n in errors.most_common(10)]
    status = statuses.pop() if len(statuses) == 1 else 207
    return Answer(status, _SUMMARY_HEADERS + retry_after(status), _encode(body))


def _summary(summary: Summary) -> Answer:
    # Reports may come meanwhile. Looked at in this order, what came in between counts as unknown, never as delivered.
    outstanding, errors = summary.outstanding, list(summary.failures.values())
    delivered = max(0, len(summary.records) - outstanding - len(errors))
    failed = sum(not isinstance(error, DeliveryUnknown) for error in errors)
    unknown = len(summary.records) - delivered - failed
    statuses = {status_of(error) for error in errors}
    statuses |= ({504} if unknown else set()) | ({200} if delivered else set())
    words = [word for word, n in (("delivered", delivered), ("failed", failed), ("unknown", unknown)) if n]
    body: dict[str, Any] = {
        "status": words[0] if len(words) == 1 else "mixed",
        "records": len(summary.records),
        "delivered": delivered,
        "failed": failed,
        "unknown": unknown,
    }
    if errors:
        counted = Counter((error.code, str(error)) for error in errors)
        body["errors"] = [{"code": c, "detail": d, "records": n} for (c, d), n in counted.most_common(10)]
    status = statuses.pop() if len(statuses) == 1 else 207
    return Answer(status, _SUMMARY_HEADERS + retry_after(status), _encode(body))
