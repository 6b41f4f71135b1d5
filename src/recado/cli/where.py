"""`recado where`: where one message is now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import click
import msgspec

from recado.cli.groups import known_group
from recado.cli.look import checked_topic, settings_to_look
from recado.cli.moments import exact_moment
from recado.cli.options import settings_options
from recado.cli.printable import printable
from recado.cli.status_line import StatusLine
from recado.cli.tail import moment_ms
from recado.errors import KafkaUnreachable, RecadoError
from recado.gateway.spool.folder import Folder
from recado.gateway.whereabouts import certain
from recado.kafka.admin import Admin
from recado.kafka.groups import Groups
from recado.record import place_of
from recado.settings import Settings
from recado.tracking.find import time_of
from recado.tracking.look import Look, Progress
from recado.tracking.where import FINAL, GroupState, Whereabouts, at_offset, by_id

__all__ = ["where"]

#: Rest between two looks with ``--follow``, in seconds.
AGAIN_S = 1.0


@click.command()
@click.argument("message", metavar="ID|TOPIC/PARTITION/OFFSET")
@click.option("--group", "only", metavar="GROUP", multiple=True, help="Only how far this group is (may be repeated).")
@click.option("--since", metavar="SPAN|TIME", help="For an id that is no UUIDv7: sent 10m, 2h, 1d ago, or at a time.")
@click.option("--follow", is_flag=True, help="Tell each change, until nothing follows any more.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object; with --follow one a line.")
@settings_options(topic="Where it was sent to.")
def where(message: str, only: tuple[str, ...], since: str | None, follow: bool, as_json: bool) -> int:
    """Tell where a message is now: in the spool, in Kafka, being handled, waiting for a retry, dead or done.

    It is read from Kafka itself, and from this machine's spool. Exit code 1: nobody knows it.

    \b
    Examples:
      recado where 0198c1a4-6b1e-7c3a-9d57-5a0c8f1b2e3d
      recado where 0198c1a4-6b1e-7c3a-9d57-5a0c8f1b2e3d --topic orders --follow
      recado where orders/2/1734
      recado where order-4711 --topic orders --since 2h --json
    """
    settings = settings_to_look()
    if any(not name.strip() for name in only):
        raise click.UsageError("--group is empty: name a group, or leave it out for all.")
    groups = list(only) or None
    admin = Admin(settings)
    for name in only:
        _say_if_unknown(Groups(admin), name)
    asked = _asked(settings, admin, message, since, groups)
    last: Whereabouts | None = None
    with StatusLine() as line:
        for found in _answers(asked, line, follow=follow):
            if found != last:
                line.clear()
                click.echo(msgspec.json.encode(found) if as_json else "\n".join(_lines(found)))
            last = found
    return 1 if last is None or last.state == "unknown" else 0


def _say_if_unknown(known: Groups, name: str) -> None:
    """Say that there is no such group: it may be one that has not begun yet, or a typing error."""
    try:
        known_group(known, name)
    except KafkaUnreachable:
        return  # the search will say so, or finds it in the spool
    except RecadoError as error:
        click.echo(f"recado: {error}", err=True)


def _asked(
    settings: Settings, admin: Admin, message: str, since: str | None, groups: list[str] | None
) -> Callable[[Progress], Whereabouts]:
    if (place := place_of(message)) is not None:
        checked_topic(place[0].topic)
        return lambda progress: at_offset(Look(settings, admin=admin), *place, groups=groups, progress=progress)
    since_ms = None if since is None else moment_ms(since, time.time())
    if since_ms is None and time_of(message) is None:
        raise click.UsageError(
            f"{message!r} is no UUIDv7, so nothing tells when it was sent: add --since 10m, or name its place as "
            "TOPIC/PARTITION/OFFSET."
        )
    topic = checked_topic(settings.topic)
    folder = Folder(settings.data_dir / "spool")

    def ask(progress: Progress) -> Whereabouts:
        def asked() -> Whereabouts:
            look = Look(settings, admin=admin)
            return by_id(look, topic, message, since_ms=since_ms, groups=groups, progress=progress)

        return certain(asked, folder, topic, message)

    return ask


def _answers(asked: Callable[[Progress], Whereabouts], line: StatusLine, *, follow: bool) -> Iterator[Whereabouts]:
    found: Whereabouts | None = None
    away = False
    while True:
        try:
            found = asked(lambda read, total: line.show(f"{read:,} of {total:,} records read"))
            away = False
            yield found
        except KafkaUnreachable as error:
            if found is None:
                raise
            if not away:
                line.clear()
                click.echo(f"recado: {error} Going on when Kafka answers again.", err=True)
            away = True
        if not follow or not _goes_on(found):
            return
        try:
            time.sleep(AGAIN_S)
        except KeyboardInterrupt:
            return


def _goes_on(found: Whereabouts) -> bool:
    """Whether anything follows by itself: one group may be at it still when another has ended."""
    if found.refused is not None:
        return False
    return found.state not in FINAL or any(group.state in ("retrying", "in progress") for group in found.groups)


def _lines(found: Whereabouts) -> Iterator[str]:
    place = "" if found.offset is None else f"{found.topic}/{found.partition}/{found.offset}"
    facts = {
        "id": found.id,
        "state": found.state,
        "topic": found.topic if not place else "",
        "stands at": place,
        "sent": exact_moment(found.timestamp),
        "lands at": exact_moment(found.deliver_at),
        "refused": found.refused or "",
        "remedy": f"recado spool forward --refused, or: recado spool discard {found.id}" if found.refused else "",
    }
    for name, text in facts.items():
        if text:
            yield f"{name:>14}  {printable(text)}"
    for group in found.groups:
        yield from _of_group(group)


def _of_group(found: GroupState) -> Iterator[str]:
    yield f"{'group':>14}  {printable(found.group)}: {found.state}"
    for attempt in found.attempts:
        yield f"{'attempt failed':>14}  {exact_moment(attempt.at)}  {printable(attempt.error)}"
    if found.next_attempt_at:
        yield f"{'next attempt':>14}  {exact_moment(found.next_attempt_at)}"
    if found.dead_letter:
        yield f"{'dead letter':>14}  {printable(found.dead_letter)}"
