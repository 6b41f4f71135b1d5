"""The kinds of dead letters: how many have the same fingerprint, since when, and which is the newest (pure)."""

from __future__ import annotations

import msgspec

from recado.outcomes.glance import Glance

__all__ = ["Kind", "Kinds"]

#: Kinds that are counted one by one: a fingerprint that holds a number may make as many as there are letters.
MAX_KINDS = 1_000

#: Under which name the rest is counted.
REST = "others"


class Kind(msgspec.Struct, gc=False):
    """Letters with one fingerprint in one topic."""

    fingerprint: str
    topic: str
    count: int
    #: When the first and the last of them became one, in milliseconds since the epoch.
    first_ms: int
    last_ms: int
    #: The newest, as TOPIC/PARTITION/OFFSET, and its last error.
    newest: str
    error: str


class Kinds:
    """Counts letters by kind in bounded memory. One thread only."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], Kind] = {}
        #: How many were counted.
        self.seen = 0

    def add(self, letter: Glance) -> None:
        """Count one."""
        self.seen += 1
        known = self._kinds.get((letter.topic, letter.fingerprint))
        if known is None:
            name = letter.fingerprint if len(self._kinds) < MAX_KINDS else REST
            known = self._kinds.setdefault((letter.topic, name), _begun(letter, name))
        known.count += 1
        if letter.timestamp_ms < known.first_ms:
            known.first_ms = letter.timestamp_ms
        if letter.timestamp_ms >= known.last_ms:
            known.last_ms = letter.timestamp_ms
            known.newest, known.error = letter.place, letter.error

    def newest_first(self) -> list[Kind]:
        """The kinds, that with the newest letter first."""
        return sorted(self._kinds.values(), key=lambda kind: (-kind.last_ms, kind.topic, kind.fingerprint))


def _begun(letter: Glance, name: str) -> Kind:
    return Kind(name, letter.topic, 0, letter.timestamp_ms, -1, letter.place, letter.error)
