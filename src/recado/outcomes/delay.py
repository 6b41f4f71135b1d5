"""When a delayed record moves on, and how: it hops from delay topic to delay topic, then lands in its target (pure).

A delay topic is FIFO: each record in it waits the same time, so its head tells when to wake. A record hops through the
largest delay that is not longer than what remains; what is then left is shorter than the smallest delay and is waited
for in memory. It never lands early. The gateway's ``deliver_at`` and a worker's retries can use the same topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import Annotated, NamedTuple

import msgspec

from recado.record import Outgoing
from recado.settings import is_topic_name

__all__ = [
    "GROUP",
    "HEADER_DELAY",
    "LEVELS",
    "MAX_DELAY_MS",
    "Delayed",
    "Level",
    "Step",
    "Ticket",
    "delay",
    "hop",
    "is_delay_topic",
    "land",
    "levels_up_to",
    "next_step",
    "opened",
    "park",
    "renew",
    "wake_ms",
]

#: The consumer group that moves delayed records on; every gateway process is one member.
GROUP = "recado.delay"

#: What the names of delay topics begin with.
PREFIX = "recado.delay."

#: First header of a record in a delay topic: a ``Ticket`` as JSON. It is taken off before the target.
HEADER_DELAY = "recado-delay"

#: Farthest that a record may be delayed. Nothing in Kafka bounds it (delay topics keep what has not moved on); it
#: catches the usual mistakes, seconds or microseconds taken for milliseconds, which are decades away.
MAX_DELAY_MS = 30 * 24 * 3_600_000


class Level(NamedTuple):
    """One delay topic: every record in it waits so long."""

    topic: str
    delay_ms: int


#: Each about four times the one before: a record hops at most three times per level (1.5 on average), with 9 topics
#: for 30 days. Factors of ten would make 4.5 hops of 1.5, factors of two twice the topics. The smallest is how long a
#: record may wait in memory; smaller ones would make hops that cost more than the memory they save.
LEVELS = tuple(
    Level(PREFIX + name, seconds * 1000)
    for name, seconds in (
        ("2s", 2),
        ("8s", 8),
        ("30s", 30),
        ("2m", 120),
        ("8m", 480),
        ("30m", 1800),
        ("2h", 7200),
        ("8h", 28_800),
        ("1d", 86_400),
    )
)

#: Level by topic.
BY_TOPIC = {level.topic: level for level in LEVELS}

#: A record that cannot land rests in longer and longer levels, up to this one: 2 s, 8 s … 8 min between two tries.
LONGEST_PARK = 4


class Ticket(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where a delayed record wants to go, and when; it travels in the header ``recado-delay``."""

    due_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    topic: str
    partition: Annotated[int, msgspec.Meta(ge=-1, lt=2**31)] = -1
    #: The record's timestamp in its target; 0 is the time of landing.
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0
    #: How often it could not land.
    tries: Annotated[int, msgspec.Meta(ge=0)] = 0


class Delayed(Outgoing, frozen=True, gc=False):
    """A record on its way into a delay topic: ``topic``, ``headers`` and ``timestamp_ms`` are those it has there."""

    #: Where and when it lands.
    target: str = ""
    target_partition: int = -1
    due_ms: int = 0


class Step(Enum):
    """What a record does next."""

    LAND = "land"
    HOP = "hop"
    WAIT = "wait"


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Ticket).decode


def is_delay_topic(topic: str) -> bool:
    """Tell whether a topic is one of ours, where nobody else writes."""
    return topic.startswith(PREFIX)


def level_for(remaining_ms: int) -> Level:
    """The largest delay that is not longer than what remains; the smallest where all are longer."""
    found = LEVELS[0]
    for level in LEVELS:
        if level.delay_ms > remaining_ms:
            break
        found = level
    return found


def levels_up_to(topic: str) -> tuple[Level, ...]:
    """The level of this topic and all below it: what a record in it will hop through."""
    return LEVELS[: LEVELS.index(BY_TOPIC[topic]) + 1]


def next_step(due_ms: int, now_ms: int) -> Step:
    """What a record does that has waited its time in a delay topic."""
    if due_ms <= now_ms:
        return Step.LAND
    return Step.HOP if due_ms - now_ms >= LEVELS[0].delay_ms else Step.WAIT


def wake_ms(ticket: Ticket, level: Level, since_ms: int, now_ms: int) -> int:
    """When a record that has been in ``level`` since ``since_ms`` moves on.

    It came there by ``now_ms``, whatever the clock of who wrote it says.
    """
    hop_ms = min(since_ms, now_ms) + level.delay_ms
    return hop_ms if ticket.tries else min(hop_ms, ticket.due_ms)


def delay(record: Outgoing, *, due_ms: int, now_ms: int) -> Delayed:
    """The record for a delay topic that makes ``record`` land in its own topic at ``due_ms``.

    A record that has waited elsewhere since needs ``renew``.
    """
    ticket = Ticket(due_ms, record.topic, record.partition, record.timestamp_ms)
    headers = [(HEADER_DELAY, _encode(ticket)), *record.headers]
    level = level_for(due_ms - now_ms)
    return Delayed(
        level.topic,
        record.value,
        record.id,
        record.key,
        headers,
        -1,
        now_ms,
        record.is_own_id,
        record.due_as_sent,
        record.topic,
        record.partition,
        due_ms,
    )


def renew(record: Outgoing, now_ms: int) -> Outgoing:
    """A record for a delay topic that has waited elsewhere, such as on disk while Kafka was away, as it should go now.

    To its target where it is due, else to the level that fits what remains: among records that came on time, one with
    an old stamp would be read too late. Any other record is returned as it is.
    """
    ticket = opened(record.headers) if is_delay_topic(record.topic) else None
    if ticket is None:
        return record
    moved = land if ticket.due_ms <= now_ms else partial(hop, now_ms=now_ms)
    return msgspec.structs.replace(moved(ticket, record.key, record.value, record.headers), id=record.id)


def opened(headers: Sequence[tuple[str, bytes | None]] | None) -> Ticket | None:
    """Read the ticket of a record in a delay topic; None where it is not of ours or names a topic it must not."""
    if not headers or headers[0][0] != HEADER_DELAY:
        return None
    try:
        ticket = _decode(headers[0][1] or b"")
    except msgspec.DecodeError:
        return None
    legal = is_topic_name(ticket.topic) and not ticket.topic.startswith("__") and not is_delay_topic(ticket.topic)
    return ticket if legal else None


def land(
    ticket: Ticket, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> Outgoing:
    """The record for the target, as its sender made it; ``headers`` are those in the delay topic.

    Its ``id`` is left empty, as in ``hop`` and ``park``: it stands in the headers, and nobody here asks for it.
    """
    return Outgoing(ticket.topic, value, "", key, headers[1:], ticket.partition, ticket.timestamp_ms)


def hop(
    ticket: Ticket, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]], now_ms: int
) -> Outgoing:
    """The record for the next delay topic."""
    topic = level_for(ticket.due_ms - now_ms).topic
    return Outgoing(topic, value, "", key, headers, -1, now_ms)


def park(
    ticket: Ticket, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]], now_ms: int
) -> Outgoing:
    """The record for a delay topic where it rests until it may try to land again."""
    level = LEVELS[min(ticket.tries, LONGEST_PARK)]
    again = msgspec.structs.replace(ticket, tries=ticket.tries + 1)
    return Outgoing(level.topic, value, "", key, [(HEADER_DELAY, _encode(again)), *headers[1:]], -1, now_ms)
