"""`recado dead-letters redrive` and `discard`: settling what a group gave up."""

from __future__ import annotations

import getpass
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from recado.cli.letter_filter import filter_of, filter_options, readable
from recado.cli.look import settings_to_look
from recado.cli.options import settings_options
from recado.cli.status_line import StatusLine
from recado.errors import TakenOver, UnknownRedrive
from recado.letters.desk import Desk, batches, check, ends_of, found
from recado.letters.filter import Filter
from recado.letters.redrive import CANARY, MAX_BY, MAX_REASON, RATES, Redrive, Standing, too_long
from recado.settings import Settings
from recado.tracking.look import Look

__all__ = ["discard", "redrive"]

F = TypeVar("F", bound=Callable[..., Any])

#: Exit codes: some are dead again; work is left.
DEAD_AGAIN, LEFT = 1, 3


def _finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse what is no number (nan): no range does."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number of letters.")
    return value


def _noted(most: int) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Refuse a text that is too long for a note."""

    def check(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None and len(value) > most:
            raise click.BadParameter(f"it has {len(value)} characters, and {most} at most are noted.")
        return readable(context, parameter, value)

    return check


def _filtered(command: F) -> F:
    """Give a command the options that say which letters are meant."""
    options = [
        click.argument("letters", nargs=-1, metavar="[TOPIC/PARTITION/OFFSET]…"),
        filter_options,
        click.option("--all", "everything", is_flag=True, help="Every letter of the group."),
        click.option("--dry-run", is_flag=True, help="Only count them."),
        click.option(
            "--by",
            default=None,
            callback=_noted(MAX_BY),
            help="Who does this; your user name where it is left out.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_filtered
@click.option("--value", type=click.File("rb"), help="For one letter: send the content of this file instead (- stdin).")
@click.option(
    "--rate",
    type=click.FloatRange(*RATES),
    callback=_finite,
    metavar="N",
    help="At most N letters a second.",
)
@click.option("--canary", is_flag=True, help="First 1, then 10, then the rest; stop when some are dead again.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[ID]",
    help="Go on with the last redrive that was not finished, or with this one, as it was asked for.",
)
@click.option("--no-follow", is_flag=True, help="Do not wait for what becomes of them.")
@settings_options(group="Whose dead letters.")
def redrive(
    value: click.File | None, rate: float | None, canary: bool, resume: str | None, no_follow: bool, **given: Any
) -> int:
    """Bring dead letters back to their group, and to no other, and follow them to their end.

    Each comes back once: what is redriven is noted in Kafka together with it. Ctrl-C stops within a second; --resume
    goes on, on any machine. Exit code 1: some are dead again; 3: stopped, also by who settles letters of the group
    meanwhile, or some still wait, or were left because their topic does not exist.

    \b
    Examples:
      recado dead-letters redrive dlq.flask-consumer-group.orders/0/17
      recado dead-letters redrive --kind "ConnectionError in shop.pay.charge" --canary
      recado dead-letters redrive --all --rate 100
      recado dead-letters redrive --resume
    """
    settings = settings_to_look()
    if resume is not None:
        if value is not None or any(content for name, content in given.items() if name != "by"):
            said = "--resume takes no filter, no --value and no --dry-run"
            raise click.UsageError(f"{said}: the redrive goes on as it was asked for.")
        desk = Desk(settings, settings.group)
        job = desk.unfinished(resume)
        if job is None and resume:
            raise UnknownRedrive(f"group {settings.group} has no redrive {resume[:60]!r} that was not finished.")
        if job is None:
            click.echo("No redrive was left unfinished.", err=True)
            return 0
        changes: dict[str, object] = {"rate": rate} if rate else {}
        if canary:  # steps are counted from the first letter on: so what came back is one of them
            changes["canary"] = [*([job.redriven] if job.redriven else []), *CANARY]
        job = desk.note(job, state="running", **changes)
    else:
        wanted = _filter(given)
        if value is not None and len(wanted.letters) != 1:
            raise click.UsageError("--value is for one letter: name it as TOPIC/PARTITION/OFFSET.")
        if given["dry_run"]:
            return _count(settings, wanted)
        if field := too_long(wanted):
            raise click.UsageError(f"Too much to be noted ({field}): use a filter, or several redrives.")
        desk = Desk(settings, settings.group, wanted)
        steps = CANARY if canary else ()
        # A value is not kept beside the job, so what sends another one is there as a whole or not at all.
        job = desk.begin(wanted, given["by"] or getpass.getuser(), canary=steps, rate=rate or 0, noted=value is None)
    edited = None if value is None else value.read()  # type: ignore[attr-defined]  # click gives an open file
    with StatusLine() as line:
        redrive = Redrive(desk, job, value=edited, tell=lambda now: _line(line, now))
        return _run(redrive, line, follow=not no_follow)


@click.command()
@_filtered
@click.option("--reason", required=True, callback=_noted(MAX_REASON), help="Why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options(group="Whose dead letters.")
def discard(reason: str, yes: bool, **given: Any) -> int:
    """Give dead letters up for good. They stay in Kafka, but nothing lists or redrives them any more.

    Who did it and why is noted in Kafka beside it. Exit code 3: stopped, as another program settles letters.

    \b
    Examples:
      recado dead-letters discard dlq.flask-consumer-group.orders/0/17 --reason "test order"
      recado dead-letters discard --kind "ValueError in shop.pay.charge" --reason "bug 4711, refunded by hand"
    """
    settings = settings_to_look()
    wanted = _filter(given)
    if not reason.strip():
        raise click.UsageError("--reason is empty: say why.")
    if given["dry_run"]:
        return _count(settings, wanted)
    desk = Desk(settings, settings.group, wanted)
    ends, count = ends_of(desk.look, settings.group), 0
    if not yes:
        total = sum(1 for _ in found(desk.look, settings.group, wanted, ends))
        if not total:
            click.echo("No letter is meant.", err=True)
            return 0
        click.confirm(f"Discard {total:,} letters of group {settings.group}?", abort=True, err=True)
    try:
        with StatusLine() as line:
            for batch in batches(found(desk.look, settings.group, wanted, ends)):
                desk.discard(batch, by=given["by"] or getpass.getuser(), reason=reason)
                count += len(batch)
                line.show(f"{count:,} discarded")
        desk.leave()
    except TakenOver as error:
        click.echo(f"recado: {error}", err=True)
        click.echo(f"Stopped after {count:,} letters. Ask for it again: what is discarded is passed over.", err=True)
        return LEFT
    click.echo(f"Discarded {count:,} letters of group {settings.group}.", err=True)
    return 0


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


def _run(redrive: Redrive, line: StatusLine, *, follow: bool) -> int:
    """Run it, show how far it is, and say how it ended; the exit code."""
    try:
        with _signals(redrive.stop):
            ended = redrive.run(follow=follow)
    except TakenOver as error:
        line.clear()
        click.echo(f"recado: {error}", err=True)
        again = f" Go on with: recado dead-letters redrive --resume {redrive.job.id}" if redrive.is_noted else ""
        click.echo(f"Stopped after {redrive.job.redriven:,} letters.{again}", err=True)
        return LEFT
    line.clear()
    for topic, left in redrive.left.items():
        click.echo(f"{left:,} letters were left: their topic {topic} does not exist.", err=True)
    count, fate = redrive.count, redrive.fates
    if ended == "stopped":
        if fate.dead_again:
            click.echo(f"{fate.done:,} done, {fate.dead_again:,} dead again.", err=True)
        again = "Go on with: recado dead-letters redrive --resume" if redrive.is_noted else "Ask for it again."
        click.echo(f"Stopped after {redrive.job.redriven:,} letters. {again}", err=True)
        return DEAD_AGAIN if redrive.died else LEFT
    click.echo(f"Redrove {count:,} letters to group {redrive.group}.", err=True)
    if ended == "looked away":
        if follow:
            so_far = f"{fate.done:,} done, {fate.dead_again:,} dead again so far"
            click.echo(f"Stopped looking: {so_far}; the group goes on with the other {fate.waiting:,}.", err=True)
            click.echo("What becomes of them: recado dead-letters redrives", err=True)
        return LEFT if follow or redrive.left else 0
    if fate.done or fate.dead_again:
        click.echo(f"{fate.done:,} done, {fate.dead_again:,} dead again.", err=True)
    if ended == "dead again":
        return DEAD_AGAIN
    return LEFT if redrive.left else 0


def _line(line: StatusLine, now: Standing) -> None:
    if now.fates is None:
        line.show(f"{now.redriven:,} letters have come back")
        return
    done, dead_again, waiting = now.fates
    line.show(f"{done:,} done, {dead_again:,} dead again, {waiting:,} waiting; Ctrl-C stops looking")


def _filter(given: dict[str, Any]) -> Filter:
    wanted = filter_of(given)
    if wanted != Filter() and given["everything"]:
        raise click.UsageError("--all means every letter: leave it out, or what else says which.")
    if wanted == Filter() and not given["everything"]:
        raise click.UsageError("Which letters? Name them, or a --kind, --topic, --key, --text, --since, or --all.")
    return wanted


def _count(settings: Settings, wanted: Filter) -> int:
    look = Look(settings)
    check(look, settings.group, wanted)
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
