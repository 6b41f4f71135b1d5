"""Redrives that run in the background of a program, and what is known of all others from Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import msgspec
import structlog

from recado.errors import Backpressure, RecadoError, RedriveRunning, UnknownRedrive
from recado.letters.desk import Desk
from recado.letters.filter import Filter
from recado.letters.redrive import Ended, Redrive, Standing
from recado.outcomes.decide import describe
from recado.outcomes.settled import Job
from recado.settings import Settings
from recado.tracking.look import Look

__all__ = ["Report", "Running"]

log = structlog.get_logger(__name__)

#: Groups whose letters are settled at once: each has clients and memory of its own.
AT_ONCE = 4

#: How long who wants to settle letters waits for others of the group, in seconds: a client is still there then.
TURN_S = 2.0

#: How long a stop waits for the batch that is under way, in seconds.
STOP_S = 10.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A redrive: what Kafka knows of it, and what this program does."""

    job: Job
    #: Whether this program runs it now; if not, another one may, or nobody.
    here: bool = False
    #: While they are followed here: those of which the end is not known yet.
    waiting: int | None = None
    #: How many this program passed over because their topic is not there any more, by topic.
    left: dict[str, int] = {}
    #: How it ended here, or the error that ended it.
    ended: Ended | None = None
    error: str | None = None


class Running:
    """Starts, stops and resumes redrives, each in a thread. Thread-safe; calls block for some seconds at most."""

    def __init__(self, settings: Settings, *, leaving: Callable[[], bool] = lambda: False) -> None:
        self._settings = settings
        #: Whether the program is about to end: its redrives stop then, and can be resumed elsewhere.
        self._leaving = leaving
        self._lock = threading.Condition()
        #: Groups whose letters a thread settles now: one program of a group at a time, so also one thread of a program.
        self._settling: set[str] = set()
        self._runs: dict[str, _Run] = {}

    def start(
        self,
        group: str,
        wanted: Filter,
        *,
        by: str,
        canary: Sequence[int] = (),
        rate: float = 0,
        value: bytes | None = None,
        follow: bool = True,
    ) -> Report:
        """Start a redrive. Raises RedriveRunning where one of the group runs here, Backpressure, other RecadoErrors."""
        with self.alone(group):
            self._check(group)
            desk = Desk(self._settings, group, wanted)
            job = desk.begin(wanted, by, canary=canary, rate=rate, noted=value is None)
            return self._begin(desk, job, value, follow=follow)

    def resume(self, group: str, id_: str, *, follow: bool = True) -> Report:
        """Go on with one that was stopped, here or elsewhere; who still runs it is told so and stops."""
        with self.alone(group):
            now = self.one(group, id_)
            if now.job.state == "done":
                return now
            self._check(group)
            desk = Desk(self._settings, group)
            job = _named(desk.settled.jobs, group, id_)
            if job.state == "done":
                return Report(job=job)
            return self._begin(desk, desk.note(job, state="running"), None, follow=follow)

    def stop(self, group: str, id_: str) -> Report:
        """Stop one, wherever it runs: within a second, and no letter is left half done."""
        run = self._here(group)
        if run is not None and run.redrive.job.id == id_:
            run.redrive.stop()
            run.thread.join(STOP_S)
            return run.report()
        with self.alone(group):
            job = _named(Look(self._settings).settled(group).jobs, group, id_)
            if job.state != "running":
                return Report(job=job)
            if run is not None:
                raise RedriveRunning(f"redrive {run.redrive.job.id} runs here, so no other one of group {group} does.")
            desk = Desk(self._settings, group)  # whoever runs it can write no more, and it is noted as stopped
            return Report(job=_named(desk.settled.jobs, group, id_))

    def one(self, group: str, id_: str) -> Report:
        """How one is. Raises UnknownRedrive and other RecadoErrors."""
        return next((one for one in self.all(group) if one.job.id == id_), None) or _unknown(group, id_)

    def all(self, group: str) -> list[Report]:
        """Every redrive of a group, the newest first."""
        with self._lock:
            run = self._runs.get(group)
        ours = None if run is None else run.report()
        reports = {id_: Report(job=job) for id_, job in Look(self._settings).settled(group).jobs.items()}
        if ours is not None:
            noted = reports.get(ours.job.id)
            if noted is None or ours.here or noted.job == ours.job:  # else somebody else went on with it
                reports[ours.job.id] = ours
        return sorted(reports.values(), key=lambda report: report.job.at, reverse=True)

    def settle(self, group: str, wanted: Filter) -> Desk:
        """A desk for something else than a redrive: use it within ``alone``. Raises RedriveRunning, UnknownLetter."""
        self._check(group)
        return Desk(self._settings, group, wanted)

    @contextmanager
    def alone(self, group: str) -> Iterator[None]:
        """Hold this while you settle letters of a group. Raises Backpressure where others do so beyond ``TURN_S``."""
        with self._lock:
            if not self._lock.wait_for(lambda: group not in self._settling, TURN_S):
                raise Backpressure(f"Dead letters of group {group} are being settled already; ask again soon.")
            self._settling.add(group)
        try:
            yield
        finally:
            with self._lock:
                self._settling.remove(group)
                self._lock.notify_all()

    def _here(self, group: str) -> _Run | None:
        with self._lock:
            run = self._runs.get(group)
        return run if run is not None and run.thread.is_alive() else None

    def _check(self, group: str) -> None:
        run = self._here(group)
        if run is not None and run.redrive.job.state == "done":
            run.redrive.stop()  # all have come back, and it only looks what becomes of them
        elif run is not None:
            raise RedriveRunning(f"redrive {run.redrive.job.id} of group {group} runs here. Stop it, or wait for it.")
        with self._lock:
            busy = {name for name, run in self._runs.items() if run.thread.is_alive()} | self._settling - {group}
        if len(busy) >= AT_ONCE:
            raise Backpressure(f"Dead letters of {len(busy)} groups are being settled here already; ask again soon.")

    def _begin(self, desk: Desk, job: Job, value: bytes | None, *, follow: bool) -> Report:
        run = _Run(desk, job, value, follow=follow, leaving=self._leaving)
        with self._lock:
            self._runs[desk.group] = run
        run.thread.start()
        return run.report()


class _Run:
    """One redrive in its thread."""

    def __init__(self, desk: Desk, job: Job, value: bytes | None, *, follow: bool, leaving: Callable[[], bool]) -> None:
        self.redrive = Redrive(desk, job, value=value, tell=self._tell)
        self.thread = threading.Thread(target=self._run, args=(follow,), name="recado-redrive", daemon=True)
        self._leaving = leaving
        self._standing = Standing(0)
        self._ended: Ended | None = None
        self._error: str | None = None

    def report(self) -> Report:
        fates = self._standing.fates
        return Report(
            job=self.redrive.job,
            here=self.thread.is_alive(),
            waiting=None if fates is None else fates.waiting,
            left=dict(self.redrive.left),
            ended=self._ended,
            error=self._error,
        )

    def _run(self, follow: bool) -> None:
        try:
            self._ended = self.redrive.run(follow=follow)
        except RecadoError as error:
            self._error = str(error)
            log.warning("redrive-broken", group=self.redrive.group, redrive=self.redrive.job.id, error=str(error))
        except Exception as error:  # a thread that died of a mistake of ours would leave it running for whoever asks
            self._error = f"unexpected: {describe(error)}"
            log.exception("redrive-broken", group=self.redrive.group, redrive=self.redrive.job.id)
        else:
            log.info("redrive-ended", group=self.redrive.group, redrive=self.redrive.job.id, ended=self._ended)

    def _tell(self, standing: Standing) -> None:
        self._standing = standing
        if self._leaving():
            self.redrive.stop()


def _named(jobs: dict[str, Job], group: str, id_: str) -> Job:
    return jobs.get(id_) or _unknown(group, id_)


def _unknown(group: str, id_: str) -> NoReturn:
    raise UnknownRedrive(f"group {group} has no redrive {id_[:60]!r}.")
