"""Places that a person writes: TOPIC/PARTITION/OFFSET."""

from __future__ import annotations

import re

from recado.record import TopicPartition

__all__ = ["place_of"]

#: So many digits as no partition (int32) and no offset (int64) needs more of.
_PLACE = re.compile(r"([^/]+)/(\d{1,9})/(\d{1,18})", re.ASCII)


def place_of(text: str) -> tuple[TopicPartition, int] | None:
    """The partition and the offset; None where the text is no place."""
    found = _PLACE.fullmatch(text)
    if found is None:
        return None
    topic, partition, offset = found.groups()
    return TopicPartition(topic, int(partition)), int(offset)
