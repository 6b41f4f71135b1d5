"""The ledger of a group, read from Kafka alone, while workers run or afterwards."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from recado.errors import UnknownTopic
from recado.kafka.scan import Range
from recado.outcomes.delay import GROUP as DELAY_GROUP
from recado.outcomes.group_topics import is_group_topic, retry_topic
from recado.outcomes.history import same_topic
from recado.record import TopicPartition
from recado.tracking import copies
from recado.tracking.copies import Copy
from recado.tracking.ledger import Books, Entry, Problem, balance, problem
from recado.tracking.look import Look, Progress

__all__ = ["certain", "topics_of", "verify"]

#: Rest before what does not balance is looked at again, in seconds: one question is answered after the other, and
#: meanwhile records move.
AGAIN_S = 2.0


def topics_of(look: Look, group: str) -> list[str]:
    """The topics that a group handles: it has committed there, and they are not its own."""
    found = {where.topic for where in look.lags(group) if not is_group_topic(where.topic)}
    return sorted(topic for topic in found if topic in look.counts)


def verify(
    look: Look, group: str, topics: Iterable[str], *, read: bool = False, progress: Progress | None = None
) -> Books:
    """Make up the books of a group in these topics.

    Every offset counts as a record; with ``read`` the records themselves are read, so that transaction markers and what
    compaction took do not count. Raises UnknownTopic and other RecadoErrors.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    earlier = _Earlier()
    for topic in topics:
        if topic not in look.counts:
            raise UnknownTopic(f"topic {topic} does not exist.")
        found, more = _of_topic(look, group, topic, read, progress, earlier)
        entries += found
        problems += more
    problems += _expired(look, DELAY_GROUP, look.delay_partitions())
    return Books(group=group, entries=entries, problems=problems, earlier=earlier.left)


def certain(make_up: Callable[[], Books]) -> Books:
    """Make up the books, and once more where they do not balance: what lasts is no movement between two answers."""
    books = make_up()
    if not books.balanced:
        time.sleep(AGAIN_S)
        books = make_up()
    return books


class _Earlier:
    """Copies whose record stood in an earlier topic of the name: no offset of today's books is theirs."""

    def __init__(self) -> None:
        #: Those that wait or are dead.
        self.left = 0

    def without(self, copies: Iterable[Copy], topic_id: str) -> Iterator[Copy]:
        """The copies of today's records; the others are counted."""
        for copy in copies:
            if same_topic(copy.topic_id, topic_id):
                yield copy
            else:
                self.left += copy.settled is None


def _of_topic(
    look: Look, group: str, topic: str, read: bool, progress: Progress | None, earlier: _Earlier
) -> tuple[list[Entry], list[Problem]]:
    topic_id = look.topic_id(topic)
    reached = {where: look.reached(group, where) for where in look.partitions(topic)}
    # What leaves a partition is in its new place before the offset says so; so look there afterwards.
    on_its_way = chain(copies.delayed(look, group, topic, progress), copies.waiting(look, group, topic, progress))
    retrying = _by_partition(earlier.without(on_its_way, topic_id))
    letters = list(earlier.without(copies.dead(look, group, topic, progress=progress), topic_id))
    dead = _by_partition(one for one in letters if one.settled is None)
    discarded = _by_partition(one for one in letters if one.settled == "discarded")
    begins, ends = look.admin.begins(list(reached)), look.admin.stable_ends(list(reached))
    log_ends = look.admin.ends(list(reached))
    kept = {where: Range(begins.get(where, 0), ends.get(where, begins.get(where, 0))) for where in reached}
    records: dict[TopicPartition, list[int]] = {where: [] for where in reached} if read else {}
    if read:
        for message in look.read(kept, progress):
            records[TopicPartition(message.topic(), message.partition())].append(message.offset())
    entries = [
        balance(
            group=group,
            topic=topic,
            partition=where.partition,
            kept=kept[where],
            reached=how_far,
            retrying=retrying[where.partition],
            dead=dead[where.partition],
            discarded=discarded[where.partition],
            records=records.get(where),
            log_end=log_ends.get(where),
        )
        for where, how_far in reached.items()
    ]
    unsettled = copies.deleted_letters(look, group, topic, but=("redriven", "discarded"))
    gone = [problem("expired", where.topic, where.partition, offsets) for where, offsets in unsettled.items()]
    return entries, _expired(look, group, look.partitions(retry_topic(group, topic))) + gone


def _by_partition(found: Iterable[Copy]) -> defaultdict[int, set[int]]:
    """The offsets where these records stood first, by partition."""
    offsets: defaultdict[int, set[int]] = defaultdict(set)
    for copy in found:
        offsets[copy.partition].add(copy.first)
    return offsets


def _expired(look: Look, group: str, partitions: list[TopicPartition]) -> list[Problem]:
    """What was deleted in a group's own topic before it had moved on."""
    found = []
    for where, begin in look.admin.begins(partitions).items():
        committed = look.reached(group, where).committed
        if committed is not None and committed < begin:
            found.append(problem("expired", where.topic, where.partition, range(committed, begin)))
    return found
