"""One run of a redrive: letters come back in batches, perhaps step by step, and are followed to their end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Literal, NamedTuple

import msgspec

from recado.errors import KafkaUnreachable, RecadoError, TakenOver
from recado.letters.desk import BATCH, Desk, Found, batches, found, gone
from recado.letters.filter import Filter
from recado.letters.follow import Fates, brought_back, fates
from recado.outcomes.settled import Job
from recado.tracking.look import Look

__all__ = ["CANARY", "MAX_BY", "MAX_REASON", "MAX_STEP", "RATES", "Ended", "Redrive", "Standing", "too_long"]

#: The usual first steps: so many letters come back, and each time it is waited for what becomes of them.
CANARY = (1, 10)

#: The largest of the first steps: with more, nobody tries anything out.
MAX_STEP = 100_000

#: What is noted of who settles letters, and why, in characters: the note must go into one record.
MAX_BY, MAX_REASON = 500, 4_000

#: What is noted of which letters a redrive means, in bytes as JSON, for the same reason.
MAX_ASKED_BYTES = 800_000

#: The least and the most letters a second that may be asked for: a rest that a timer takes, and more than anyone needs.
RATES = (0.01, 1e9)

#: Rest between two looks at what became of letters, in seconds.
LOOK_S = 1.0

#: ``done``: all came back, and where they were followed none is dead again. ``looked away``: all came back, but nobody
#: saw what became of them to the end. ``stopped``: letters are left, and the redrive can be resumed if it is noted.
Ended = Literal["done", "dead again", "looked away", "stopped"]


def too_long(wanted: Filter) -> str | None:
    """The field that makes a filter too long to be noted with a redrive; None where it is not."""
    sizes = {name: len(msgspec.json.encode(content)) for name, content in msgspec.structs.asdict(wanted).items()}
    return max(sizes, key=sizes.__getitem__) if sum(sizes.values()) > MAX_ASKED_BYTES else None


class Standing(NamedTuple):
    """How far a redrive is: how many this run brought back, and, while they are followed, what became of them."""

    redriven: int
    fates: Fates | None = None


class Redrive:
    """Brings back the letters of a job. ``run`` in one thread; ``stop`` from any, also from a signal's handler."""

    def __init__(
        self,
        desk: Desk,
        job: Job,
        *,
        value: bytes | None = None,
        tell: Callable[[Standing], None] = lambda standing: None,
    ) -> None:
        self._desk = desk
        self.group = desk.group
        #: As it was noted last.
        self.job = job
        self._wanted = msgspec.convert(job.asked, Filter)
        self._value = value
        self._tell = tell
        #: All that the job brought back, also before it was resumed here.
        self._redriven = brought_back(desk.look, desk.group, job)
        #: So many were known to be dead again when it was resumed: only more are news.
        self._known_dead = job.dead_again
        #: How many this run brought back.
        self.count = 0
        #: How many were passed over because their topic is not there any more, by topic.
        self.left: dict[str, int] = {}
        #: What became of them, as it was seen last.
        self.fates = Fates(job.succeeded, job.dead_again, 0)
        #: Before then nothing more comes back: so the time in which letters are followed earns no credit.
        self._next_at = 0.0
        self._stop = threading.Event()

    @property
    def died(self) -> bool:
        """Whether letters are dead again that were not known to be when this run began."""
        return self.fates.dead_again > self._known_dead

    @property
    def is_noted(self) -> bool:
        """Whether Kafka knows of it: another value is not kept there, and whoever resumed it would send the first."""
        return self._value is None or self.job.redriven > 0

    def stop(self) -> None:
        """Stop between two batches, so that none is left half done; within a second."""
        self._stop.set()

    def run(self, *, follow: bool = True) -> Ended:
        """Bring them back and, with ``follow``, wait for what becomes of them. Blocks.

        Raises TakenOver where another program settles letters of this group now, and other RecadoErrors; what came
        back until then is noted.
        """
        at_once = max(1, int(self.job.rate)) if self.job.rate else BATCH
        letters = self._possible(found(self._desk.look, self.group, self._wanted, dict(self.job.ends), self._check))
        try:
            for size in self._steps():
                for batch in batches(islice(letters, size), at_once):
                    self._send(batch)
                self._follow()
                if self.died:
                    return self._end("stopped")
            for batch in batches(letters, at_once):
                self._send(batch)
        except _Stopped:
            return self._end("stopped")
        except (TakenOver, KafkaUnreachable):  # nothing can be noted from here any more
            raise
        except RecadoError:
            with suppress(RecadoError):
                self._end("stopped" if self.job.redriven else "done")  # nobody resumes what would only fail again
            raise
        self.job = self._desk.note(self.job, state="done")
        self._desk.leave()
        if not follow:
            return "looked away" if self.count else "done"
        try:
            fate = self._follow()
        except _Stopped:
            return "looked away"
        with suppress(TakenOver):  # all have come back, and another may well settle others meanwhile
            self.job = self._desk.conclude(self.job, fate.done, fate.dead_again)
        return "dead again" if self.died else "done"

    def _possible(self, letters: Iterator[Found]) -> Iterator[Found]:
        """Those that can come back; the others are counted, so that they hold up nothing."""
        for one in letters:
            source = gone(self._desk.look, self.group, one)
            if source is None:
                yield one
            else:
                self.left[source] = self.left.get(source, 0) + 1

    def _end(self, ended: Literal["done", "stopped"]) -> Ended:
        if not self.is_noted:
            self.job = msgspec.structs.replace(self.job, state=ended)
            return ended
        self.job = self._desk.note(self.job, state=ended, succeeded=self.fates.done, dead_again=self.fates.dead_again)
        self._desk.leave()
        return ended

    def _steps(self) -> Iterator[int]:
        """The first steps that were not taken yet; where the last one may not have ended, none at all comes first."""
        before = self.job.redriven
        if 0 < before <= sum(self.job.canary):
            yield 0
        for size in self.job.canary:
            if before < size:
                yield min(size - before, MAX_STEP)
            before = max(0, before - size)

    def _send(self, batch: list[Found]) -> None:
        if self._stop.wait(max(0.0, self._next_at - time.monotonic())):
            raise _Stopped
        if self.job.rate:
            self._next_at = max(time.monotonic(), self._next_at) + len(batch) / self.job.rate
        self.job = self._desk.redrive(self.job, batch, value=self._value)
        for one in batch:
            self._redriven.add(*one.origin)
        self.count += len(batch)
        self._tell(Standing(self.count))

    def _check(self, read: int, total: int) -> None:
        """While letters are read: many may be that are not meant."""
        if self._stop.is_set():
            raise _Stopped

    def _follow(self) -> Fates:
        """Wait until all that came back have ended."""
        while len(self._redriven):
            self.fates = fates(Look(self._desk.settings), self.group, self._redriven, self.job.ends, self._check)
            self._tell(Standing(self.count, self.fates))
            if not self.fates.waiting:
                return self.fates
            if self._stop.wait(LOOK_S):
                raise _Stopped
        return self.fates


class _Stopped(Exception):
    """Somebody asked for it."""
