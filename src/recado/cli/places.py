"""Places that a person writes: TOPIC/PARTITION/OFFSET."""

from __future__ import annotations

from recado.record import TopicPartition

__all__ = ["place_of"]


def place_of(text: str) -> tuple[TopicPartition, int] | None:
    """The partition and the offset; None where the text is no place."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        return None
    return TopicPartition(topic, int(partition)), int(offset)
