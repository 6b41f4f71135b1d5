"""Which dead letters are meant (pure): no filter runs code."""

from __future__ import annotations

from functools import cached_property

import msgspec

from recado.kafka.abstract import Message
from recado.outcomes.glance import glance_of
from recado.outcomes.group_topics import source_of_letters
from recado.outcomes.letter import letter_of
from recado.record import TopicPartition

__all__ = ["Filter"]


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """All of what is given must hold; nothing given means every letter. Times are milliseconds since the epoch."""

    #: Exactly these, as topic/partition/offset.
    letters: list[str] = []
    #: Of this source topic.
    topic: str = ""
    #: With this fingerprint.
    kind: str = ""
    key: str | None = None
    #: Somewhere in the value or the error's message.
    text: str = ""
    since: int = 0
    until: int = 0

    @property
    def is_over_before_it_begins(self) -> bool:
        """Whether its span holds no moment, so that it can mean none."""
        return 0 < self.until <= self.since

    def means(self, message: Message, group: str) -> bool:
        """Whether a letter of a group is meant. What is cheap to know is looked at first: a search reads many."""
        return self._means_place(message) and self._means_time(message) and self._means_content(message, group)

    def _means_place(self, message: Message) -> bool:
        if not self.letters:
            return True
        return f"{message.topic()}/{message.partition()}/{message.offset()}" in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        """What ``letters`` names: thousands may be, and each record is looked up."""
        return frozenset(self.letters)

    def _means_time(self, message: Message) -> bool:
        if not (self.since or self.until):
            return True
        kind, at_ms = message.timestamp()
        at_ms = at_ms if kind else -1
        return at_ms >= self.since and (not self.until or at_ms < self.until)

    def _means_content(self, message: Message, group: str) -> bool:
        if self.key is not None and message.key() != self.key.encode():
            return False
        if self.text and self.text.encode() not in (message.value() or b"") and self.text not in _error(message):
            return False
        if self.kind and glance_of(message).fingerprint != self.kind:
            return False
        return not self.topic or _source(message, group) == self.topic

    def places(self) -> dict[TopicPartition, list[int]] | None:
        """The offsets that it names, ascending; None where it names none."""
        if not self.letters:
            return None
        found: dict[TopicPartition, list[int]] = {}
        for letter in self.letters:
            topic, partition, offset = letter.split("/")
            found.setdefault(TopicPartition(topic, int(partition)), []).append(int(offset))
        return {where: sorted(set(offsets)) for where, offsets in found.items()}


def _source(message: Message, group: str) -> str | None:
    """Where no header tells it, the name of the topic that the letter lies in does."""
    return letter_of(message).source_topic or source_of_letters(message.topic(), group)


def _error(message: Message) -> str:
    return letter_of(message).error_message
