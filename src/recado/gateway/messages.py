"""Where a message is, over HTTP: read from Kafka, and from this gateway's spool."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from recado.clock import wall_clock_ms
from recado.errors import UnknownTopic
from recado.gateway.answer import Answer
from recado.gateway.moment import moment_in
from recado.gateway.parse import parse_query
from recado.gateway.problem import invalid
from recado.gateway.searching import Turns, in_time
from recado.gateway.spool.folder import Folder
from recado.gateway.whereabouts import certain
from recado.record import TopicPartition
from recado.settings import Settings, is_topic_name
from recado.tracking.find import time_of
from recado.tracking.look import Look, Progress
from recado.tracking.where import Whereabouts, at_offset, by_id

__all__ = ["Messages"]

#: How long a search may take, in seconds.
SEARCH_S = 10.0

#: How much of that an open transaction may take, in seconds: what is asked then is told why there is no answer.
OPEN_S = 8.0

#: How far back an id of the sender's own is looked for where nothing tells when it was sent, in milliseconds.
DAY_MS = 86_400_000

#: Query parameters.
PARAMETERS = frozenset({"since", "group"})

_JSON = [(b"content-type", b"application/json")]


def _look(settings: Settings) -> Look:
    return Look(settings, patience_s=OPEN_S)


class Messages:
    """Answers where one message is. Thread-safe; blocks for some seconds at most."""

    def __init__(self, settings: Settings, *, look: Callable[[Settings], Look] = _look) -> None:
        self._settings = settings
        self._look = look
        self._turns = Turns()

    def by_id(self, topic: str, id_: str, query: str) -> Answer:
        """Where the message with an id is. Raises Problem and other RecadoErrors."""
        given = _parsed(query)
        if not is_topic_name(topic):
            raise invalid("topic", f"{topic[:60]!r} is no topic name.")
        since_ms = moment_in("since", given["since"]) if "since" in given else None
        guessed = since_ms is None and time_of(id_) is None
        if guessed:
            since_ms = wall_clock_ms() - DAY_MS
        groups = _groups(given)

        def ask(look: Look, progress: Progress) -> Whereabouts:
            return by_id(look, topic, id_, since_ms=since_ms, groups=groups, progress=progress)

        folder = Folder(self._settings.data_dir / "spool")
        found = certain(self._asking(ask, topic), folder, topic, id_)
        if guessed and found.state in ("unknown", "expired"):
            detail = (
                f"{id_[:60]!r} is no UUIDv7, so nothing tells when it was sent, and nobody knows it of the last day: "
                "add ?since=, or ask by its place."
            )
            raise invalid("since", detail)
        return _told(found)

    def at_offset(self, topic: str, partition: int, offset: int, query: str) -> Answer:
        """Where the message is that stood first at an offset. Raises Problem and other RecadoErrors."""
        given = _parsed(query)
        if not is_topic_name(topic):
            raise invalid("topic", f"{topic[:60]!r} is no topic name.")
        if "since" in given:
            raise invalid("since", "a place needs no time.")
        where = TopicPartition(topic, partition)
        groups = _groups(given)

        def ask(look: Look, progress: Progress) -> Whereabouts:
            return at_offset(look, where, offset, groups=groups, progress=progress)

        return _told(self._asking(ask, topic)())

    def _asking(self, ask: Callable[[Look, Progress], Whereabouts], topic: str) -> Callable[[], Whereabouts]:
        """How to ask Kafka, once or again, in ``SEARCH_S`` altogether."""
        remedy = "narrow it with ?since= or ?group=, ask by the message's place, or use `recado where`"
        progress = in_time(SEARCH_S, "records", remedy)

        def asked() -> Whereabouts:
            with self._turns.one():
                look = self._look(self._settings)
                found = ask(look, progress)
            if found.state == "unknown" and topic not in look.counts:
                raise UnknownTopic(f"topic {topic} does not exist.")
            return found

        return asked


def _parsed(query: str) -> dict[str, str]:
    given = dict(parse_query(query, PARAMETERS)) if query else {}
    if not given.get("group", "all"):
        raise invalid("group", "it is empty; leave it out for all.")
    return given


def _groups(given: dict[str, str]) -> list[str] | None:
    return [given["group"]] if "group" in given else None


def _told(found: Whereabouts) -> Answer:
    return Answer(404 if found.state == "unknown" else 200, _JSON, msgspec.json.encode(found))
