"""What the handlers are at now, and for how long: looked at a few times a second, so that records pay nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from recado.worker.handling.holdings import Holdings
from recado.worker.handling.run import Run

__all__ = ["AtWork", "Oldest"]

#: Calls that last shorter are not worth a line, in seconds.
LEAST_S = 1.0


class AtWork(NamedTuple):
    """A call of a handler that lasts."""

    handler: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    attempt: int
    for_s: float
    #: Where it is, outermost first; empty where that is in another process.
    stack: list[str]

    def told(self) -> dict[str, Any]:
        """For people and programs."""
        key = None if self.key is None else self.key.decode("utf-8", "backslashreplace")
        return {**self._asdict(), "key": key, "for_s": round(self.for_s, 1)}


class Oldest:
    """Remembers since when each run has been at its record. ``look`` on the loop's thread, ``at_work`` on any."""

    def __init__(self, holdings: Holdings, clock: Callable[[], float] = time.monotonic) -> None:
        self._holdings = holdings
        self._clock = clock
        self._since: dict[Run, tuple[int, float]] = {}

    def look(self) -> None:
        """Note what executes now."""
        now, before = self._clock(), self._since
        since: dict[Run, tuple[int, float]] = {}
        for run in self._holdings.executing():
            at, began = before.get(run, (-1, now))
            since[run] = (at, began) if at == run.at else (run.at, now)
        self._since = since

    def at_work(self) -> list[AtWork]:
        """The calls that have lasted for a while, the longest first."""
        now, found = self._clock(), []
        for runner in self._holdings.runners:
            for run, stack in runner.stacks():
                at, began = self._since.get(run, (-1, now))
                if at != run.at or at >= len(run.messages) or now - began < LEAST_S:
                    continue
                message = run.messages[at]
                found.append(
                    AtWork(
                        runner.handler.name,
                        message.topic(),
                        message.partition(),
                        message.offset(),
                        message.key(),
                        run.attempt,
                        now - began,
                        stack(),
                    )
                )
        return sorted(found, key=lambda call: -call.for_s)
