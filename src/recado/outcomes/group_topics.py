"""The topics that belong to a group and one of its topics: their names, and what they are created with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from recado.errors import ConfigurationError
from recado.outcomes.delay import is_delay_topic

__all__ = [
    "CONFIG",
    "DEAD_LETTER",
    "dead_letter_topic",
    "is_group_topic",
    "may_be_shared",
    "retry_topic",
    "roomy",
    "settled_topic",
    "source_of",
    "source_of_letters",
]

#: What the names begin with.
RETRY, DEAD_LETTER, SETTLED = "retry.", "dlq.", "recado.settled."

#: Kafka's longest topic name, in characters.
MAX_NAME = 249

#: What a copy may weigh beyond the largest record: its headers, a ticket perhaps, and the framing of a batch.
EXTRA_BYTES = 65_536

#: What Kafka is told of such a topic: time must never delete a record that is not settled.
CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "CreateTime",
}


def roomy(config: Mapping[str, str], *largest: int) -> dict[str, str]:
    """What a topic of copies is told when it is made: it takes the largest of these with what a copy carries beside."""
    return {**config, "max.message.bytes": str(max(largest) + EXTRA_BYTES)}


def retry_topic(group: str, topic: str) -> str:
    """Where records of a topic wait for another attempt by a group. Raises ConfigurationError where it is too long."""
    return _checked(f"{RETRY}{_legal(group)}.{topic}", group, topic)


def dead_letter_topic(group: str, topic: str) -> str:
    """Where records of a topic go that a group gave up. Raises ConfigurationError where the name is too long."""
    return _checked(f"{DEAD_LETTER}{_legal(group)}.{topic}", group, topic)


def settled_topic(group: str) -> str:
    """Where it stands which dead letters of a group are settled. Raises ConfigurationError where it is too long."""
    return _checked(f"{SETTLED}{_legal(group)}", group, "")


def source_of(topic: str, group: str) -> str | None:
    """The topic whose retry topic this is for the group; None where it is another one.

    ``a.b`` and ``c``, ``a`` and ``b.c`` make the same name, so a record in it tells whose it is (``History.group``).
    """
    return _source(topic, f"{RETRY}{_legal(group)}.")


def source_of_letters(topic: str, group: str) -> str | None:
    """The topic whose dead letters of the group are here; likewise a letter tells whose it is."""
    return _source(topic, f"{DEAD_LETTER}{_legal(group)}.")


def _source(topic: str, start: str) -> str | None:
    return topic[len(start) :] if topic.startswith(start) and len(topic) > len(start) else None


def may_be_shared(group: str, topic: str) -> bool:
    """Whether the name of such a topic may be another group's, too: only a dot makes a name that can be split twice."""
    return "." in group or "." in topic


def is_group_topic(topic: str) -> bool:
    """Whether a topic belongs to recado and not to users: no pattern means it."""
    return topic.startswith((RETRY, DEAD_LETTER, SETTLED)) or is_delay_topic(topic)


def _legal(group: str) -> str:
    """A group's name as part of a topic's: what a topic may not hold is replaced, and a hash tells them apart."""
    name = re.sub(r"[^a-zA-Z0-9._-]", "_", group)
    return name if name == group else f"{name}-{hashlib.blake2b(group.encode(), digest_size=4).hexdigest()}"


def _checked(name: str, group: str, topic: str) -> str:
    if len(name) > MAX_NAME:
        detail = f"{name!r} has {len(name)} characters, and Kafka allows {MAX_NAME}"
        raise ConfigurationError(f"group {group!r} and topic {topic!r} are too long together: {detail}.")
    return name
