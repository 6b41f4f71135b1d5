"""How long records took from accepted to done: counted by the run, because a look at each would cost too much."""

from __future__ import annotations

from collections.abc import Sequence

from recado.kafka.abstract import Message
from recado.telemetry.metrics import WORKER_DONE_SECONDS
from recado.worker.accepted import accepted_ms

__all__ = ["note_done", "note_done_since"]


def note_done(topic: str, messages: Sequence[Message], now_ms: int) -> None:
    """Count records of one run that are done now.

    Those of a run were accepted one after the other, about: where the first and the last fall into one bucket, so do
    all between; else each half is looked at by itself.
    """
    first_s = _age_s(messages[0], now_ms)
    if len(messages) == 1:
        _count(topic, first_s, 1)
    else:
        _spread(topic, messages, 0, first_s, len(messages) - 1, _age_s(messages[-1], now_ms), now_ms)


def note_done_since(topic: str, accepted: Sequence[int], now_ms: int) -> None:
    """Count records that are done now, by when each was accepted (milliseconds; below 1: unknown)."""
    for at_ms in accepted:
        if at_ms > 0:
            WORKER_DONE_SECONDS.observe(topic, max(0, now_ms - at_ms) / 1000)


def _spread(
    topic: str, messages: Sequence[Message], first: int, first_s: float, last: int, last_s: float, now_ms: int
) -> None:
    count = last - first + 1
    if WORKER_DONE_SECONDS.bucket(first_s) == WORKER_DONE_SECONDS.bucket(last_s):
        _count(topic, (first_s + last_s) / 2, count)
        return
    if count <= 2:
        _count(topic, first_s, 1)
        _count(topic, last_s, count - 1)
        return
    middle = (first + last) // 2
    _spread(topic, messages, first, first_s, middle, _age_s(messages[middle], now_ms), now_ms)
    _spread(topic, messages, middle + 1, _age_s(messages[middle + 1], now_ms), last, last_s, now_ms)


def _count(topic: str, seconds: float, count: int) -> None:
    if count and seconds >= 0:
        WORKER_DONE_SECONDS.observe(topic, seconds, count)


def _age_s(message: Message, now_ms: int) -> float:
    """Negative where nothing tells."""
    at_ms = accepted_ms(message, now_ms)
    return max(0, now_ms - at_ms) / 1000 if at_ms > 0 else -1.0
