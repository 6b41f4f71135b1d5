"""Which of a request's records are still to be sent, and how old and new fates go together (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from recado.gateway.answer import Fate
from recado.gateway.reader import Submission

__all__ = ["together", "unsent"]


def unsent(submission: Submission, known: Mapping[int, Fate]) -> Submission | None:
    """The request without what was sent before; None where nothing is left."""
    if not known:
        return submission
    records = [record for index, record in enumerate(submission.records) if index not in known]
    if not records:
        return None
    return submission._replace(records=records, topics=Counter(record.topic for record in records))


def together(known: Mapping[int, Fate], new: Sequence[Fate]) -> list[Fate]:
    """The fates of all records in their order."""
    rest = iter(new)
    return [known[index] if index in known else next(rest) for index in range(len(known) + len(new))]
