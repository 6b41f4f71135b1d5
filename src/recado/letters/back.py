"""The record that a dead letter becomes when it is redriven: as it was before it died (pure)."""

from __future__ import annotations

import msgspec

from recado.kafka.abstract import Message
from recado.outcomes.dead_letter import HEADER_FAILURE
from recado.outcomes.history import HEADER_HISTORY, History, header_of, history_of
from recado.outcomes.letter import Letter
from recado.outcomes.retry import retry_record
from recado.record import HEADER_ID, Outgoing

__all__ = ["back"]


def back(letter: Letter, message: Message, group: str, *, partitions: int, value: bytes | None = None) -> Outgoing:
    """The record for the group's retry topic, of so many ``partitions``; ``value`` takes the place of its own."""
    given = history_of(message) or History(
        group, letter.source_topic, letter.source_partition, letter.source_offset, letter.timestamp_ms
    )
    place = f"{letter.topic}/{letter.partition}/{letter.offset}"
    history = msgspec.structs.replace(
        given, group=group, attempts=0, due_ms=0, redriven=given.redriven + 1, dead_letter=place
    )
    record = retry_record(message, history, history.partition % partitions)
    headers = [*_before_death(message), (HEADER_ID, record.id.encode()), header_of(history)]
    return msgspec.structs.replace(record, headers=headers, value=message.value() if value is None else value)


def _before_death(message: Message) -> list[tuple[str, bytes | None]]:
    """The headers that the record had before it died: a dead letter's reason stands behind them, id and history, too.

    All of them where another program wrote the letter: nothing tells which were there before.
    """
    headers = list(message.headers() or ())
    reason = max((index for index, (name, _) in enumerate(headers) if name == HEADER_FAILURE), default=len(headers))
    return [pair for pair in headers[:reason] if pair[0] not in (HEADER_ID, HEADER_HISTORY)]
