"""Dead letters over HTTP: look at them, bring them back, give them up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from recado.errors import ConfigurationError, UnknownLetter
from recado.gateway.answer import Answer
from recado.gateway.letter_requests import discard_asked, list_asked, redrive_asked, resume_asked
from recado.gateway.parse import parse_query
from recado.gateway.problem import Problem, invalid
from recado.gateway.searching import Turns, in_time
from recado.kafka.peek import Peek
from recado.letters.desk import Found, batches, check, ends_of, found
from recado.letters.filter import Filter
from recado.letters.listing import listing
from recado.letters.running import Report, Running
from recado.letters.shown import as_object
from recado.outcomes.group_topics import settled_topic, source_of_letters
from recado.record import TopicPartition
from recado.settings import Settings
from recado.tracking.look import Look

__all__ = ["DeadLetters"]

#: How long a search may take, in seconds.
SEARCH_S = 20.0

_JSON = [(b"content-type", b"application/json")]
_GROUP = frozenset({"group"})


class DeadLetters:
    """Answers requests about the dead letters of a group. Thread-safe; blocks. Raises Problem, other RecadoErrors."""

    def __init__(self, settings: Settings, *, leaving: Callable[[], bool] = lambda: False) -> None:
        self._settings = settings
        self._running = Running(settings, leaving=leaving)
        self._turns = Turns()

    def list(self, query: str) -> Answer:
        """The letters by kind, and the newest."""
        asked = list_asked(query)
        with self._turns.one():
            look, group = Look(self._settings), self._checked(asked.group)
            progress = in_time(SEARCH_S, "letters", "narrow it with ?since= or ?limit=")
            return _told(listing(look, group, asked.wanted, limit=asked.limit, show=asked.letters, progress=progress))

    def one(self, topic: str, partition: int, offset: int, query: str) -> Answer:
        """One letter with all that it tells."""
        group = self._group(query)
        with self._turns.one():
            look, where = Look(self._settings), TopicPartition(topic, partition)
            message = None
            if source_of_letters(topic, group) is not None and where in look.partitions(topic) and offset < 2**63:
                with Peek(self._settings) as peek:
                    message = peek.at(where, [offset]).get(offset)
            if message is None:
                raise UnknownLetter(f"Group {group} has no dead letter at {topic}/{partition}/{offset}.")
            return _told(as_object(message, look.settled(group).of(topic, partition, offset)))

    def redrive(self, query: str, body: bytes, client: str) -> Answer:
        """Start a redrive, or only count what it would bring back."""
        group, asked = self._group(query), redrive_asked(body)
        wanted = asked.filter()
        if asked.dry_run:
            return self._counted(group, wanted)
        report = self._running.start(
            group,
            wanted,
            by=asked.by or client,
            canary=asked.steps(),
            rate=asked.rate,
            value=asked.new_value(),
            follow=asked.follow,
        )
        return _told(_of(report), 202)

    def discard(self, query: str, body: bytes, client: str) -> Answer:
        """Give letters up: as many as there is time for; the answer says whether these were all."""
        group, asked = self._group(query), discard_asked(body)
        wanted = asked.filter()
        if asked.dry_run:
            return self._counted(group, wanted)
        count = 0
        with self._running.alone(group):
            desk = self._running.settle(group, wanted)
            progress = in_time(SEARCH_S, "letters", "narrow it, or use `recado dead-letters discard`")
            some = _InTime(found(desk.look, group, wanted, ends_of(desk.look, group), progress))
            for batch in batches(iter(some)):
                desk.discard(batch, by=asked.by or client, reason=asked.reason)
                count += len(batch)
            desk.leave()
        if some.over is not None and not count:
            raise some.over  # whoever asked again would get no further
        return _told({"group": group, "discarded": count, "complete": some.over is None})

    def redrives(self, query: str) -> Answer:
        """Every redrive of a group."""
        group = self._group(query)
        return _told({"group": group, "redrives": [_of(report) for report in self._running.all(group)]})

    def redrive_of(self, id_: str, query: str) -> Answer:
        """How one redrive is."""
        return _told(_of(self._running.one(self._group(query), id_)))

    def stop(self, id_: str, query: str) -> Answer:
        """Stop one, wherever it runs."""
        return _told(_of(self._running.stop(self._group(query), id_)))

    def resume(self, id_: str, query: str, body: bytes) -> Answer:
        """Go on with one here."""
        report = self._running.resume(self._group(query), id_, follow=resume_asked(body).follow)
        return _told(_of(report), 202 if report.here else 200)

    def _counted(self, group: str, wanted: Filter) -> Answer:
        with self._turns.one():
            look = Look(self._settings)
            check(look, group, wanted)
            progress = in_time(SEARCH_S, "letters", "narrow it, or use `recado dead-letters redrive --dry-run`")
            letters = found(look, group, wanted, ends_of(look, group), progress)
            return _told({"group": group, "letters": sum(1 for _ in letters)})

    def _group(self, query: str) -> str:
        return self._checked(parse_query(query, _GROUP).get("group"))

    def _checked(self, given: str | None) -> str:
        group = self._settings.group if given is None else given
        try:
            settled_topic(group)
        except ConfigurationError as error:
            raise invalid("group", str(error)) from None
        if not group:
            raise invalid("group", "it is empty.")
        return group


class _InTime:
    """Those of the letters that there is time for."""

    def __init__(self, letters: Iterator[Found]) -> None:
        self._letters = letters
        #: What told that the time is over.
        self.over: Problem | None = None

    def __iter__(self) -> Iterator[Found]:
        try:
            yield from self._letters
        except Problem as over:
            self.over = over


def _of(report: Report) -> dict[str, Any]:
    told = msgspec.to_builtins(report)
    job = told.pop("job")
    job.pop("type", None)
    job.pop("ends", None)
    return {**job, **told}


def _told(content: object, status: int = 200) -> Answer:
    return Answer(status, _JSON, msgspec.json.encode(content))
