"""What an HTTP answer says of each record that was sent: pure."""

from __future__ import annotations

import json
from typing import Any

from recado.torture.history import Answered, Fate

__all__ = ["UNKNOWN", "read_answer"]

UNKNOWN = Answered(Fate.UNKNOWN)

#: The media type of a refusal (RFC 9457).
PROBLEM = "application/problem+json"

#: The media type of results, one a line.
LINES = "application/x-ndjson"

#: What a result says, and the statuses under which it may stand: 207 wherever fates differ.
_WORDS = {
    "delivered": (Fate.DELIVERED, (200, 207)),
    "accepted": (Fate.ACCEPTED, (202, 207)),
    "failed": (Fate.REFUSED, (207, *range(400, 504))),
    "unknown": (Fate.UNKNOWN, (504, 207)),
}


def read_answer(status: int, media_type: str, body: bytes, count: int) -> tuple[Answered, ...]:
    """Return what the answer says of each of ``count`` records.

    Raises ValueError for an answer that the contract does not have: neither a result for each record, under a
    status that fits, nor a refusal of all.
    """
    if media_type.startswith(PROBLEM):
        return (_refusal(status, json.loads(body)),) * count
    if media_type.startswith(LINES):
        results = [json.loads(line) for line in body.splitlines() if line.strip()]
    else:
        content = json.loads(body)
        results = content if isinstance(content, list) else [content]
    if len(results) != count:
        raise ValueError(f"{len(results)} results for {count} records")
    return tuple(_answered(result, status) for result in results)


def _refusal(status: int, problem: dict[str, Any]) -> Answered:
    """A problem document is about all of them: nothing was accepted, unless the outcome is unknown."""
    if status == 504:
        return UNKNOWN
    if not 400 <= status <= 503 or status == 500:
        raise ValueError(f"status {status} with the problem {problem.get('code')!r}")
    return Answered(Fate.REFUSED, str(problem.get("id", "")))


def _answered(result: dict[str, Any], status: int) -> Answered:
    word = str(result.get("status"))
    fate, statuses = _WORDS.get(word, (Fate.UNKNOWN, ()))
    if status not in statuses:
        raise ValueError(f"status {status} with a record that is {word}")
    if fate is Fate.DELIVERED:
        return Answered(fate, result["id"], result["partition"], result["offset"])
    if fate is Fate.ACCEPTED:
        return Answered(fate, result["id"])
    return Answered(fate, str(result.get("id", "")))
