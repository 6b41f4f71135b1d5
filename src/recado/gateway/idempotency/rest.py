"""Which of a request's records are still to be sent, and how old and new fates go together (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from recado.gateway.idempotency.kept import Kept
from recado.gateway.reader import Submission
from recado.kafka.delivery import ACCEPTED, Delivery, Fate
from recado.outcomes.delay import Delayed, delay, renew
from recado.record import Outgoing

__all__ = ["together", "unsent"]


def unsent(submission: Submission, known: Mapping[int, Kept]) -> Submission | None:
    """The request without what was sent before; None where nothing is left."""
    if not known:
        return submission
    records = [record for index, record in enumerate(submission.records) if index not in known]
    if not records:
        return None
    return submission._replace(records=records, topics=Counter(record.topic for record in records))


def together(submission: Submission, known: Mapping[int, Kept], new: Sequence[Fate]) -> Delivery:
    """The request's records with the fates of all, in their order; those sent before as they were sent then."""
    rest = iter(new)
    pairs = [
        _as_before(record, known[index]) if index in known else (record, next(rest))
        for index, record in enumerate(submission.records)
    ]
    whole = Delivery([record for record, _ in pairs], lambda delivery: None)
    whole.fates = [fate for _, fate in pairs]
    whole.outstanding = 0
    return whole


def _as_before(record: Outgoing, kept: Kept) -> tuple[Outgoing, Fate]:
    """The same request may be due by now, or have another due moment: what counts is the first."""
    if kept.due_ms:
        if isinstance(record, Delayed):
            record = renew(record, record.due_ms)
        return delay(record, due_ms=kept.due_ms, now_ms=kept.due_ms), ACCEPTED
    if kept.due_ms is None:
        # Nobody knows whether the position is in a delay topic.
        return record, ACCEPTED if record.due_as_sent else kept.fate
    return (renew(record, record.due_ms) if isinstance(record, Delayed) else record), kept.fate
