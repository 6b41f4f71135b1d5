"""Which dead letters are meant (pure): no filter runs code."""

from __future__ import annotations

import msgspec

from recado.kafka.abstract import Message
from recado.outcomes.letter import Letter
from recado.record import TopicPartition

__all__ = ["Filter"]


class Filter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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

    def means(self, letter: Letter, message: Message) -> bool:
        """Whether a letter is meant."""
        place = f"{letter.topic}/{letter.partition}/{letter.offset}"
        key = message.key()
        return (
            (not self.letters or place in self.letters)
            and (not self.topic or letter.source_topic == self.topic)
            and (not self.kind or letter.fingerprint == self.kind)
            and (self.key is None or (key is not None and key == self.key.encode()))
            and (not self.text or self._holds_text(letter, message))
            and (not self.since or letter.timestamp_ms >= self.since)
            and (not self.until or letter.timestamp_ms < self.until)
        )

    def _holds_text(self, letter: Letter, message: Message) -> bool:
        return self.text in letter.error_message or self.text.encode() in (message.value() or b"")

    def places(self) -> dict[TopicPartition, list[int]] | None:
        """The offsets that it names, ascending; None where it names none."""
        if not self.letters:
            return None
        found: dict[TopicPartition, list[int]] = {}
        for letter in self.letters:
            topic, partition, offset = letter.split("/")
            found.setdefault(TopicPartition(topic, int(partition)), []).append(int(offset))
        return {where: sorted(set(offsets)) for where, offsets in found.items()}
