"""Whether a worker is ready, and if not, why: a look at its state, from any thread."""

from __future__ import annotations

from collections.abc import Iterable

from recado.kafka.abstract import Consumer
from recado.kafka.lending import ShareConsumer
from recado.worker.handling.guard import Guard
from recado.worker.handling.holdings import Holdings
from recado.worker.handling.pause import Pause
from recado.worker.reporting.audit import Audit
from recado.worker.reporting.health import Reason

__all__ = ["CODES", "reasons_not_ready"]

#: Every code that a reason may have.
CODES = (
    "done-ids",
    "draining",
    "handler-paused",
    "kafka-unreachable",
    "not-assigned",
    "not-owned",
    "not-taken",
    "partition-stopped",
    "stalled",
    "unknown-member",
)


def reasons_not_ready(
    consumer: Consumer | ShareConsumer,
    holdings: Holdings,
    guards: Iterable[Guard],
    pauses: Iterable[Pause],
    audit: Audit | None,
    *,
    ends: bool,
) -> list[Reason]:
    """Every reason, each with a stable ``code`` and a ``detail`` for a person; empty when ready."""
    reasons: list[Reason] = []
    if ends:
        reasons.append({"code": "draining", "detail": "This worker is shutting down."})
    elif not consumer.reachable:
        reasons.append({"code": "kafka-unreachable", "detail": "No Kafka broker answers."})
    elif not holdings.joined:
        reasons.append({"code": "not-assigned", "detail": "The group has not given this worker its partitions yet."})
    reasons += [{"code": "done-ids", "detail": guard.trouble} for guard in guards if guard.trouble]
    reasons += [{"code": "handler-paused", "detail": pause.reason} for pause in pauses if pause.reason]
    if audit is not None and not ends:
        reasons += audit.reasons()
    for epoch in holdings.snapshot():
        if (halt := epoch.stop) is not None:
            reasons.append(
                {
                    "code": "partition-stopped",
                    "detail": f"{epoch.topic}/{epoch.partition} waits at offset {halt.offset}: {halt.reason}",
                    "topic": epoch.topic,
                    "partition": epoch.partition,
                    "offset": halt.offset,
                    "attempt": halt.attempt,
                    "error": halt.reason,
                }
            )
    return reasons
