"""Where a record is now: in its topic, and how far each group is with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain

import msgspec

from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.kafka.scan import Range
from recado.outcomes.delay import opened
from recado.outcomes.group_topics import is_group_topic
from recado.outcomes.history import Failure, same_topic
from recado.outcomes.settled import What
from recado.record import TopicPartition
from recado.tracking import copies
from recado.tracking.copies import Copy, Source
from recado.tracking.find import find, id_of, known_ms, time_of
from recado.tracking.look import Look, Progress

__all__ = ["FINAL", "STATES", "GroupState", "Whereabouts", "at_offset", "by_id"]

#: Every state, the one that a person should hear of first in front: what a record is where groups differ.
STATES = ("dead", "expired", "retrying", "in progress", "delivered", "discarded", "done")

#: States that nothing follows by itself.
FINAL = ("dead", "discarded", "done", "expired", "unknown")


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """A failed attempt: when, in milliseconds since the epoch, and why in one line."""

    at: int
    error: str


class GroupState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one group is with a record."""

    group: str
    state: str
    #: The newest failed attempts, oldest first; what is done long ago tells of none.
    attempts: list[Attempt] = []
    #: When the next one is due, in milliseconds since the epoch.
    next_attempt_at: int | None = None
    #: Where its dead letter is, as topic/partition/offset.
    dead_letter: str | None = None


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record is. ``timestamp`` and ``deliver_at`` are milliseconds since the epoch; None: it has none (yet)."""

    id: str
    topic: str
    partition: int | None = None
    offset: int | None = None
    timestamp: int | None = None
    state: str
    #: When it is to land in its topic, while it waits for that.
    deliver_at: int | None = None
    #: Why Kafka has refused it after it was accepted: it lies in the spool until somebody forwards or discards it.
    refused: str | None = None
    groups: list[GroupState] = []


def by_id(
    look: Look,
    topic: str,
    id_: str,
    *,
    since_ms: int | None = None,
    groups: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Whereabouts:
    """Where the record with an id is. ``since_ms`` is needed where the id tells no time, and may widen the search.

    ``groups`` limits the answer to these. Raises RecadoError.
    """
    moment_ms = since_ms if since_ms is not None else time_of(id_) or 0
    message = find(look, topic, id_, moment_ms, progress)
    if message is not None:
        return _of(look, message, id_, groups, moment_ms)
    for waiting in look.read(look.delayed(), progress):
        ticket = opened(headers_of(waiting))
        if ticket is not None and ticket.topic == topic and id_of(waiting) == id_:
            return Whereabouts(id=id_, topic=topic, state="accepted", deliver_at=ticket.due_ms)
    if time_of(id_) is not None and id_ != id_.lower():  # a UUID that a person has copied in capitals
        return by_id(look, topic, id_.lower(), since_ms=since_ms, groups=groups, progress=progress)
    source = copies.source_by_id(look, topic, id_, moment_ms, progress)
    if source is None:
        gone = _may_be_gone(look, look.partitions(topic), moment_ms)
        return Whereabouts(id=id_, topic=topic, state="expired" if gone else "unknown")
    return _of_source(look, source, id_, groups, progress)


def at_offset(
    look: Look,
    where: TopicPartition,
    offset: int,
    *,
    groups: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Whereabouts:
    """Where the record is that stood first at this offset. Raises RecadoError.

    In a group's own topic stand copies: the answer is of the record that it is a copy of.
    """
    place = f"{where.topic}/{where.partition}/{offset}"
    if where not in look.partitions(where.topic):
        return _left_over(look, Source("", where, offset, ""), place, groups, progress)
    begin, end = look.admin.begins([where]).get(where, 0), look.admin.ends([where]).get(where, 0)
    if begin <= offset < end:
        if offset >= look.admin.stable_ends([where]).get(where, end):
            look.ends([where])  # behind an open transaction nothing can be read
        for message in look.read({where: Range(offset, offset + 1)}, progress):
            source = copies.source_of(message) if is_group_topic(where.topic) else None
            if source is None:
                return _of(look, message, id_of(message), groups, None)
            return _of_source(look, source, id_of(message), groups, progress, message)
    return _gone(look, where, offset, place, groups, Range(begin, end))


def _of_source(
    look: Look,
    source: Source,
    id_: str,
    groups: Collection[str] | None,
    progress: Progress | None,
    copy: Message | None = None,
) -> Whereabouts:
    """Of the record that a copy is one of."""
    now = look.topic_id(source.where.topic) if source.where in look.partitions(source.where.topic) else None
    if now is None or not same_topic(source.topic_id, now):  # its topic is not there any more
        return _left_over(look, source, id_, groups, progress, copy)
    found = at_offset(look, source.where, source.offset, groups=groups, progress=progress)
    return found if found.timestamp else msgspec.structs.replace(found, id=id_)


def _gone(
    look: Look, where: TopicPartition, offset: int, id_: str, groups: Collection[str] | None, kept: Range
) -> Whereabouts:
    """Of a place that holds no record (any more): a group may have done it before, or have a copy still."""
    # What leaves a group's own topic has moved on: only the record's own place tells where it is.
    otherwise = "expired" if offset < kept.first and not is_group_topic(where.topic) else "unknown"
    found = []
    for group in _those_of(look, where, groups):
        done = "done" if offset < kept.end and look.reached(group, where).covers(offset) else otherwise
        copied = _copied(look, group, where, offset, 0, look.topic_id(where.topic))
        found.append(copied or GroupState(group=group, state=done))
    found = [state for state in found if state.state != "unknown"]
    return _answer(id_, where, offset, found, otherwise)


def _left_over(
    look: Look,
    source: Source,
    id_: str,
    groups: Collection[str] | None,
    progress: Progress | None,
    copy: Message | None = None,
) -> Whereabouts:
    """Of a record whose topic was deleted, and of which some groups have copies still, perhaps ``copy``."""
    where, offset = source.where, source.offset
    letters: dict[str, list[Copy]] = {}
    there = copies.sources(look, where.topic, progress=progress)
    for message, told in there if copy is None else chain([(copy, source)], there):
        its_own = (told.where, told.offset) == (where, offset) and same_topic(told.topic_id, source.topic_id)
        if its_own and (groups is None or told.group in groups):
            letter = copies.letter_copy(look, told, message)
            letters.setdefault(told.group, []).extend([] if letter is None else [letter])
    found = [
        (_copied(look, group, where, offset, 0, source.topic_id) if group else None)
        or _of_letter(group, _last(its_letters))
        or GroupState(group=group, state="done")
        for group, its_letters in sorted(letters.items())
    ]
    return _answer(id_, where, offset, found, "unknown")


def _of(look: Look, message: Message, id_: str, groups: Collection[str] | None, moment_ms: int | None) -> Whereabouts:
    where, offset = TopicPartition(message.topic(), message.partition()), message.offset()
    kind, timestamp_ms = message.timestamp()
    known = time_of(id_) or moment_ms or (timestamp_ms if kind else 0)
    since_ms = min(known, timestamp_ms) if kind else known
    found = [_with(look, group, where, offset, since_ms) for group in _those_of(look, where, groups)]
    return _answer(id_, where, offset, found, "delivered", timestamp_ms if kind else None)


def _those_of(look: Look, where: TopicPartition, groups: Collection[str] | None) -> list[str]:
    """Of which groups the answer is; what stands in a topic of recado's own is no group's record."""
    if is_group_topic(where.topic):
        return []
    return look.with_a_share_in(where) if groups is None else sorted(groups)


def _answer(
    id_: str, where: TopicPartition, offset: int, found: list[GroupState], otherwise: str, timestamp: int | None = None
) -> Whereabouts:
    """What is told of a place: the state on top is the one to worry about most, or ``otherwise`` where no group is."""
    states = {one.state for one in found}
    state = next((state for state in STATES if state in states), otherwise)
    return Whereabouts(
        id=id_,
        topic=where.topic,
        partition=where.partition,
        offset=offset,
        timestamp=timestamp,
        state=state,
        groups=found,
    )


def _with(look: Look, group: str, where: TopicPartition, offset: int, since_ms: int) -> GroupState:
    reached = look.reached(group, where)
    if not reached.covers(offset):
        below = reached.committed is not None and (
            offset == reached.committed or (reached.done is not None and offset < reached.done.top)
        )
        held = below and any(where in member.partitions for member in look.members(group))
        return GroupState(group=group, state="in progress" if held else "delivered")
    if (copied := _copied(look, group, where, offset, since_ms, look.topic_id(where.topic))) is not None:
        return copied
    return GroupState(group=group, state="done")


def _copied(
    look: Look, group: str, where: TopicPartition, offset: int, since_ms: int, topic_id: str
) -> GroupState | None:
    """What a group's copies tell of a record that was sent at ``since_ms``; None: it needs none any more."""

    def last(found: Iterable[Copy]) -> Copy | None:
        return _last(
            copy for copy in found if same_topic(copy.topic_id, topic_id) and (copy.partition, copy.first) == first
        )

    first = (where.partition, offset)
    letter = last(copies.dead(look, group, where.topic, since_ms))
    back = last(copies.waiting(look, group, where.topic)) or last(copies.delayed(look, group, where.topic))
    if back is not None:
        return GroupState(
            group=group, state="retrying", attempts=_told(back.failures), next_attempt_at=back.due_ms or None
        )
    if (told := _of_letter(group, letter)) is not None:
        return told
    since_ms = known_ms(since_ms)
    newest_discard_ms = max((note.at for note in look.settled(group).discards.values()), default=0)
    # What was discarded may be this one only where it was there by then.
    settled: list[What] = ["redriven"] if since_ms <= newest_discard_ms else ["redriven", "discarded"]
    lost = copies.deleted_letters(look, group, where.topic, but=settled)
    return GroupState(group=group, state="expired") if _may_be_gone(look, lost, since_ms) else None


def _of_letter(group: str, letter: Copy | None) -> GroupState | None:
    """What a dead letter tells; None: what is redriven and not waiting is done."""
    if letter is None or letter.settled == "redriven":
        return None
    place = f"{letter.at.topic}/{letter.at.partition}/{letter.offset}"
    return GroupState(group=group, state=letter.settled or "dead", attempts=_told(letter.failures), dead_letter=place)


def _last(its_own: Iterable[Copy]) -> Copy | None:
    """The one of a record's copies that tells how it is.

    They may lie in several partitions, so their order tells little: one that is not settled goes first, as in the
    books, then the newest failure.
    """
    return max(reversed(list(its_own)), key=_weight, default=None)


def _weight(copy: Copy) -> tuple[int, int]:
    settled = ("redriven", "discarded", None).index(copy.settled)
    return settled, copy.failures[-1].at_ms if copy.failures else 0


def _told(failures: Iterable[Failure]) -> list[Attempt]:
    return [Attempt(failure.at_ms, failure.error) for failure in failures]


def _may_be_gone(look: Look, partitions: Iterable[TopicPartition], moment_ms: int) -> bool:
    """Whether a record of that time may have been deleted: nothing as old is kept where something was."""
    begins = look.admin.begins(list(partitions))
    deleted = [where for where, begin in begins.items() if begin > 0]
    firsts = look.admin.since(deleted, moment_ms) if deleted else {}
    return any(firsts.get(where) == begins[where] for where in deleted)
