"""When a record shall be delivered: ``deliver_at`` and ``delay``, read into milliseconds since the epoch (pure)."""

from __future__ import annotations

import re

import msgspec

from recado.gateway.moment import checked_moment
from recado.gateway.problem import invalid
from recado.outcomes.delay import MAX_DELAY_MS, delay
from recado.record import Outgoing

__all__ = ["deferred"]

#: What ``delay`` may be: one whole number and one unit. "1h30m" is 90m; two ways to write it would be one too many.
DELAY_RULE = "a whole number and a unit, one of ms, s, m, h, d, such as 500ms or 90m"

_DELAY = re.compile(r"(\d{1,15})(ms|s|m|h|d)", re.ASCII)

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

#: How far a record's timestamp may be ahead (Kafka's default of ``message.timestamp.after.max.ms``).
MAX_AHEAD_MS = 3_600_000

_DAYS = MAX_DELAY_MS // 86_400_000


def deferred(record: Outgoing, deliver_at: int | str | None, after: str | None, now_ms: int) -> Outgoing:
    """The record for a delay topic, or the record itself where it is due already. Raises Problem that names the field.

    ``deliver_at`` follows the rules of a timestamp, ``after`` is the field ``delay``.
    """
    if deliver_at is not None and after is not None:
        raise invalid("delay", "and deliver_at exclude each other.")
    if after is not None:
        due_ms, field, words = now_ms + _delay_ms(after), "delay", after
    elif deliver_at is not None:
        due_ms, field, words = checked_moment("deliver_at", deliver_at), "deliver_at", str(deliver_at)
    else:
        return record
    if due_ms > now_ms + MAX_DELAY_MS:
        raise invalid(field, f"must not be more than {_DAYS} days ahead.")
    record = msgspec.structs.replace(record, due_as_sent=f"{field} {words}")
    if due_ms <= now_ms:
        return record
    if record.timestamp_ms > due_ms + MAX_AHEAD_MS:
        raise invalid("timestamp", "must not be more than an hour after the moment of delivery: Kafka would refuse it.")
    return delay(record, due_ms=due_ms, now_ms=now_ms)


def _delay_ms(text: str) -> int:
    match = _DELAY.fullmatch(text)
    if match is None:
        raise invalid("delay", f"{text[:60]!r} must be {DELAY_RULE}.")
    return int(match.group(1)) * _UNIT_MS[match.group(2)]
