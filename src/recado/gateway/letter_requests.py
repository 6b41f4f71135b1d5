"""What requests about dead letters ask for (pure)."""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from recado.gateway.moment import checked_moment, moment_in
from recado.gateway.parse import decoded, parse_query
from recado.gateway.problem import invalid
from recado.letters.filter import Filter
from recado.letters.listing import NEWEST
from recado.letters.redrive import CANARY, MAX_BY, MAX_REASON, MAX_STEP, RATES, too_long
from recado.record import name_of, place_of
from recado.settings import is_topic_name

__all__ = [
    "LIST_PARAMETERS",
    "DiscardAsked",
    "ListAsked",
    "RedriveAsked",
    "ResumeAsked",
    "discard_asked",
    "list_asked",
    "redrive_asked",
    "resume_asked",
]

#: How many letters a list reads, and tells one by one, where nothing is said, and at most.
READ, MOST_READ = NEWEST, 100_000
TOLD, MOST_TOLD = 20, 1_000

#: Query parameters of a list.
LIST_PARAMETERS = frozenset({"group", "topic", "kind", "key", "text", "since", "until", "limit", "letters"})

#: Letters that a request may name one by one.
MOST_NAMED = 10_000


class _Which(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    letters: list[str] = []
    topic: str = ""
    kind: str = ""
    key: str | None = None
    text: str = ""
    since: int | str | None = None
    until: int | str | None = None
    #: Every letter of the group: it must be said.
    all: bool = False
    by: str = ""
    dry_run: bool = False

    def filter(self) -> Filter:
        """The filter. Raises Problem."""
        if len(self.letters) > MOST_NAMED:
            raise invalid("letters", f"more than {MOST_NAMED} are named; use a filter, or several requests.")
        wanted = Filter(
            letters=[_named(letter) for letter in self.letters],
            topic=self.topic,
            kind=self.kind,
            key=self.key,
            text=self.text,
            since=_moment("since", self.since),
            until=_moment("until", self.until),
        )
        if wanted == Filter() and not self.all:
            raise invalid("letters", 'which? Name them, or a filter, or say "all": true.')
        if wanted != Filter() and self.all:
            raise invalid("all", "it means every letter: leave it out, or what else says which.")
        return _checked_span(wanted)


class RedriveAsked(_Which, forbid_unknown_fields=True, kw_only=True):
    """Bring letters back."""

    rate: float = 0
    canary: bool | list[int] = False
    #: For one letter: another value, as text or as base64.
    value: str | None = None
    value_base64: str | None = None
    follow: bool = True

    def steps(self) -> list[int]:
        """So many come back first. Raises Problem."""
        steps = list(CANARY) if self.canary is True else self.canary or []
        if len(steps) > 10 or any(not 1 <= step <= MAX_STEP for step in steps):
            raise invalid("canary", f"it must be true, or ten numbers at most, each from 1 to {MAX_STEP}.")
        return steps

    def new_value(self) -> bytes | None:
        """The value that takes the place of the letter's own. Raises Problem."""
        if self.value is None and self.value_base64 is None:
            return None
        if self.value is not None and self.value_base64 is not None:
            raise invalid("value_base64", "there is a value already.")
        if len(self.letters) != 1:
            raise invalid("value", "it is for one letter: name it in letters.")
        try:
            return (self.value or "").encode() if self.value_base64 is None else _unpacked(self.value_base64)
        except (binascii.Error, ValueError) as error:
            raise invalid("value_base64", f"it is no base64: {error}.") from None


class DiscardAsked(_Which, forbid_unknown_fields=True, kw_only=True):
    """Give letters up for good."""

    reason: str


class ResumeAsked(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Go on with a redrive."""

    follow: bool = True


class ListAsked(msgspec.Struct, frozen=True):
    """What a list is to show."""

    group: str | None
    wanted: Filter
    #: Read so many, the newest; tell so many one by one.
    limit: int
    letters: int


def redrive_asked(body: bytes) -> RedriveAsked:
    """Read a body. Raises Problem."""
    asked = decoded(_redrive.decode, body)
    least, most = RATES
    if asked.rate and not least <= asked.rate <= most:
        raise invalid("rate", f"it must be 0 (as fast as it goes), or {least:g} to {most:g} letters a second.")
    _check_length("by", asked.by, MAX_BY)
    if field := too_long(asked.filter()):
        raise invalid(field, "it is too long to be noted; use a filter, or several requests.")
    asked.steps(), asked.new_value()
    return asked


def discard_asked(body: bytes) -> DiscardAsked:
    """Read a body. Raises Problem."""
    asked = decoded(_discard.decode, body)
    if not asked.reason.strip():
        raise invalid("reason", "say why.")
    _check_length("reason", asked.reason, MAX_REASON)
    _check_length("by", asked.by, MAX_BY)
    asked.filter()
    return asked


def resume_asked(body: bytes) -> ResumeAsked:
    """Read a body; none at all asks for nothing special. Raises Problem."""
    return decoded(_resume.decode, body) if body else ResumeAsked()


def list_asked(query: str) -> ListAsked:
    """Read a query. Raises Problem."""
    given = parse_query(query, LIST_PARAMETERS)
    wanted = Filter(
        topic=given.get("topic", ""),
        kind=given.get("kind", ""),
        key=given.get("key"),
        text=given.get("text", ""),
        since=moment_in("since", given["since"]) if "since" in given else 0,
        until=moment_in("until", given["until"]) if "until" in given else 0,
    )
    limit = _count("limit", given.get("limit"), READ, MOST_READ)
    return ListAsked(
        given.get("group"), _checked_span(wanted), limit, _count("letters", given.get("letters"), TOLD, MOST_TOLD)
    )


def _named(letter: str) -> str:
    """A letter's place as it is known by: without zeros in front."""
    place = place_of(letter)
    if place is None or not is_topic_name(place[0].topic):
        raise invalid("letters", f"{letter[:60]!r} is no place such as dlq.GROUP.TOPIC/0/17.")
    return name_of(*place)


def _check_length(name: str, text: str, most: int) -> None:
    if len(text) > most:
        raise invalid(name, f"it has {len(text)} characters, and {most} at most are noted.")


def _checked_span(wanted: Filter) -> Filter:
    if wanted.is_over_before_it_begins:
        raise invalid("until", "it is not after since, so no letter can be meant.")
    return wanted


def _count(name: str, text: str | None, otherwise: int, most: int) -> int:
    if text is None:
        return otherwise
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not (0 if name == "letters" else 1) <= int(text) <= most:
        raise invalid(name, f"{text[:60]!r} is no number up to {most}.")
    return int(text)


def _moment(name: str, given: int | str | None) -> int:
    return 0 if given is None else checked_moment(name, given)


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_redrive = msgspec.json.Decoder(RedriveAsked)
_resume = msgspec.json.Decoder(ResumeAsked)
_discard = msgspec.json.Decoder(DiscardAsked)
