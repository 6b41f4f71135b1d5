"""Following letters that came back to their end, instead of reporting that they were sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

from recado.kafka.scan import Range
from recado.outcomes.group_topics import retry_topic
from recado.outcomes.letter import letter_of
from recado.tracking import copies
from recado.tracking.look import Look

__all__ = ["Fates", "fates"]

#: Where a record stood first: topic, partition, offset.
Origin = tuple[str, int, int]


class Fates(NamedTuple):
    """What became of letters that were redriven."""

    done: int
    dead_again: int
    waiting: int


def fates(look: Look, group: str, redriven: Collection[Origin], ends: Mapping[str, int]) -> Fates:
    """What has become of these by now; ``ends`` is where the dead letters ended before, by topic/partition."""
    by_topic: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for topic, partition, first in redriven:
        by_topic[topic].add((partition, first))
    waits: set[Origin] = set()
    for topic, wanted in by_topic.items():
        look.admin.wait_stable(look.partitions(retry_topic(group, topic)))
        for some in (copies.waiting(look, group, topic, None), copies.delayed(look, group, topic)):
            waits |= {(topic, one.partition, one.first) for one in some if (one.partition, one.first) in wanted}
    died = _dead(look, set(redriven), ends)
    waits -= died
    return Fates(len(redriven) - len(waits) - len(died), len(died), len(waits))


def _dead(look: Look, redriven: set[Origin], ends: Mapping[str, int]) -> set[Origin]:
    """Those of which there is a newer dead letter."""
    topics = {name.rpartition("/")[0] for name in ends}
    partitions = [where for topic in topics for where in look.partitions(topic)]
    now = look.admin.ends(partitions)
    ranges = {where: Range(ends.get(f"{where.topic}/{where.partition}", 0), end) for where, end in now.items()}
    found = set()
    for message in look.read(ranges):
        letter = letter_of(message)
        origin = (letter.source_topic, letter.source_partition, letter.source_offset)
        if origin in redriven:
            found.add(origin)
    return found
