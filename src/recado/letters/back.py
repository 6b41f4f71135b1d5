"""The record that a dead letter becomes when it is redriven: as it was before it died (pure)."""

from __future__ import annotations

import msgspec

from recado.errors import RecadoError
from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.outcomes.dead_letter import HEADER_FAILURE
from recado.outcomes.group_topics import retry_topic, source_of_letters
from recado.outcomes.history import HEADER_HISTORY, History, header_of, history_of
from recado.outcomes.letter import Letter
from recado.outcomes.retry import retry_record
from recado.record import HEADER_ID, Outgoing

__all__ = ["back", "home"]


def home(letter: Letter, message: Message, group: str) -> str:
    """The topic that a letter's record stood in, as far as anything tells. Raises RecadoError where nothing does."""
    history = _told(letter, message, group)
    source = source_of_letters(letter.topic, group) if history is None else history.topic
    if source is None:
        raise RecadoError(f"{letter.topic} is no dead-letter topic of group {group}.")
    return source


def back(letter: Letter, message: Message, group: str, *, partitions: int, value: bytes | None = None) -> Outgoing:
    """The record for the group's retry topic of so many ``partitions``; ``value`` takes the place of its own.

    A letter that does not tell where it stood comes back as one that somebody put into the retry topic by hand.
    """
    given = _told(letter, message, group)
    content = message.value() if value is None else value
    if given is None:
        topic = retry_topic(group, home(letter, message, group))
        headers = list(headers_of(message))
        return Outgoing(topic, content, letter.id, message.key(), headers, letter.partition % partitions)
    place = f"{letter.topic}/{letter.partition}/{letter.offset}"
    history = msgspec.structs.replace(
        given, group=group, attempts=0, due_ms=0, redriven=given.redriven + 1, dead_letter=place
    )
    record = retry_record(message, history, history.partition % partitions)
    headers = [*_before_death(message), (HEADER_ID, record.id.encode()), header_of(history)]
    return msgspec.structs.replace(record, headers=headers, value=content)


def _told(letter: Letter, message: Message, group: str) -> History | None:
    """Where it stood, and what became of it; None where nothing tells."""
    history = history_of(message)
    if history is not None or not letter.source_topic or letter.source_partition < 0 or letter.source_offset < 0:
        return history
    return History(group, letter.source_topic, letter.source_partition, letter.source_offset, letter.timestamp_ms)


def _before_death(message: Message) -> list[tuple[str, bytes | None]]:
    """The headers that the record had before it died: a dead letter's reason stands behind them, id and history, too.

    All of them where another program wrote the letter: nothing tells which were there before.
    """
    headers = list(headers_of(message))
    reason = max((index for index, (name, _) in enumerate(headers) if name == HEADER_FAILURE), default=len(headers))
    return [pair for pair in headers[:reason] if pair[0] not in (HEADER_ID, HEADER_HISTORY)]
