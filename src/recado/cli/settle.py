"""`recado dead-letters redrive` and `discard`: settling what a group gave up."""

from __future__ import annotations

import getpass
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.options import settings_options
from recado.cli.places import place_of
from recado.cli.status_line import StatusLine
from recado.cli.tail import moment_ms
from recado.letters.desk import Desk, Found, batches, ends_of, found
from recado.letters.filter import Filter
from recado.letters.follow import Fates, fates
from recado.outcomes.settled import Job
from recado.settings import Settings
from recado.tracking.look import Look

__all__ = ["discard", "redrive"]

F = TypeVar("F", bound=Callable[..., Any])

#: With ``--canary`` so many letters come back first, and each time it is waited for what becomes of them.
CANARY = (1, 10)

#: Rest between two looks at what became of letters, in seconds.
LOOK_S = 1.0

#: Exit codes: some are dead again; work is left.
DEAD_AGAIN, LEFT = 1, 3


def _filtered(command: F) -> F:
    """Give a command the options that say which letters are meant."""
    options = [
        click.argument("letters", nargs=-1, metavar="[TOPIC/PARTITION/OFFSET]…"),
        click.option("--topic", default="", help="Those of this source topic."),
        click.option("--kind", default="", help="Those of this kind, as `list` writes it."),
        click.option("--key", help="Those with this key."),
        click.option("--text", default="", help="Those with this text in the value or the error."),
        click.option("--since", metavar="SPAN|TIME", help="Those that died since then: 10m, 2h, 1d ago, or a time."),
        click.option("--until", metavar="SPAN|TIME", help="Those that died before that."),
        click.option("--all", "everything", is_flag=True, help="Every letter of the group."),
        click.option("--dry-run", is_flag=True, help="Only count them."),
        click.option("--by", default=None, help="Who does this; your user name where it is left out."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_filtered
@click.option("--value", type=click.File("rb"), help="For one letter: send the content of this file instead (- stdin).")
@click.option("--rate", type=click.FloatRange(min=0.01), metavar="N", help="At most N letters a second.")
@click.option("--canary", is_flag=True, help="First 1, then 10, then the rest; stop when some are dead again.")
@click.option("--resume", is_flag=True, help="Go on with the redrive that was not finished, as it was asked for.")
@click.option("--no-follow", is_flag=True, help="Do not wait for what becomes of them.")
@settings_options(group="Whose dead letters.")
def redrive(
    value: click.File | None, rate: float | None, canary: bool, resume: bool, no_follow: bool, **given: Any
) -> int:
    """Bring dead letters back to their group, and to no other, and follow them to their end.

    Each comes back once: what is redriven is noted in Kafka together with it. Ctrl-C stops within a second; --resume
    goes on, on any machine. Exit code 1: some are dead again; 3: stopped, or some still wait.

    \b
    Examples:
      recado dead-letters redrive dlq.flask-consumer-group.orders/0/17
      recado dead-letters redrive --kind "ConnectionError in shop.pay.charge" --canary
      recado dead-letters redrive --all --rate 100
      recado dead-letters redrive --resume
    """
    settings = settings_to_look()
    if resume:
        if any(content for name, content in given.items() if name not in ("by", "dry_run")):
            raise click.UsageError("--resume takes no filter: the redrive goes on as it was asked for.")
        desk = Desk(settings, settings.group)
        job = desk.unfinished()
        if job is None:
            click.echo("No redrive was left unfinished.", err=True)
            return 0
        wanted = msgspec.convert(job.asked, Filter)
    else:
        wanted = _filter(given)
        if value is not None and len(wanted.letters) != 1:
            raise click.UsageError("--value is for one letter: name it as TOPIC/PARTITION/OFFSET.")
        if given["dry_run"]:
            return _count(settings, wanted)
        desk = Desk(settings, settings.group)
        job = desk.begin(wanted, given["by"] or getpass.getuser())
    edited = None if value is None else value.read()  # type: ignore[attr-defined]  # click gives an open file
    return _Redrive(desk, job, wanted, rate, edited).run(CANARY if canary else (), follow=not no_follow)


@click.command()
@_filtered
@click.option("--reason", required=True, help="Why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options(group="Whose dead letters.")
def discard(reason: str, yes: bool, **given: Any) -> int:
    """Give dead letters up for good. They stay in Kafka, but nothing lists or redrives them any more.

    Who did it and why is noted in Kafka beside it.

    \b
    Examples:
      recado dead-letters discard dlq.flask-consumer-group.orders/0/17 --reason "test order"
      recado dead-letters discard --kind "ValueError in shop.pay.charge" --reason "bug 4711, refunded by hand"
    """
    settings = settings_to_look()
    wanted = _filter(given)
    if given["dry_run"]:
        return _count(settings, wanted)
    desk = Desk(settings, settings.group)
    ends, count = ends_of(desk.look, settings.group), 0
    if not yes:
        total = sum(1 for _ in found(desk.look, settings.group, wanted, ends))
        if not total:
            click.echo("No letter is meant.", err=True)
            return 0
        click.confirm(f"Discard {total:,} letters of group {settings.group}?", abort=True, err=True)
    with StatusLine() as line:
        for batch in batches(found(desk.look, settings.group, wanted, ends)):
            desk.discard(batch, by=given["by"] or getpass.getuser(), reason=reason)
            count += len(batch)
            line.show(f"{count:,} discarded")
    desk.leave()
    click.echo(f"Discarded {count:,} letters of group {settings.group}.", err=True)
    return 0


class _Stopped(Exception):
    """A signal came."""


@contextmanager
def _signals(act: Callable[[], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM do this, where signals can be caught at all (the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: act()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Redrive:
    """One run of a redrive."""

    def __init__(self, desk: Desk, job: Job, wanted: Filter, rate: float | None, value: bytes | None) -> None:
        self._desk = desk
        self._job = job
        self._wanted = wanted
        self._rate = rate
        self._value = value
        self._group = desk.group
        self._redriven: set[tuple[str, int, int]] = set()
        self._began = time.monotonic()
        self._ends = ends_of(desk.look, desk.group)
        #: Set by a signal: between two batches it is looked at, so that none is left half done.
        self._stop = threading.Event()

    def run(self, canary: tuple[int, ...], *, follow: bool) -> int:
        letters = found(self._desk.look, self._group, self._wanted, dict(self._job.ends))
        with StatusLine() as line, _signals(self._stop.set):
            try:
                for size in canary:
                    self._send(list(islice(letters, size)), line)
                    if self._redriven and (code := self._follow(line)):
                        return self._stopped(code)
                for batch in batches(letters, max(1, int(self._rate))) if self._rate else batches(letters):
                    self._send(batch, line)
                self._job = self._desk.end(self._job, "done")
                self._desk.leave()
                line.clear()
                click.echo(f"Redrove {len(self._redriven):,} letters to group {self._group}.", err=True)
                return self._follow(line) if follow and self._redriven else 0
            except _Stopped:
                line.clear()
                return self._stopped(LEFT)

    def _send(self, batch: list[Found], line: StatusLine) -> None:
        if not batch:
            return
        ahead_s = len(self._redriven) / self._rate - (time.monotonic() - self._began) if self._rate else 0.0
        if self._stop.wait(max(0.0, ahead_s)):
            raise _Stopped
        self._job = self._desk.redrive(self._job, batch, value=self._value)
        self._redriven |= {one.origin for one in batch}
        line.show(f"{len(self._redriven):,} letters have come back")

    def _follow(self, line: StatusLine) -> int:
        """Wait until all that came back have ended; the exit code."""
        while (now := self._fates()).waiting:
            line.show(
                f"{now.done:,} done, {now.dead_again:,} dead again, {now.waiting:,} waiting; Ctrl-C stops looking"
            )
            if self._stop.wait(LOOK_S):
                raise _Stopped
        line.clear()
        click.echo(f"{now.done:,} done, {now.dead_again:,} dead again.", err=True)
        return DEAD_AGAIN if now.dead_again else 0

    def _fates(self) -> Fates:
        return fates(Look(self._desk.settings), self._group, self._redriven, self._ends)

    def _stopped(self, code: int) -> int:
        if self._job.state == "done":
            click.echo("Stopped looking; all have come back.", err=True)
            return code
        self._job = self._desk.end(self._job, "stopped")
        self._desk.leave()
        again = "recado dead-letters redrive --resume"
        click.echo(f"Stopped after {self._job.redriven:,} letters. Go on with: {again}", err=True)
        return code


def _filter(given: dict[str, Any]) -> Filter:
    now_s = time.time()
    since, until = (0 if given[name] is None else moment_ms(given[name], now_s) for name in ("since", "until"))
    for letter in given["letters"]:
        if place_of(letter) is None:
            raise click.UsageError(f"{letter!r} names no dead letter: it must be TOPIC/PARTITION/OFFSET.")
    wanted = Filter(
        letters=list(given["letters"]),
        topic=given["topic"],
        kind=given["kind"],
        key=given["key"],
        text=given["text"],
        since=since,
        until=until,
    )
    if wanted == Filter() and not given["everything"]:
        raise click.UsageError("Which letters? Name them, or a --kind, --topic, --key, --text, --since, or --all.")
    return wanted


def _count(settings: Settings, wanted: Filter) -> int:
    look = Look(settings)
    with StatusLine() as line:
        letters = found(
            look,
            settings.group,
            wanted,
            ends_of(look, settings.group),
            lambda read, total: line.show(f"{read:,} of {total:,} letters read"),
        )
        total = sum(1 for _ in letters)
    click.echo(f"{total:,} letters of group {settings.group} are meant.")
    return 0
