"""Following letters that came back to their end, instead of reporting that they were sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from recado.kafka.scan import SPARING, Range
from recado.letters.origins import Origins
from recado.outcomes.letter import letter_of
from recado.outcomes.settled import Job
from recado.tracking import copies
from recado.tracking.look import Look, Progress

__all__ = ["Fates", "brought_back", "fates"]


class Fates(NamedTuple):
    """What became of letters that were redriven."""

    done: int
    dead_again: int
    waiting: int


def brought_back(look: Look, group: str, job: Job) -> Origins:
    """Where the records stood first that a redrive has brought back so far, here or elsewhere.

    Empty where it has its end, or where another one has begun since: then nobody knows any more which they were.
    """
    found = Origins()
    for where, first, bits in look.settled(group).job_letters.of(job.id):
        span = Range(first + bits.min(), first + bits.max() + 1)
        for message in look.read({where: span}, pace=SPARING):
            if message.offset() - first in bits:
                letter = letter_of(message)
                found.add(letter.source_topic, letter.source_partition, letter.source_offset)
    return found


def fates(
    look: Look, group: str, redriven: Origins, ends: Mapping[str, int], progress: Progress | None = None
) -> Fates:
    """What has become of these by now; ``ends`` is where the dead letters ended before, by topic/partition."""
    waits = Origins()
    for topic in redriven.topics:
        for some in (copies.waiting(look, group, topic, progress), copies.delayed(look, group, topic, progress)):
            for one in some:
                if (topic, one.partition, one.first) in redriven:
                    waits.add(topic, one.partition, one.first)
    died = _dead(look, redriven, ends, progress)
    waiting = len(waits) - sum(origin in waits for origin in died)
    return Fates(len(redriven) - waiting - len(died), len(died), waiting)


def _dead(
    look: Look, redriven: Origins, ends: Mapping[str, int], progress: Progress | None
) -> set[tuple[str, int, int]]:
    """Those of which there is a newer dead letter."""
    topics = {name.rpartition("/")[0] for name in ends}
    partitions = [where for topic in topics for where in look.partitions(topic)]
    now = look.admin.ends(partitions)
    ranges = {where: Range(ends.get(f"{where.topic}/{where.partition}", 0), end) for where, end in now.items()}
    found = set()
    for message in look.read(ranges, progress):
        letter = letter_of(message)
        origin = (letter.source_topic, letter.source_partition, letter.source_offset)
        if origin in redriven:
            found.add(origin)
    return found
