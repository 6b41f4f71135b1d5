"""The desk: where one program at a time settles the dead letters of a group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from uuid_utils import uuid7

from recado.clock import wall_clock_ms
from recado.errors import UnknownLetter, UnknownTopic
from recado.kafka.abstract import Message
from recado.kafka.clients import ClusterClients
from recado.kafka.exclusive import Exclusive
from recado.kafka.peek import Peek
from recado.kafka.scan import SPARING, Range
from recado.letters.back import back, home
from recado.letters.filter import Filter
from recado.letters.origins import Origin
from recado.outcomes.group_topics import CONFIG as RETRY_CONFIG
from recado.outcomes.group_topics import retry_topic, roomy, settled_topic
from recado.outcomes.letter import Letter, letter_of
from recado.outcomes.settled import CONFIG, Discard, Job
from recado.record import Outgoing, TopicPartition, name_of
from recado.settings import Settings
from recado.tracking.look import Look

__all__ = ["BATCH", "Desk", "Found", "batches", "check", "check_topic", "ends_of", "found", "gone"]

#: Letters that one transaction settles, and their bytes: a stop waits for no more than one of them.
BATCH = 500
BATCH_BYTES = 8_000_000

#: Letters that a discard names one by one.
NAMED = 20


class Found(NamedTuple):
    """A dead letter that is meant and not settled."""

    letter: Letter
    message: Message

    @property
    def at(self) -> tuple[TopicPartition, int]:
        """Where it lies."""
        return TopicPartition(self.letter.topic, self.letter.partition), self.letter.offset

    @property
    def origin(self) -> Origin:
        """Where its record stood first."""
        return Origin(self.letter.source_topic, self.letter.source_partition, self.letter.source_offset)


def found(
    look: Look, group: str, wanted: Filter, ends: dict[str, int], progress: Callable[[int, int], None] | None = None
) -> Iterator[Found]:
    """The letters that are meant and not settled, in offset order by partition, up to where ``ends`` says."""
    settled = look.settled(group)
    for message in look.read(_ranges(look, group, wanted, ends), progress, pace=SPARING):
        if settled.of(message.topic(), message.partition(), message.offset()) is None:
            one = _meant(message, group, wanted)
            if one is not None:
                yield one


def _meant(message: Message, group: str, wanted: Filter) -> Found | None:
    """A record as the letter that it is; None where it is not meant, or another group's."""
    if not wanted.means(message, group):
        return None
    letter = letter_of(message)
    return Found(letter, message) if letter.group in ("", group) else None


def batches(letters: Iterator[Found], size: int = BATCH) -> Iterator[list[Found]]:
    """What may be settled at once: so many letters, or so many bytes."""
    batch: list[Found] = []
    held_bytes = 0
    for one in letters:
        batch.append(one)
        held_bytes += len(one.message)
        if len(batch) >= min(size, BATCH) or held_bytes >= BATCH_BYTES:
            yield batch
            batch, held_bytes = [], 0
    if batch:
        yield batch


def ends_of(look: Look, group: str) -> dict[str, int]:
    """Where the group's dead letters end now, by topic/partition."""
    ends = look.admin.ends(look.letter_partitions(group))
    return {f"{where.topic}/{where.partition}": end for where, end in ends.items()}


def gone(look: Look, group: str, one: Found) -> str | None:
    """The topic that a letter cannot come back to: neither it nor its retry topic is there. None where it can."""
    source = home(one.letter, one.message, group)
    return None if source in look.counts or retry_topic(group, source) in look.counts else source


def check_topic(look: Look, group: str, topic: str) -> None:
    """Raise UnknownTopic for a source topic that is not there, and of which no letters are either; all may be meant."""
    if topic and topic not in look.counts and not look.letter_partitions(group, topic):
        raise UnknownTopic(f"topic {topic} does not exist, and group {group} has no dead letters of it.")


def check(look: Look, group: str, wanted: Filter) -> list[str]:
    """Raise UnknownLetter, UnknownTopic where what is asked for by its name is not there to be settled.

    Returns those that are named and cannot come back, with the reason.
    """
    check_topic(look, group, wanted.topic)
    named = wanted.places()
    if named is None:
        if not look.letter_partitions(group):
            raise UnknownLetter(f"group {group} has no dead letters.")
        return []
    settled, known = look.settled(group), set(look.letter_partitions(group))
    done, missing, lost, left = [], [], [], False
    with Peek(look.settings) as peek:
        for where, offsets in named.items():
            there = peek.at(where, offsets) if where in known else {}
            for offset in offsets:
                name, message = name_of(where, offset), there.get(offset)
                if how := settled.of(*where, offset):
                    done.append(f"{name} is {how} already")
                elif message is None or (one := _meant(message, group, wanted)) is None:
                    missing.append(f"{name} is no dead letter of group {group}, or not what the filter means")
                else:
                    left = True
                    if source := gone(look, group, one):
                        lost.append(f"{name} cannot come back, as its topic {source} does not exist")
    if missing or not left:  # what is settled is passed over, so that the same may be asked for again
        raise UnknownLetter(f"{_first(missing or done)}. Nothing was done.")
    return lost


def _first(told: Sequence[str]) -> str:
    more = f", and {len(told) - NAMED:,} more" if len(told) > NAMED else ""
    return f"{', '.join(told[:NAMED])}{more}"


class Desk:
    """Redrives and discards. Whoever sits down last goes on: the one before is told TakenOver. Not thread-safe."""

    def __init__(self, settings: Settings, group: str, wanted: Filter | None = None) -> None:
        """``wanted`` is to be settled: raises UnknownLetter where there is no such thing, and leaves no trace."""
        self.settings = settings
        self.group = group
        self.look = Look(settings)
        #: What of ``wanted`` is named and cannot come back, with the reason.
        self._lost = check(self.look, group, wanted) if wanted is not None else []
        self._clients = ClusterClients(settings)
        topic = settled_topic(group)
        if topic not in self.look.counts:
            self._clients.create_topic(topic, partitions=1, config=CONFIG)
        self._writer = Exclusive(settings, f"recado-settled-{group}")
        # Only now: nobody else can settle any more what this one has not read.
        self.look = Look(settings)
        self.look.admin.wait_stable(self.look.partitions(topic))
        self.settled = self.look.settled(group)
        taken_over = [job for job in self.settled.jobs.values() if job.state == "running"]
        if taken_over:
            self._writer.write([self.settled.note(msgspec.structs.replace(job, state="stopped")) for job in taken_over])

    def begin(self, wanted: Filter, by: str, *, canary: Sequence[int] = (), rate: float = 0, noted: bool = True) -> Job:
        """Begin a redrive: what it means is frozen now.

        With ``noted=False`` it is noted together with its first letters only, so that nothing can be resumed before.
        Raises UnknownTopic where a letter that the desk was asked for by its name cannot come back.
        """
        if self._lost:
            raise UnknownTopic(f"{_first(self._lost)}. Nothing was done.")
        job = Job(
            id=str(uuid7()),
            at=wall_clock_ms(),
            by=by,
            asked=msgspec.to_builtins(wanted),
            ends=ends_of(self.look, self.group),
            canary=list(canary),
            rate=rate,
        )
        over = [id_ for id_, other in self.settled.jobs.items() if other.state == "done"]
        records = [record for id_ in over for record in self.settled.job_letters.forget(id_)]
        if noted:
            records.append(self.settled.note(job))
        if records:
            self._writer.write(records)
        return job

    def unfinished(self, id_: str = "") -> Job | None:
        """The last redrive that was not finished, or the one of this id if it was not."""
        jobs = [job for job in self.settled.jobs.values() if job.state != "done" and id_ in ("", job.id)]
        return max(jobs, key=lambda job: job.at, default=None)

    def redrive(self, job: Job, batch: Sequence[Found], *, value: bytes | None = None) -> Job:
        """Bring letters back to their group, and note it, all at once; ``value`` takes the place of theirs."""
        records = [self._back(one, value) for one in batch]
        places = [one.at for one in batch]
        records += self.settled.settle(places, "redriven") + self.settled.job_letters.add(job.id, places)
        job = msgspec.structs.replace(job, redriven=job.redriven + len(batch))
        self._writer.write([*records, self.settled.note(job)])
        return job

    def note(self, job: Job, **changes: object) -> Job:
        """Note how far a redrive is, or how it ended."""
        job = msgspec.structs.replace(job, **changes)
        self._writer.write([self.settled.note(job)])
        return job

    def conclude(self, job: Job, succeeded: int, dead_again: int) -> Job:
        """Note what became of all letters of a redrive: nobody needs to follow them any more."""
        job = msgspec.structs.replace(job, succeeded=succeeded, dead_again=dead_again)
        self._writer.write([self.settled.note(job), *self.settled.job_letters.forget(job.id)])
        return job

    def discard(self, batch: Sequence[Found], *, by: str, reason: str) -> None:
        """Give letters up for good."""
        names = [name_of(*one.at) for one in batch]
        note = Discard(
            id=str(uuid7()), at=wall_clock_ms(), by=by, reason=reason, letters=len(batch), first=names[:NAMED]
        )
        records = self.settled.settle([one.at for one in batch], "discarded")
        self._writer.write([*records, self.settled.note(note)])

    def leave(self) -> None:
        """Wait until everybody can read what was settled here."""
        self.look.admin.wait_stable([TopicPartition(settled_topic(self.group), 0)])

    def _back(self, one: Found, value: bytes | None) -> Outgoing:
        partitions = self._retry_partitions(home(one.letter, one.message, self.group))
        return back(one.letter, one.message, self.group, partitions=partitions, value=value)

    def _retry_partitions(self, source: str) -> int:
        """How many partitions the retry topic has; it is made where it is not there."""
        topic = retry_topic(self.group, source)
        if topic not in self.look.counts:
            count = self.look.counts.get(source)
            if count is None:
                raise UnknownTopic(f"topic {source} does not exist, so nothing can come back to it.")
            config = roomy(RETRY_CONFIG, self.settings.max_record_bytes, self._clients.takes_bytes(source))
            self._clients.create_topic(topic, partitions=count, config=config)
            while topic not in self.look.counts:
                time.sleep(0.05)
                self.look.counts = self.look.admin.topic_partitions()
        return self.look.counts[topic]


def _ranges(look: Look, group: str, wanted: Filter, ends: dict[str, int]) -> dict[TopicPartition, Range]:
    named = wanted.places()
    if named is not None:
        there = set(look.letter_partitions(group))
        return {where: Range(offsets[0], offsets[-1] + 1) for where, offsets in named.items() if where in there}
    found: dict[TopicPartition, int] = {}
    for name, end in ends.items():
        topic, _, partition = name.rpartition("/")
        if topic in look.counts:
            found[TopicPartition(topic, int(partition))] = end
    partitions = list(found)
    begins = look.admin.since(partitions, wanted.since) if wanted.since else look.admin.begins(partitions)
    return {where: Range(begins.get(where, 0), end) for where, end in found.items()}
