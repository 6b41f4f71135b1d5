"""Which of a request's records are still to be sent, and how old and new fates go together (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from recado.gateway.reader import Submission
from recado.kafka.delivery import Delivery, Fate

__all__ = ["together", "unsent"]


def unsent(submission: Submission, known: Mapping[int, Fate]) -> Submission | None:
    """The request without what was sent before; None where nothing is left."""
    if not known:
        return submission
    records = [record for index, record in enumerate(submission.records) if index not in known]
    if not records:
        return None
    return submission._replace(records=records, topics=Counter(record.topic for record in records))


def together(submission: Submission, known: Mapping[int, Fate], new: Sequence[Fate]) -> Delivery:
    """The request's records with the fates of all, in their order."""
    rest = iter(new)
    whole = Delivery(submission.records, lambda delivery: None)
    whole.fates = [known[index] if index in known else next(rest) for index in range(len(submission.records))]
    whole.outstanding = 0
    return whole
