"""The history of a run: each request with what was answered, each time a gateway was out; a file of JSON lines."""

from __future__ import annotations

import threading
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

__all__ = ["Answered", "Entry", "Fate", "History", "Outage", "Request", "Sent", "read"]


class Fate(StrEnum):
    """What an answer says of one record."""

    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    #: Refused, or not accepted: it must not be in Kafka.
    REFUSED = "refused"
    #: The answer says so (504), or none came: it may be in Kafka or not.
    UNKNOWN = "unknown"


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A record as it was sent: the ``number`` counts the records of its key, from 1."""

    key: str
    number: int


class Answered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the answer said of a record; position only where it was delivered."""

    fate: Fate
    id: str = ""
    partition: int = -1
    offset: int = -1


class Request(msgspec.Struct, frozen=True, tag="request", omit_defaults=True):
    """One HTTP request. Times are seconds since the run began; ``wait_s`` is the wait that it asked for.

    ``status`` is 0 where no answer came, and ``error`` says why. ``records`` and ``answers`` belong together.
    """

    sender: int
    gateway: int
    form: str
    prefer: str
    wait_s: float
    sent_s: float
    done_s: float
    status: int
    records: tuple[Sent, ...]
    answers: tuple[Answered, ...]
    error: str = ""


class Outage(msgspec.Struct, frozen=True, tag="outage"):
    """A time in which a gateway's process was stopped, told to end, dead or starting."""

    gateway: int
    why: str
    from_s: float
    to_s: float


Entry = Request | Outage


class History:
    """Writes entries to a file as they come; thread-safe. Keeps them, too, for the judge."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._file = path.open("wb")
        self._lock = threading.Lock()
        self._encoder = msgspec.json.Encoder()

    def add(self, entry: Entry) -> None:
        """Write one entry."""
        with self._lock:
            self.entries.append(entry)
            self._file.write(self._encoder.encode(entry) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._file.close()


def read(path: Path) -> list[Entry]:
    """Read a history back, so that an old run can be judged again."""
    decoder = msgspec.json.Decoder(Entry)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]
