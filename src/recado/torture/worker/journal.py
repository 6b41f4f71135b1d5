"""The journal of one worker process: a line when a call of a handler begins, and one when it has ended."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Call", "Journal", "Life", "Place", "read_journals"]


class Place(NamedTuple):
    """Where a record stands, with its key (``-`` for none) as hexadecimal digits, and which attempt it is on."""

    topic: str
    partition: int
    offset: int
    key: str
    attempt: int


class Journal:
    """Writes lines whole or not at all, from any thread and from forked processes: a kill loses none that was written.

    Times are the machine's wall clock in nanoseconds, since Kafka's are too.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._numbers = itertools.count()

    def began(self, places: Iterable[Place]) -> list[str]:
        """Note that a call began for these records; returns what ``ended`` wants."""
        names = []
        lines = []
        for place in places:
            names.append(f"{os.getpid()}.{next(self._numbers)}")
            fields = (names[-1], place.topic, place.partition, place.offset, place.key, place.attempt)
            lines.append(f"B {time.time_ns()} {' '.join(map(str, fields))}\n")
        os.write(self._file, "".join(lines).encode())
        return names

    def ended(self, names: Iterable[str], *, ok: bool) -> None:
        """Note that it returned, or failed."""
        now, what = time.time_ns(), "ok" if ok else "failed"
        os.write(self._file, "".join(f"E {now} {name} {what}\n" for name in names).encode())


@dataclass(slots=True, eq=False)
class Life:
    """One life of one worker process, from its start to its end."""

    name: str
    #: When it was killed or had ended, and when it was stopped (SIGSTOP) and went on, in nanoseconds of the wall clock.
    killed_ns: int | None = None
    ended_ns: int | None = None
    frozen_ns: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Call:
    """One call of a handler with one record. ``ended_ns`` is None where the process did not live to see its end."""

    life: Life
    place: Place
    began_ns: int
    ended_ns: int | None = None
    ok: bool = False


def read_journals(paths: Iterable[Path], lives: dict[str, Life]) -> list[Call]:
    """Read every call, in the order in which they began; a last line that was cut off by a kill is none."""
    calls: list[Call] = []
    for path in paths:
        life = lives[path.stem]
        text = path.read_text(encoding="ascii")
        by_name: dict[str, Call] = {}
        for line in text[: text.rfind("\n") + 1].splitlines():
            what, at_ns, name, *rest = line.split(" ")
            if what == "B":
                topic, partition, offset, key, attempt = rest
                place = Place(topic, int(partition), int(offset), key, int(attempt))
                by_name[name] = call = Call(life, place, int(at_ns))
                calls.append(call)
            else:
                by_name[name].ended_ns, by_name[name].ok = int(at_ns), rest[0] == "ok"
    return sorted(calls, key=lambda call: call.began_ns)
