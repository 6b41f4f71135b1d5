"""What the gateway says and counts of delayed records (pure, but for the counting)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from recado.kafka.delivery import Delivery
from recado.outcomes.delay import Delayed, is_delay_topic
from recado.record import Outgoing
from recado.telemetry import metrics

__all__ = ["accepted", "any_delayed", "count_accepted", "destination", "destinations", "success_status"]


def any_delayed(topics: Iterable[str]) -> bool:
    """Tell from the topics of a submission whether a record of it may be delayed: a look at each would cost."""
    return any(map(is_delay_topic, topics))


def destination(record: Outgoing) -> tuple[str, int]:
    """The topic and partition (-1 is any) that the sender asked for."""
    if isinstance(record, Delayed):
        return record.target, record.target_partition
    return record.topic, record.partition


def destinations(records: Sequence[Outgoing]) -> set[str]:
    """The topics that the senders asked for."""
    return {destination(record)[0] for record in records}


def success_status(record: Outgoing) -> int:
    """The status of a record that Kafka has: 202 while it is not yet in its target."""
    return 202 if isinstance(record, Delayed) else 200


def accepted(record: Delayed) -> dict[str, Any]:
    """What to say of a delayed record that Kafka has."""
    at = datetime.fromtimestamp(record.due_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {"status": "accepted", "id": record.id, "topic": record.target, "deliver_at": at.replace("+00:00", "Z")}


def count_accepted(delivery: Delivery) -> None:
    """Count the delayed records that Kafka has, by target."""
    pairs = zip(delivery.records, delivery.fates, strict=True)
    found = Counter(r.target for r, fate in pairs if isinstance(r, Delayed) and isinstance(fate, tuple))
    for topic, number in found.items():
        metrics.DELAY_ACCEPTED.add((topic,), number)
